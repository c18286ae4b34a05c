"""The runs below a folder, each in a line: how it stands, how far it is, what it scored."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from posteriori.runs.figures import clock, number
from posteriori.runs.folder import RunFolder
from posteriori.runs.sinks import read_rows
from posteriori.runs.state import read_state

DEPTH = 4  # folders below the given one in which runs are looked for


@dataclass(frozen=True)
class Summary:
    """One run: steps, returns of greedy evaluations, seconds since it started."""

    path: str
    env: str
    seed: int | None
    state: str
    text: str
    step: int
    total: int
    last: float | None
    best: float | None
    final: float | None
    age: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def find_runs(root: Path | str) -> list[Path]:
    """Return the folders of runs below a folder, or it itself; the newest first.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"RUNS_DIR must be a folder with runs in it, but there is no folder {root}. "
            "`posteriori train` makes runs/ where it is called."
        )
    return sorted(_below(root, DEPTH), key=lambda run: -(run / "config.json").stat().st_mtime)


def summarise(run: Path) -> Summary:
    """Read what a run's files say of it.

    Raises:
        ValueError: a file of the run cannot be read.
    """
    folder = RunFolder.open(run)
    record, state = folder.read_record(), read_state(folder)
    rows = read_rows(folder.metrics) if folder.metrics.is_file() else []
    step = rows[-1]["step"] if rows else 0
    return Summary(
        path=str(run),
        env=record["env"],
        seed=record["settings"].get("seed"),
        state=state.name,
        text=state.text,
        step=step,
        total=max(step, record["settings"].get("steps", 0)),
        last=_last(rows, "evaluation/mean"),
        best=_last(rows, "evaluation/best"),
        final=read_final(folder, rows).get("mean"),
        age=seconds_since(record.get("started")),
    )


def read_final(folder: RunFolder, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the last evaluation, empty if there is none, or the run has gone on since."""
    ended = [i for i, row in enumerate(rows) if "final/mean" in row]
    if ended and ended[-1] < len(rows) - 1:
        return {}
    try:
        final = json.loads(folder.final.read_bytes())
    except (OSError, ValueError):
        return {}
    return final if isinstance(final, dict) and final.get("returns") else {}


def table(summaries: Sequence[Summary]) -> str:
    """Return a text with a line for each run."""
    heads = ("RUN", "ENV", "STATE", "PROGRESS", "LAST", "BEST", "FINAL", "AGE")
    lines = [heads, *map(_cells, summaries)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    left = ("RUN", "ENV", "STATE")
    texts = []
    for line in lines:
        cells = zip(heads, line, widths, strict=True)
        texts.append("  ".join(c.ljust(w) if h in left else c.rjust(w) for h, c, w in cells))
    return "\n".join(text.rstrip() for text in texts)


def seconds_since(started: str | None) -> float | None:
    """Return the seconds since a time as `config.json` has it; None if it cannot be read."""
    try:
        then = datetime.fromisoformat(str(started))
    except ValueError:
        return None
    now = datetime.now(then.tzinfo)
    return max(0.0, (now - then).total_seconds())


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "config.json").is_file():
        yield folder
    elif depth:
        for child in folder.iterdir():
            if child.is_dir() and not child.is_symlink():
                yield from _below(child, depth - 1)


def _last(rows: list[dict[str, Any]], metric: str) -> float | None:
    return next((row[metric] for row in reversed(rows) if metric in row), None)


def _cells(run: Summary) -> tuple[str, ...]:
    scores = [number(float("nan") if x is None else x) for x in (run.last, run.best, run.final)]
    share = f"{run.step / max(run.total, 1):4.0%} of {run.total:,}"
    age = "–" if run.age is None else _age(run.age)
    return (run.path, run.env, run.state, share, *scores, age)


def _age(seconds: float) -> str:
    return f"{seconds / 86_400:.0f} days" if seconds >= 2 * 86_400 else clock(seconds)
