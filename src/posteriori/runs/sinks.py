"""Where metrics go: a sink takes a step and its metrics, by name.

A run's rows are kept as JSON lines, one object a row: `{"step": 1000, "loss/critic": 2.3, ...}`.
A number that is not finite is null there, since JSON has no word for it.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posteriori.runs.folder import write_atomically

Row = Mapping[str, int | float]
Sink = Callable[[int, Row], None]


class JsonLines:
    """Appends each row to a file.

    Args:
        path: Of the file; a new one, unless the run is resumed.
        resume_step: The step that a run is resumed from; rows after it are dropped, since they
            will come again.
    """

    def __init__(self, path: Path, *, resume_step: int | None = None):
        if resume_step is not None and path.exists():
            kept = [row for row in read_rows(path) if row["step"] <= resume_step]
            write_atomically(path, "".join(map(_line, kept)).encode())
        self._file = path.open("x" if resume_step is None else "a")

    def __call__(self, step: int, metrics: Row) -> None:
        """Write a row, so that a reader sees it at once."""
        self._file.write(_line({"step": step, **metrics}))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Writes scalars for TensorBoard.

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
        from tensorboardX import SummaryWriter  # slow to import, and readers of metrics need it not

        # TensorBoard forgets the step that it is told as well.
        purge = None if purge_step is None else purge_step + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge)
        self._settings = dict(settings or {})

    def __call__(self, step: int, metrics: Row) -> None:
        """Write a row; TensorBoard cannot show what is not finite, so that is left out."""
        for name, value in metrics.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, float(value), step)
        final = {name: value for name, value in metrics.items() if name.startswith("final/")}
        if final and self._settings:
            self._add_settings(final)

    def _add_settings(self, final: Row) -> None:
        """Write what makes TensorBoard list the run; `add_hparams` would write a second run."""
        from tensorboardX.summary import hparams

        events = self._writer.file_writer
        assert events is not None  # a row was written before
        for summary in hparams(self._settings, dict(final)):
            events.add_summary(summary)

    def close(self) -> None:
        """Write what is pending and close the files."""
        self._writer.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a `metrics.jsonl`; null is NaN. A last line cut by a crash is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another line is no row.
    """
    lines = path.read_bytes().splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_row(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise ValueError(
                f"Each line of {path} must be a JSON object with a step, but line {number} is "
                f"{line[:60]!r}. Remove that line."
            ) from error
    return rows


def _row(line: bytes) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        raise ValueError("no row")
    return {name: math.nan if value is None else value for name, value in row.items()}


def _line(row: Mapping[str, Any]) -> str:
    plain = {name: value if name == "step" else _number(value) for name, value in row.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def _number(value: Any) -> int | float | None:
    """Return counts as they are, and JAX's and NumPy's scalars as Python's."""
    if type(value) is int:
        return value
    return float(value) if math.isfinite(value) else None
