"""Runs and their disk: what is saved is found again, what fails is said, and the run goes on."""

import errno
import os
import re
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from small_runs import UNLEARNED, Counting, replay, small_run, timeless
from test_sinks import events

from posteriori import RunFailed, resume
from posteriori.runs import checkpoint, loop
from posteriori.runs.lock import FolderInUse
from posteriori.runs.notices import RunWarning

SETTINGS = UNLEARNED | {"checkpoint_every": 40, "replay_size": 60}  # a ring of 30 rows each


@pytest.fixture(autouse=True)
def frequent_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report every 20 steps, so that short runs have several rows."""
    monkeypatch.setattr(loop, "REPORT_EVERY", 20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a run of 120 steps, with checkpoints of 80 and 120."""
    small_run(Counting, tmp_path / "run", **SETTINGS)
    return tmp_path / "run"


def saved(run_dir: Path) -> tuple[dict[str, checkpoint.Arrays], dict[str, Any]]:
    """Return the newest checkpoint of a run."""
    return checkpoint.read(checkpoint.latest(run_dir / "checkpoints"))


def names(run_dir: Path) -> list[str]:
    """Return what is in a run's folder of checkpoints."""
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def reports(run_dir: Path) -> list[int]:
    """Return the steps of a run's rows, evaluations aside."""
    return [row["step"] for row in timeless(run_dir) if "evaluation/mean" not in row]


def shown(run_dir: Path) -> list[int]:
    """Return the steps that TensorBoard shows, what it is told to forget left out."""
    steps: list[int] = []
    for event in events(run_dir / "tensorboard"):
        if event.session_log.status == 1:  # START
            steps = [step for step in steps if step < event.step]
        if event.summary.value:
            steps.append(event.step)
    return steps


def flip(path: Path) -> None:
    """Damage a file in its place, so that all that is linked to it is damaged."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as file:
        file.write(data)


# --- A disk that refuses ----------------------------------------------------------------------


def test_training_goes_on_when_a_checkpoint_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.fsync

    def full(file: int) -> None:
        if ".writing-0000000080" in os.readlink(f"/proc/self/fd/{file}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(file)

    monkeypatch.setattr(os, "fsync", full)
    run = tmp_path / "run"
    text = (
        rf"step 80: the checkpoint {run}/checkpoints/0000000080 needs [\d,]+ bytes, but: .*No space"
        r" left on device.* Training goes on; next try 40 steps later\."
    )
    with pytest.warns(RunWarning, match=text):
        small_run(Counting, run, **SETTINGS)
    assert names(run) == ["0000000040", "0000000120"]
    assert reports(run) == [20, 40, 60, 80, 100, 120]
    # The rows since the last that was written are all there.
    assert len(replay(saved(run)[0], 30)["obs"][0]) == 30
    assert resume(run, env=Counting, steps=140).steps == 140


def test_a_run_whose_end_cannot_be_saved_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(checkpoint, "_write", full)
    run = tmp_path / "run"
    text = r"step 4: the checkpoint .* needs [\d,]+ bytes, but: .*Read-only.*There was no checkp"
    with pytest.raises(RunFailed, match=text):
        small_run(Counting, run, **(SETTINGS | {"steps": 4}))


# --- Damage -----------------------------------------------------------------------------------


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(folder: Path) -> None:
    flip(folder / "checkpoints" / "0000000120" / "learner.safetensors")
    with pytest.warns(RunWarning) as told:
        assert resume(folder, env=Counting, steps=110).steps == 110
    damaged, lost = (str(w.message) for w in told)
    assert re.search(r"0000000120/learner.* is damaged.* Instead, .*0000000080 is used", damaged)
    assert lost.startswith("The run had got to step 120; its newest sound checkpoint is of 80.")
    assert names(folder) == ["0000000080", "0000000110"]  # nothing of the lost future
    assert reports(folder) == [20, 40, 60, 80, 100, 110]
    assert shown(folder) == [20, 40, 60, 80, 100, 110]


def test_a_run_goes_on_without_rows_that_are_damaged_in_every_checkpoint(folder: Path) -> None:
    shared = checkpoint.read_meta(folder / "checkpoints" / "0000000120")["parts"]
    oldest = min(name for name in shared if name.startswith("replay-"))
    assert int(oldest[-3:]) <= 80
    flip(folder / "checkpoints" / "0000000120" / f"{oldest}.safetensors")
    with pytest.warns(RunWarning) as told:
        resume(folder, env=Counting, steps=160)
    assert any("rows of replay in" in str(w.message) for w in told)
    parts, meta = saved(folder)
    assert meta["steps"] == 160
    rows = replay(parts, 30)
    assert rows["added"].max() <= 30 + 2 * 12  # counted anew
    np.testing.assert_array_equal(np.unique(rows["obs"][0][:, 0]), [0, 1, 2, 3, 4, 5])


def test_metrics_that_were_damaged_are_named_and_the_rest_is_kept(folder: Path) -> None:
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'{"step": 4\n', *lines[2:]]))
    with pytest.warns(RunWarning) as told:
        resume(folder, env=Counting, steps=140)
    texts = [str(w.message) for w in told]
    assert any("must begin with the" in text and "they differ" not in text for text in texts)
    assert any("must be a row, but these are not, and are left out: 2" in t for t in texts)
    assert reports(folder) == [20, 60, 80, 100, 120, 140]


def test_metrics_that_are_gone_begin_anew_with_a_word(folder: Path) -> None:
    (folder / "metrics.jsonl").unlink()
    with pytest.warns(RunWarning, match=r"must begin with the [\d,]+ bytes .*, but there are 0"):
        resume(folder, env=Counting, steps=140)
    assert reports(folder) == [140]


# --- Stops ------------------------------------------------------------------------------------


def test_sigterm_saves_the_run_and_leaves_with_143(tmp_path: Path) -> None:
    def terminate(step: int, metrics: Any) -> None:  # noqa: ARG001 - the signature of a sink
        if step == 60:
            signal.raise_signal(signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        small_run(Counting, tmp_path / "run", sinks=[terminate], **SETTINGS)
    assert left.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is handler
    assert saved(tmp_path / "run")[1]["steps"] == 60


class Interrupting(Counting):
    """Raises SIGINT at the third step of the second evaluation."""

    steps = 0

    def step(self, action: Any) -> tuple:
        Interrupting.steps += 1
        if Interrupting.steps == 18:
            signal.raise_signal(signal.SIGINT)
        return super().step(action)


@pytest.mark.usefixtures("heard_ctrl_c")
def test_an_evaluation_that_is_cut_short_is_repeated_by_resume(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = SETTINGS | {"evaluate_every": 40}
    with pytest.raises(KeyboardInterrupt):
        small_run(Counting, run, evaluation_env=Interrupting, **settings)
    at = [row["step"] for row in timeless(run) if "evaluation/mean" in row]
    assert at == [40]
    assert saved(run)[1]["steps"] == 80
    resume(run, env=Counting)
    at = [row["step"] for row in timeless(run) if "evaluation/mean" in row]
    assert at == [40, 80, 120]
    assert reports(run) == [20, 40, 60, 80, 100, 120]


# --- Others -----------------------------------------------------------------------------------


def test_a_second_run_in_a_folder_is_refused(tmp_path: Path) -> None:
    def intrude(step: int, metrics: Any) -> None:  # noqa: ARG001 - the signature of a sink
        with pytest.raises(FolderInUse, match=f"process {os.getpid()} on .* is training in it"):
            resume(tmp_path / "run", env=Counting)

    small_run(Counting, tmp_path / "run", sinks=[intrude], **(SETTINGS | {"steps": 20}))


def test_another_environment_with_the_same_shapes_is_refused(folder: Path) -> None:
    class Wider(Counting):
        action_space = gym.spaces.Box(np.float32(-9), np.float32(9), (2,))

    with pytest.raises(checkpoint.CheckpointError, match="Wider must have the spaces of the run's"):
        resume(folder, env=Wider, steps=140)
