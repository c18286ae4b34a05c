"""Rows of the benchmark harness, for its tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import rows
from experiments import OURS, Cell
from rows import Row

WALKER = "BipedalWalker-v3"
ABOUT = {"cpu": "some processor", "cores": 1, "versions": "posteriori 0.1.0 jax 0.10.2"}


def evaluated(step: int, mean: float, *, final: bool = False, **more: Any) -> dict[str, Any]:
    """Return the row of an evaluation of two episodes, 10 above and below the mean."""
    return {
        "step": step,
        "updates": step,
        "episodes": None,
        "seconds": step + 30.0,
        "training_seconds": float(step),
        "final": final,
        "returns": [mean - 10, mean + 10],
        "falls": 0,
        "commit": "0123456789abcdef",
        "dirty": False,
        **more,
    }


def written(results: Path, cell: Cell, *found: dict[str, Any]) -> list[Row]:
    """Write and read the rows of a cell."""
    return rows.read(
        rows.write(cell, found, {**ABOUT, "settings": cell.described}, results=results)
    )


def walk(results: Path, seed: int, *means: float, cell: Cell | None = None) -> list[Row]:
    """Write a run that evaluates to these means every 60 s and 60 steps, the last one final."""
    cell = replace(cell or Cell("walker", WALKER, OURS), seed=seed)
    *way, end = means
    found = [evaluated(60 * (i + 1), mean) for i, mean in enumerate(way)]
    return written(results, cell, *found, evaluated(60 * len(way), end, final=True))
