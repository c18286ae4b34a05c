"""The rows of a cell as a CSV file, one file a cell: `results/EXPERIMENT/NAME.csv`.

| column | meaning |
|---|---|
| experiment, task, method, variant, seed | the cell |
| step | environment steps of training |
| updates | as the method counts them: PPO and TRPO count passes over their data |
| episodes | of training, where the method counts them |
| seconds | wall-clock since the first step, with compilation and the evaluations before this one |
| training_seconds | the same without evaluations |
| final | 1 for the evaluation at the end |
| mean, std | of the returns |
| returns | of each episode |
| falls | episodes that ended in a fall (the walkers alone) |
| sigma | the policy's standard deviation, each dimension, in half action ranges (ours alone) |
| commit, dirty | of this library's source, in the process that wrote the row |
| cpu, cores | processor, and cores that the process might use |
| versions, settings | of the method |
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from experiments import Cell

from posteriori.runs.folder import write_atomically

RESULTS = Path(__file__).parent / "results"
FIELDS = (
    *("experiment", "task", "method", "variant", "seed", "step", "updates", "episodes"),
    *("seconds", "training_seconds", "final", "mean", "std", "returns", "falls", "sigma"),
    *("commit", "dirty", "cpu", "cores", "versions", "settings"),
)


@dataclass(frozen=True)
class Row:
    """What tables and figures need of an evaluation."""

    experiment: str
    task: str
    method: str
    variant: str
    seed: int
    step: int
    updates: int
    seconds: float
    training_seconds: float
    final: bool
    mean: float
    std: float
    returns: tuple[float, ...]
    falls: int | None
    sigma: tuple[float, ...]
    commit: str
    cpu: str
    cores: int
    versions: str
    settings: str


def path_of(cell: Cell, results: Path = RESULTS) -> Path:
    """Return where the rows of a cell are kept."""
    return results / cell.experiment / f"{cell.name}.csv"


def write(
    cell: Cell, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any], results: Path = RESULTS
) -> Path:
    """Write the rows of a cell.

    Args:
        cell: Whose they are.
        rows: From its evaluations.
        about: What holds for all of them.
        results: The folder of all results.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    named = {k: getattr(cell, k) for k in ("experiment", "task", "method", "variant", "seed")}
    for row in rows:
        writer.writerow({**about, **named, **row, **_short(row)})
    path = path_of(cell, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())
    return path


def load(experiment: str, results: Path = RESULTS) -> list[Row]:
    """Return all rows of an experiment; none if it has not been run."""
    return [row for path in sorted((results / experiment).glob("*.csv")) for row in read(path)]


def read(path: Path) -> list[Row]:
    """Return the rows of a file."""
    with path.open(newline="") as file:
        return [_row(line) for line in csv.DictReader(file)]


def finished(cell: Cell, results: Path = RESULTS) -> bool:
    """Whether the rows of a cell are there, to the last step, with the settings declared now."""
    path = path_of(cell, results)
    return path.exists() and any(
        row.final and row.step >= cell.steps and row.settings == cell.described
        for row in read(path)
    )


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    """Round what is long, so that the rows are small in git."""
    returns = np.asarray(row["returns"])
    falls, episodes = row.get("falls"), row.get("episodes")
    return {
        "seconds": f"{row['seconds']:.1f}",
        "training_seconds": f"{row['training_seconds']:.1f}",
        "final": int(row["final"]),
        "mean": f"{returns.mean():.3f}",
        "std": f"{returns.std():.3f}",
        "returns": " ".join(f"{x:.2f}" for x in returns),
        "falls": "" if falls is None else falls,
        "episodes": "" if episodes is None else episodes,
        "sigma": " ".join(f"{x:.4f}" for x in row.get("sigma", ())),
        "commit": row["commit"][:12],
        "dirty": int(bool(row["dirty"])),
    }


def _row(line: Mapping[str, str]) -> Row:
    return Row(
        experiment=line["experiment"],
        task=line["task"],
        method=line["method"],
        variant=line["variant"],
        seed=int(line["seed"]),
        step=int(line["step"]),
        updates=int(line["updates"]),
        seconds=float(line["seconds"]),
        training_seconds=float(line["training_seconds"]),
        final=line["final"] == "1",
        mean=float(line["mean"]),
        std=float(line["std"]),
        returns=tuple(map(float, line["returns"].split())),
        falls=int(line["falls"]) if line["falls"] else None,
        sigma=tuple(map(float, line["sigma"].split())),
        commit=line["commit"] + "+" * (line["dirty"] == "1"),
        cpu=line["cpu"],
        cores=int(line["cores"]),
        versions=line["versions"],
        settings=line["settings"],
    )


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of any CSV file with a header, as text; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, fields: Sequence[str], found: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a CSV file with a header, instead of what was there."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
