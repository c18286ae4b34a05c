"""Replay on disk: files of rows, each written once, which the checkpoints after it share.

A checkpoint writes the rows since the one before it. Their file, a segment, says of each
environment which of its rows it holds, from `first` to before `last`, counted since the run began.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from posteriori.experience.replay import Ring
from posteriori.runs.checkpoint import Arrays, CheckpointError

PREFIX = "replay-"


class Segment(NamedTuple):
    """A file of rows: its checksum, and the number of each environment's row after its last."""

    sha256: str
    last: NDArray[np.int64]


class Segments:
    """What of a replay is on the disk already, and what the next checkpoint has to write.

    Args:
        ring: The replay.
    """

    def __init__(self, ring: Ring):
        self.ring = ring
        self.forget()

    def forget(self) -> None:
        """Have the next checkpoint write every row."""
        self.folder: Path | None = None
        self.held: dict[str, Segment] = {}
        self.saved = np.zeros_like(self.ring.added)

    def links(self) -> dict[str, tuple[Path, str]]:
        """Return the files, with their checksums, that the next checkpoint still needs."""
        oldest = self.ring.added - self.ring.share
        needed = {name: s for name, s in self.held.items() if (s.last > oldest).any()}
        files = {name: self._file(name) for name in needed}
        if not all(path.is_file() for path in files.values()):
            self.forget()
            return {}
        return {name: (files[name], segment.sha256) for name, segment in needed.items()}

    def rows(self, step: int) -> dict[str, Arrays]:
        """Return the rows that are on no disk, under the name of their file."""
        return {f"{PREFIX}{step:010d}": self.ring.since(self.saved)}

    def written(self, folder: Path, sums: Mapping[str, str], rows: Mapping[str, Arrays]) -> None:
        """Take note of a checkpoint that has been written.

        Args:
            folder: Its.
            sums: The checksums of its parts.
            rows: What `rows` gave for it.
        """
        new = {name: Segment(sums[name], arrays["last"]) for name, arrays in rows.items()}
        self.held = {name: s for name, s in {**self.held, **new}.items() if name in sums}
        self.folder, self.saved = folder, self.ring.added.copy()

    def restore(self, folder: Path, sums: Mapping[str, str], parts: Mapping[str, Arrays]) -> bool:
        """Fill the ring from a checkpoint's segments; return whether all of its rows are there.

        Where a segment is missing, what is there are the newest rows up to it.

        Args:
            folder: The checkpoint's.
            sums: The checksums of its parts.
            parts: Those that could be read.

        Raises:
            CheckpointError: If the rows are of other environments.
        """
        names = sorted(name for name in sums if name.startswith(PREFIX))
        for name in names:
            if name in parts:
                _check(self.ring, name, parts[name])
        rows, start = self._unbroken([parts.get(name) for name in names])
        oldest = np.maximum(rows[-1]["last"] - self.ring.share, 0) if rows else start
        whole = len(rows) == len(names) > 0 and bool((start <= oldest).all())
        shift = 0 if whole else start
        for one in rows:
            self.ring.put({**one, "first": one["first"] - shift, "last": one["last"] - shift})
        if whole:
            self.held = {name: Segment(sums[name], parts[name]["last"]) for name in names}
            self.folder, self.saved = folder, self.ring.added.copy()
        return whole

    def _unbroken(self, segments: Sequence[Arrays | None]) -> tuple[list[Arrays], NDArray]:
        """Return the newest segments that go on from each other, in order, and their first rows."""
        found: list[Arrays] = []
        start, oldest = self.ring.added, self.ring.added
        for rows in reversed(segments):
            if rows is None:
                break
            if not found:
                start, oldest = rows["first"], rows["last"] - self.ring.share
            elif ((rows["last"] != start) & (start > oldest)).any():
                break
            else:  # rows from before a gap are none of what the ring holds
                start = np.where(start > oldest, rows["first"], start)
            found.insert(0, rows)
        return found, start

    def _file(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.safetensors"


def _check(ring: Ring, name: str, rows: Arrays) -> None:
    """Refuse rows that are not of the ring's environments, or are not as many as they say."""
    counts = np.dtype(np.int64), ring.added.shape
    wrong = _misfits(rows, {"first": counts, "last": counts})
    if not wrong:
        each = rows["last"] - rows["first"]
        if (rows["first"] < 0).any() or (each < 0).any() or (each > ring.share).any():
            wrong = ["last"]
        total = int(np.clip(each, 0, ring.share).sum())
        fields = ring.rows._asdict().items()
        wrong += _misfits(rows, {k: (x.dtype, (total, *x.shape[2:])) for k, x in fields})
    for field in wrong[:1]:
        given = f"{rows[field].dtype}{list(rows[field].shape)}" if field in rows else "missing"
        raise CheckpointError(
            f"{field} of {name} must fit a replay of {len(ring.added)} environments with "
            f"{ring.share} rows each, but it is {given}. "
            "Continue a run with its own environments and settings."
        )


def _misfits(rows: Arrays, want: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> list[str]:
    return [k for k, fit in want.items() if k not in rows or (rows[k].dtype, rows[k].shape) != fit]
