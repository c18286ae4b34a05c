"""The run folder: what is written can be read back, and what cannot be used is refused by name."""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest

from posteriori.algorithms.mpo import Mpo
from posteriori.runs import provenance
from posteriori.runs.config import Config
from posteriori.runs.folder import RunFolder, default_path, write_atomically

CONFIG = Config(seed=3, widths=(32, 16), clip_rewards=1.0, mpo=Mpo(epsilon=0.2))


def created(path: Path) -> RunFolder:
    folder = RunFolder.create(path, env="Pendulum-v1", seed=3)
    folder.write_config("Pendulum-v1", CONFIG)
    return folder


def edit(folder: RunFolder, **changes: object) -> None:
    record = json.loads(folder.record.read_text()) | changes
    folder.record.write_text(json.dumps(record))


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    assert created(tmp_path).read_config() == ("Pendulum-v1", CONFIG)


def test_the_record_says_what_ran_where(tmp_path: Path) -> None:
    record = created(tmp_path).read_record()
    assert {"python", "posteriori", "jax", "jaxlib", "optax", "numpy"} <= set(record["versions"])
    assert record["hardware"]["cores"] == os.cpu_count()
    assert record["hardware"]["devices"]
    assert record["command"]


def test_the_source_is_a_commit_only_where_git_tracks_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "posteriori"
    (package / "runs").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(provenance, "__file__", str(package / "runs" / "provenance.py"))
    assert provenance.provenance()["source"] is None

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    assert provenance.provenance()["source"] is None
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    head = git("rev-parse", "HEAD")
    assert provenance.provenance()["source"] == {"commit": head, "changed": False}
    (package / "new.py").touch()
    assert provenance.provenance()["source"] == {"commit": head, "changed": True}


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path, env="X", seed=0).path == tmp_path


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"is not empty. Choose another --run-dir\.$"):
        RunFolder.create(tmp_path, env="X", seed=0)


def test_the_folder_of_a_run_is_refused_with_how_to_resume_it(tmp_path: Path) -> None:
    created(tmp_path)
    with pytest.raises(
        ValueError, match=rf"or continue that run with `posteriori resume {tmp_path}"
    ):
        RunFolder.create(tmp_path, env="X", seed=0)


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(ValueError, match=r"must be a folder, but .*run is a file"):
        RunFolder.create(tmp_path / "run", env="X", seed=0)


def test_a_default_path_is_safe_and_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda *_: "20300102-030405")
    first = default_path("my_package:ALE/Walk er-v0", 7)
    assert first == Path("runs/my_package-ALE-Walk-er-v0-seed7-20300102-030405")
    RunFolder.create(None, env="my_package:ALE/Walk er-v0", seed=7).path.joinpath("x").touch()
    assert default_path("my_package:ALE/Walk er-v0", 7).name == f"{first.name}-2"


@pytest.mark.parametrize(("make", "found"), [(False, "no such folder"), (True, "no config.json")])
def test_what_is_no_run_is_named(tmp_path: Path, make: bool, found: str) -> None:
    path = tmp_path / "run"
    if make:
        path.mkdir()
    with pytest.raises(FileNotFoundError, match=f"must be the folder of a run, but .*{found}"):
        RunFolder.open(path)


def test_a_record_that_is_not_json_is_named(tmp_path: Path) -> None:
    folder = created(tmp_path)
    folder.record.write_text('{"env": ')
    with pytest.raises(ValueError, match=r"config.json must be JSON, but reading it failed"):
        folder.read_config()


@pytest.mark.parametrize("text", ["[]", '{"env": 3, "settings": []}'])
def test_a_record_without_its_fields_is_refused(tmp_path: Path, text: str) -> None:
    folder = created(tmp_path)
    folder.record.write_text(text)
    with pytest.raises(ValueError, match="but env and settings cannot be used"):
        folder.read_config()


def test_missing_and_unknown_settings_are_named(tmp_path: Path) -> None:
    folder = created(tmp_path)
    settings = dataclasses.asdict(CONFIG)
    settings["mpo"]["epsilonn"] = settings["mpo"].pop("epsilon")
    edit(folder, settings=settings)
    with pytest.raises(
        ValueError, match=r"mpo must .* it lacks epsilon and has epsilonn as well\. Restore"
    ):
        folder.read_config()


@pytest.mark.parametrize(("name", "value"), [("batch_size", "many"), ("n_step", -1)])
def test_a_setting_that_cannot_work_is_named(tmp_path: Path, name: str, value: object) -> None:
    folder = created(tmp_path)
    edit(folder, settings=dataclasses.asdict(CONFIG) | {name: value})
    with pytest.raises(ValueError, match=rf"(?s)config.json: .*{name}.* Restore the file"):
        folder.read_config()


def test_a_write_that_fails_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    write_atomically(path, b"older")
    write_atomically(path, b"old")
    assert list(tmp_path.iterdir()) == [path]

    def fail(_: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
