"""Files that only grow: a full disk delays rows, and loses none while the run goes on."""

import errno
import os
from pathlib import Path

import pytest

from posteriori.runs.appending import Appending
from posteriori.runs.notices import RunWarning


class Disk:
    """Takes so many bytes more, a few at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.room, self.original = 0, os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, file: int, data: bytes) -> int:
        size = min(self.room, len(data), 3)
        if size == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= size
        return self.original(file, data[:size])


def test_what_a_full_disk_refuses_is_written_when_it_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, disk = tmp_path / "rows", Disk(monkeypatch)
    file = Appending(path, new=True)
    disk.room = 7
    text = rf"{path} needs 3 bytes, but: No space left on device. Free space: what is missing is"
    with pytest.warns(RunWarning, match=text) as told:
        file.write(b"first row\n")
        file.write(b"second row\n")
    assert len(told) == 1  # not for each row
    assert path.read_bytes() == b"first r"
    disk.room = 1_000
    file.write(b"third row\n")
    assert path.read_bytes() == b"first row\nsecond row\nthird row\n"
    disk.room = 0
    with pytest.warns(RunWarning, match="needs 7 bytes"):  # the next time that it is full
        file.write(b"fourth\n")
    disk.room = 100
    file.close()
    assert path.read_bytes().endswith(b"fourth\n")


def test_a_new_file_is_not_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "rows").touch()
    with pytest.raises(FileExistsError):
        Appending(tmp_path / "rows", new=True)


def test_a_file_is_closed_once(tmp_path: Path) -> None:
    file = Appending(tmp_path / "rows", new=True)
    file.close()
    file.close()
