"""Other places for a run's metrics, chosen by name: each is a sink that opens at its first row."""

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posteriori.runs.folder import RunFolder, write_atomically
from posteriori.runs.sinks import Row

if TYPE_CHECKING:
    from posteriori.runs.config import Config


@contextmanager
def tracked(
    names: Sequence[str], folder: RunFolder, env: str, config: "Config"
) -> Iterator[list["CsvRows | WeightsAndBiases"]]:
    """Open trackers by name, and close them at the end.

    Args:
        names: Of `csv` and `wandb`.
        folder: The run's.
        env: The environment's name.
        config: The run's settings.

    Raises:
        ImportError: what a tracker needs is not installed.
    """
    from posteriori.runs.config import plain

    makers = {
        "csv": lambda: CsvRows(folder.path / "metrics.csv"),
        "wandb": lambda: WeightsAndBiases(folder.path, {"env": env, **plain(config)}),
    }
    with ExitStack() as stack:
        trackers = [makers[name]() for name in dict.fromkeys(names)]
        for tracker in trackers:
            stack.callback(tracker.close)
        yield trackers


class CsvRows:
    """A table with a column for each metric; what a row lacks is empty.

    Args:
        path: Of the file. One that is there is continued: rows from the first new step on are
            dropped, since they come again in a resumed run.
    """

    def __init__(self, path: Path):
        self.path = path
        self.columns: list[str] = []

    def __call__(self, step: int, metrics: Row) -> None:
        """Write a row, so that a reader sees it at once; a new metric is a new column."""
        row = {"step": step, **metrics}
        if new := [name for name in row if name not in self.columns]:
            self._widen(new, step)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(_finite(row))

    def close(self) -> None:
        """Nothing is pending."""

    def _widen(self, new: list[str], step: int) -> None:
        rows = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                reader = csv.DictReader(file)
                rows = list(reader)
                if not self.columns:
                    rows = [row for row in rows if int(row["step"]) < step]
                    self.columns = list(reader.fieldnames or [])
        self.columns += [name for name in new if name not in self.columns]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode())


class WeightsAndBiases:
    """A run at Weights & Biases, with the settings as its config and the scores as its summary.

    `WANDB_MODE=offline` writes into the run's folder without a network; `WANDB_PROJECT` and the
    like say where it goes, as for any other program.

    Args:
        folder: Of the run; a resumed run goes on under the same id.
        settings: All of them.

    Raises:
        ImportError: wandb is not installed.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        try:
            import wandb
        except ImportError as error:
            raise ImportError(
                "--log wandb needs the package wandb, but it is not installed. "
                'Install it with `pip install "posteriori[wandb]"`.'
            ) from error
        self._wandb, self.folder, self.settings = wandb, folder, settings
        self._run: Any = None

    def __call__(self, step: int, metrics: Row) -> None:
        """Log a row at its step."""
        if self._run is None:
            name = self.folder.resolve().name
            self._run = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", "posteriori"),
                id=name,
                name=name,
                dir=str(self.folder),
                config=self.settings,
                resume="allow",
            )
        self._run.log(_finite(metrics), step=step)
        final = {k: v for k, v in _finite(metrics).items() if k.startswith("final/")}
        if final:
            self._run.summary.update(final)

    def close(self) -> None:
        """Wait until everything is written or sent."""
        if self._run is not None:
            self._run.finish()


def _finite(row: Row) -> dict[str, int | float]:
    return {name: value for name, value in row.items() if math.isfinite(value)}
