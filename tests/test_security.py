"""Someone else's run folder: opening it runs nothing, and writes nothing outside of it."""

import ast
import hashlib
import io
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from small_runs import UNLEARNED, Counting, small_run

import posteriori
from posteriori import cli, evaluate, load_policy, resume
from posteriori.runs import checkpoint
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.folder import RunFolder, canonical

SOURCES = sorted(Path(posteriori.__file__).parent.rglob("*.py"))
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
# Pickles pass between a run and the environments that it starts; they come from no file.
PIPES = {"worker.py": {"pickle"}}
UNSAFE_CALLS = {"eval", "exec", "__import__"}


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the folder of a run."""
    small_run(Counting, tmp_path / "run", **(UNLEARNED | {"steps": 4}))
    return tmp_path / "run"


def reseal(folder: Path) -> None:
    """Give a checkpoint's files the checksums that they have now, as an attacker would."""
    meta = json.loads((folder / "meta.json").read_text())
    meta.pop("sha256")
    for name in meta["parts"]:
        data = (folder / f"{name}.safetensors").read_bytes()
        meta["parts"][name] = hashlib.sha256(data).hexdigest()
    sha256 = hashlib.sha256(canonical(meta)).hexdigest()
    (folder / "meta.json").write_text(json.dumps(meta | {"sha256": sha256}))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_nothing_in_the_package_unpickles_or_evaluates(source: Path) -> None:
    unsafe = UNSAFE_MODULES - PIPES.get(source.name, set())
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & unsafe
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in UNSAFE_MODULES
        elif isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS)
            assert ast.unparse(node.func) not in ("np.load", "numpy.load", "np.loadtxt")


def pickled(mark: Path) -> bytes:
    """Return a pickle that leaves a mark."""
    return pickle.dumps(Bomb(mark))


def pickled_array(mark: Path) -> bytes:
    """Return an .npz with an array of objects that leave a mark."""
    file = io.BytesIO()
    np.savez(file, w=np.array([Bomb(mark)], dtype=object))
    return file.getvalue()


@pytest.mark.parametrize("make", [pickled, pickled_array])
def test_a_pickle_in_a_checkpoint_is_not_opened(
    run: Path, tmp_path: Path, make: Callable[[Path], bytes]
) -> None:
    mark = tmp_path / "executed"
    folder = checkpoint.latest(run / "checkpoints")
    for name in ("policy", "learner", "gathering"):
        (folder / f"{name}.safetensors").write_bytes(make(mark))
    reseal(folder)
    for open_it in (load_policy, lambda run: resume(run, env=Counting)):
        with pytest.raises(CheckpointError, match="must be a complete checkpoint, but: Safetensor"):
            open_it(run)
    assert not mark.exists()
    pickle.loads(pickled(mark))  # the trap works
    assert mark.exists()


@pytest.fixture
def foreign(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a run whose record names an environment in a module that leaves a mark."""
    (tmp_path / "foreign_envs.py").write_text(
        "from pathlib import Path\nimport gymnasium as gym\nfrom small_runs import Counting\n"
        f"Path({str(tmp_path / 'executed')!r}).touch()\n"
        "gym.register('Foreign-v0', lambda render_mode=None: Counting())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    RunFolder(run).write_config("foreign_envs:Foreign-v0", RunFolder(run).read_config()[1])
    yield run
    sys.modules.pop("foreign_envs", None)


def test_a_module_is_imported_only_when_the_user_names_it(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = "foreign_envs:Foreign-v0"
    text = rf"imports the module 'foreign_envs', which runs its code\. .*`--env {env}`, or env="
    for open_it in (resume, evaluate):
        with pytest.raises(ValueError, match=text):
            open_it(foreign)
    for command in ("resume", "evaluate", "watch"):
        assert cli.main([command, str(foreign)]) == 2
        assert f"--env {env}" in capsys.readouterr().err
    load_policy(foreign)  # needs no environment
    assert not (tmp_path / "executed").exists()
    words = ["evaluate", str(foreign), "--env", env, "--episodes", "2"]
    assert cli.main(words) == 0
    assert (tmp_path / "executed").exists()
    assert evaluate(foreign, episodes=2).episodes == 2  # it is imported already: nothing is run


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard", "checkpoints", "final.json"])
def test_a_run_is_not_resumed_through_a_link_out_of_its_folder(
    run: Path, tmp_path: Path, name: str
) -> None:
    path, outside = run / name, tmp_path / "outside"
    if path.exists():
        path.rename(outside)
    else:
        outside.touch()
    path.symlink_to(outside)
    before = contents(outside)
    text = rf"{path} must lie in the run's folder, but it is a link to .*outside\. Put"
    with pytest.raises(ValueError, match=text):
        resume(run, env=Counting, steps=8)
    assert contents(outside) == before


def contents(path: Path) -> dict[str, bytes]:
    """Return what a file, or each file in a folder, holds."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {str(p): p.read_bytes() for p in files}


def test_a_draft_that_is_a_link_is_not_written_through(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (run / ".metrics.jsonl.tmp").symlink_to(outside)
    resume(run, env=Counting, steps=8)
    assert outside.read_text() == "precious"


def test_a_part_outside_of_the_checkpoint_is_not_read(run: Path) -> None:
    folder = checkpoint.latest(run / "checkpoints")
    meta = json.loads((folder / "meta.json").read_text())
    meta["parts"]["../../secret"] = meta["parts"]["policy"]
    (run / "secret.safetensors").write_bytes((folder / "policy.safetensors").read_bytes())
    (folder / "meta.json").write_text(json.dumps(meta))
    reseal(folder)
    with pytest.raises(CheckpointError, match="must be names of files beside it"):
        load_policy(run)
