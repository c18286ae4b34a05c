"""Where metrics go: a sink takes a step and its metrics, by name.

A run's rows are kept as JSON lines, one object a row: `{"step": 1000, "loss/critic": 2.3, ...}`.
A number that is not finite is null there, since JSON has no word for it.
"""

import hashlib
import importlib
import json
import math
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posteriori.runs.appending import Appending
from posteriori.runs.folder import write_atomically
from posteriori.runs.notices import warn

Row = Mapping[str, int | float]
Sink = Callable[[int, Row], None]


class JsonLines:
    """Appends each row to a file.

    Args:
        path: Of the file; a new one, unless the run is resumed.
        resume_step: The step that a run is resumed from; rows after it are dropped, since they
            will come again. Lines that are no rows, or a row again, are dropped too. Both with a
            warning.
    """

    def __init__(self, path: Path, *, resume_step: int | None = None):
        if resume_step is not None and path.exists():
            write_atomically(path, "".join(map(_line, _kept(path, resume_step))).encode())
        self._file = Appending(path, new=resume_step is None)

    def __call__(self, step: int, metrics: Row) -> None:
        """Write a row, so that a reader sees it at once."""
        self._file.write(_line({"step": step, **metrics}).encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Writes scalars for TensorBoard, so that a reader sees each row at once.

    Without tensorboardX's own writer: its thread ends when the disk is full, and then its queue
    fills and stops the run.

    Args:
        folder: Of the event files.
        purge_step: The step that a run is resumed from; TensorBoard forgets the rows after it.
        settings: The run's, which stand in TensorBoard's table of hyperparameters beside the
            final scores.
    """

    def __init__(
        self,
        folder: Path,
        *,
        purge_step: int | None = None,
        settings: Mapping[str, str | int | float] | None = None,
    ):
        # Slow to import, and readers of metrics need it not; generated code, unknown to pyright.
        protocol: Any = importlib.import_module("tensorboardX.proto.event_pb2")
        summaries: Any = importlib.import_module("tensorboardX.proto.summary_pb2")
        self._event, self._summary = protocol.Event, summaries.Summary
        self._settings = dict(settings or {})
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = Appending(folder / name, new=True)
        self._write(file_version="brain.Event:2")
        if purge_step is not None:
            # TensorBoard forgets the step that it is told as well.
            start = protocol.SessionLog(status=protocol.SessionLog.START)
            self._write(step=purge_step + 1, session_log=start)

    def __call__(self, step: int, metrics: Row) -> None:
        """Write a row; TensorBoard cannot show what is not finite, so that is left out."""
        values = [
            self._summary.Value(tag=name, simple_value=float(value))
            for name, value in metrics.items()
            if math.isfinite(value)
        ]
        self._write(step=step, summary=self._summary(value=values))
        final = {name: value for name, value in metrics.items() if name.startswith("final/")}
        if final and self._settings:
            # What makes TensorBoard list the run in its table of hyperparameters.
            hparams = importlib.import_module("tensorboardX.summary").hparams
            for summary in hparams(self._settings, final):
                self._write(summary=summary)

    def close(self) -> None:
        """Write what is pending and close the file."""
        self._file.close()

    def _write(self, **event: Any) -> None:
        """Append a record: its length, data, and a checksum of each."""
        checksum = importlib.import_module("tensorboardX.record_writer").masked_crc32c
        data = self._event(wall_time=time.time(), **event).SerializeToString()
        length = struct.pack("<Q", len(data))
        sums = (struct.pack("<I", checksum(part)) for part in (length, data))
        self._file.write(length + next(sums) + data + next(sums))


def mark(path: Path) -> dict[str, Any]:
    """Return how many bytes of a file of rows there are, and their checksum; now on the disk."""
    try:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            data = file.read()
    except OSError:  # the rows go on: `Appending` has said what is wrong with the file
        data = b""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def check_mark(path: Path, marked: Mapping[str, Any]) -> None:
    """Warn if a file of rows does not begin with the bytes of a mark."""
    data = path.read_bytes()[: marked["bytes"]] if path.exists() else b""
    if hashlib.sha256(data).hexdigest() != marked["sha256"]:
        found = "they differ" if len(data) == marked["bytes"] else f"there are {len(data):,}"
        warn(
            f"{path} must begin with the {marked['bytes']:,} bytes of the checkpoint, but {found}: "
            "rows are damaged or missing. Those that can be read are kept; training is unharmed."
        )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a `metrics.jsonl`; null is NaN. A last line cut by a crash is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another line is no row.
    """
    data = path.read_bytes()
    rows, broken = _rows(data)
    if broken:
        line = data.splitlines()[broken[0] - 1]
        raise ValueError(
            f"Each line of {path} must be a JSON object with a step, but line {broken[0]} is "
            f"{line[:60]!r}. Remove that line."
        )
    return rows


def _rows(data: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the rows, and the numbers of the lines that are none; a cut last line is neither."""
    lines = data.splitlines()
    rows, broken = [], []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_row(line))
        except (ValueError, RecursionError):
            broken.append(number)
    if broken and broken[-1] == len(lines) and not data.endswith(b"\n"):
        broken.pop()
    return rows, broken


def _kept(path: Path, resume_step: int) -> list[dict[str, Any]]:
    """Return the rows that a resumed run goes on from, and warn of what is left out."""
    rows, broken = _rows(path.read_bytes())
    if broken:
        numbers = ", ".join(map(str, broken))
        warn(f"Each line of {path} must be a row, but these are not, and are left out: {numbers}.")
    # By step and names: an evaluation has a row beside the one of its step.
    once = {(row["step"], *row): row for row in rows}
    if len(once) < len(rows):
        warn(f"{path} must have each row once, but {len(rows) - len(once):,} came again: left out.")
    kept = [row for row in once.values() if row["step"] <= resume_step]
    if len(kept) < len(once):
        reached = max(row["step"] for row in once.values())
        warn(
            f"The run had got to step {reached:,}; its newest sound checkpoint is of "
            f"{resume_step:,}. What came after is done again."
        )
    return kept


def _row(line: bytes) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        raise ValueError("no row")
    if not all(value is None or type(value) in (int, float) for value in row.values()):
        raise ValueError("no numbers")
    return {name: math.nan if value is None else value for name, value in row.items()}


def _line(row: Mapping[str, Any]) -> str:
    plain = {name: value if name == "step" else _number(value) for name, value in row.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def _number(value: Any) -> int | float | None:
    """Return counts as they are, and JAX's and NumPy's scalars as Python's."""
    if type(value) is int:
        return value
    return float(value) if math.isfinite(value) else None
