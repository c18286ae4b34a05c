"""Checkpoints on a disk that is full, fails or stops at any moment: there is always a good one."""

import errno
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posteriori.runs import checkpoint
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.notices import RunWarning


class Killed(BaseException):
    """Stands for a kill: nothing is tidied up after it."""


def operations(monkeypatch: pytest.MonkeyPatch, last: int, end: BaseException) -> list[str]:
    """Let so many operations on the disk happen, and raise at the next; return what was asked."""
    asked: list[str] = []

    def counted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def operation(*args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            if len(asked) > last:
                raise end
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, operation)

    for owner, names in ((Path, ("mkdir", "rename", "unlink")), (os, ("link", "fsync", "rmdir"))):
        for name in names:
            counted(owner, name)
    counted(shutil, "rmtree")
    return asked


def save(folder: Path, step: int, value: float) -> None:
    """Write a checkpoint and keep two, as a run does."""
    here = folder / f"{step:010d}"
    before = folder / f"{step - 10:010d}" / "rows.safetensors"
    sha256 = hashlib.sha256(before.read_bytes()).hexdigest() if before.exists() else ""
    links = {"rows": (before, sha256)} if before.exists() else {}
    parts = {"policy": {"w": np.full(3, value)}}
    if not links:
        parts["rows"] = {"r": np.arange(4.0)}
    checkpoint.write(here, parts, {"steps": step}, links)
    checkpoint.retain(folder, here, keep=2)


@pytest.mark.parametrize("stale", [False, True], ids=["new", "over a damaged one"])
def test_a_kill_at_any_operation_leaves_a_checkpoint(tmp_path: Path, stale: bool) -> None:
    done, kills = False, 0
    while not done:
        folder = tmp_path / str(kills)
        for step in (10, 20, 30):
            save(folder, step, step)
        if stale:
            damaged = folder / "0000000040"
            damaged.mkdir()
            (damaged / "meta.json").touch()
        with pytest.MonkeyPatch.context() as patch:
            operations(patch, kills, Killed())
            try:
                save(folder, 40, 40)
                done = True
            except Killed:
                kills += 1
        arrays, meta = newest(folder, stale=stale)
        assert meta["steps"] in (30, 40)
        np.testing.assert_array_equal(arrays["w"], np.full(3, meta["steps"]))
        # What was left half done is no hindrance, and does not stay.
        save(folder, 50, 50)
        assert newest(folder)[1]["steps"] == 50
        assert all(path.name.isdigit() for path in folder.iterdir())
        assert len(list(folder.iterdir())) == 2
    assert kills >= 8  # each file's flush, links, folders, renames, removal


def newest(folder: Path, *, stale: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the newest checkpoint, all of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if stale else "error", RunWarning)
        parts, meta = checkpoint.newest_parts(folder, "policy")
    checkpoint.read(folder / f"{meta['steps']:010d}")
    return parts["policy"], meta


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EFBIG, errno.EIO])
def test_a_write_that_fails_at_any_operation_leaves_the_old_checkpoints(
    tmp_path: Path, error: int
) -> None:
    for failing in range(3):  # the flush of a part, of meta.json and of their folder
        folder = tmp_path / str(failing)
        for step in (10, 20):
            save(folder, step, step)
        before = sorted(path.name for path in folder.iterdir())
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, failing, OSError(error, os.strerror(error)))
            with pytest.raises(CheckpointError, match=os.strerror(error)):
                save(folder, 30, 30)
        assert sorted(path.name for path in folder.iterdir()) == before
        assert newest(folder)[1]["steps"] == 20
        save(folder, 30, 30)
        assert newest(folder)[1]["steps"] == 30


def fail_at(monkeypatch: pytest.MonkeyPatch, which: int, error: OSError) -> None:
    """Have the disk refuse one of the flushes, and what follows it."""
    original, count = os.fsync, itertools.count()

    def refuse(file: int) -> None:
        if next(count) >= which:
            raise error
        original(file)

    monkeypatch.setattr(os, "fsync", refuse)


def test_the_error_of_a_full_disk_names_the_path_and_the_bytes(tmp_path: Path) -> None:
    save(tmp_path, 10, 10)
    script = f"""
import resource
from pathlib import Path
import numpy as np
from posteriori.runs import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.write(Path({str(tmp_path)!r}) / "0000000020",
                     {{"policy": {{"w": np.zeros(100_000)}}}}, {{"steps": 20}})
except checkpoint.CheckpointError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    text = r"checkpoint .*/0000000020 needs 800,\d+ bytes, but: .*File too large \([\d,]+ bytes are"
    assert re.search(text, done.stdout), done.stdout
    assert newest(tmp_path)[1]["steps"] == 10


def test_files_are_shared_by_links_or_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 10, 1)
    save(tmp_path, 20, 2)
    files = [tmp_path / f"{step:010d}" / "rows.safetensors" for step in (10, 20, 30)]
    assert files[0].samefile(files[1])

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    save(tmp_path, 30, 3)
    assert not files[1].samefile(files[2])
    assert checkpoint.read(files[2].parent)[0]["rows"]["r"].tolist() == [0, 1, 2, 3]


def test_what_cannot_be_removed_is_named_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("0000000090", "0000000100"):
        (tmp_path / name).mkdir()

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.warns(RunWarning, match="0000000090 is no longer needed, but cannot be removed"):
        checkpoint.retain(tmp_path, tmp_path / "0000000100", keep=1)
    assert len(list(tmp_path.iterdir())) == 2
