"""Arithmetic on rows: thresholds, interquartile means, intervals, curves on a common grid."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from protocol import FINAL_EPISODES
from rows import Row

THRESHOLDS = (250, 280, 300)  # of the walker
LEARNT = 280  # a walker that reached it should not fall back
RESAMPLES = 2000  # rliable's own example; the interval's ends move by less than they are rounded to
CONFIDENCE = 0.95

Key = TypeVar("Key", bound=Hashable)


def grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """Group rows, in the order in which the keys come."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def runs(rows: Iterable[Row]) -> list[list[Row]]:
    """Split rows into runs, each in the order of its steps with the final one last, by seed."""
    found = grouped(rows, lambda r: (r.experiment, r.task, r.method, r.variant, r.seed))
    ordered = [sorted(run, key=lambda r: (r.step, r.final)) for run in found.values()]
    return sorted(ordered, key=lambda run: run[0].seed)


def final(run: Sequence[Row]) -> Row:
    """Return the evaluation at the end of a run."""
    return next(row for row in run if row.final)


def milestone(run: Sequence[Row]) -> Row | None:
    """Return the evaluation on the way that has as many episodes as that at the end, if any."""
    return next((r for r in run if not r.final and len(r.returns) >= FINAL_EPISODES), None)


def to_milestone(rows: Iterable[Row]) -> list[Row]:
    """Return runs as if they had ended at their milestone; those that have none, if they ended."""
    return whole(row for run in runs(rows) for row in _ended(run, milestone(run), run))


def to_step(rows: Iterable[Row], step: int) -> list[Row]:
    """Return runs as if they had ended at the first evaluation from a step on; who has none, not.

    Args:
        rows: Of runs that may have been stopped.
        step: Environment steps.
    """
    first = lambda run: next((r for r in run if r.step >= step and not r.final), None)  # noqa: E731
    return [row for run in runs(rows) for row in _ended(run, first(run), ())]


def _ended(run: Sequence[Row], end: Row | None, otherwise: Sequence[Row]) -> Sequence[Row]:
    """Return a run as if it had ended at an evaluation on the way, where there is that."""
    if end is None:
        return otherwise
    way = (row for row in run if row.step <= end.step and not row.final)
    return [*way, replace(end, final=True)]


def whole(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of the runs that have come to their end."""
    return [row for run in runs(rows) if any(r.final for r in run) for row in run]


def first_pass(run: Sequence[Row], threshold: float) -> Row | None:
    """Return the first evaluation on the way whose mean reached a threshold."""
    return next((row for row in run if not row.final and row.mean >= threshold), None)


def worst_after(run: Sequence[Row], threshold: float) -> float:
    """Return the lowest evaluation after the first pass of a threshold; NaN if there is none."""
    passed = first_pass(run, threshold)
    later = [row.mean for row in run if passed and (row.step > passed.step or row.final)]
    return min(later, default=math.nan)


def middle(values: Iterable[float | None]) -> float | None:
    """Return the median, where None is more than any number; None if it is that."""
    found = median([math.inf if v is None else v for v in values])
    return found if math.isfinite(found) else None


def iqm(values: Sequence[float] | NDArray) -> float:
    """Return the mean of the middle half, as rliable and SciPy's `trim_mean` define it.

    A quarter of the values is left out at each end, rounded down to a whole number of them.
    """
    ordered = sorted(values)
    out = len(ordered) // 4
    return float(np.mean(ordered[out : len(ordered) - out]))


def interval(scores: NDArray) -> tuple[float, float]:
    """Return the stratified bootstrap interval of the interquartile mean, by rliable.

    Args:
        scores: `[runs tasks]`; runs are drawn anew within each task.
    """
    from rliable import library, metrics  # pyright: ignore[reportMissingImports]

    np.random.seed(0)  # noqa: NPY002 - what rliable draws from
    _, ends = library.get_interval_estimates(
        {"": np.asarray(scores)},
        lambda x: np.array([metrics.aggregate_iqm(x)]),
        reps=RESAMPLES,
        confidence_interval_size=CONFIDENCE,
    )
    low, high = ends[""][:, 0]
    return float(low), float(high)


def normalised(scores: NDArray, zero: float, one: float) -> NDArray:
    """Return scores in units in which a random policy has 0 and the best method 1."""
    return (scores - zero) / (one - zero)


def band(
    curves: Sequence[tuple[NDArray, NDArray]], points: int = 100
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return x, and the lower quartile, median and upper quartile of curves there.

    Curves are interpolated, between the last of their beginnings and the first of their ends.
    """
    begin, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.linspace(begin, end, points)
    values = np.stack([np.interp(grid, x, y) for x, y in curves])
    low, mid, high = np.percentile(values, (25, 50, 75), axis=0)
    return grid, low, mid, high


def curve(run: Sequence[Row], over: Callable[[Row], float]) -> tuple[NDArray, NDArray]:
    """Return the evaluations of a run on the way, over steps or minutes."""
    way = [row for row in run if not row.final]
    return np.array([over(row) for row in way]), np.array([row.mean for row in way])


def minutes(row: Row) -> float:
    """Return the wall-clock of training, without evaluations."""
    return row.training_seconds / 60


def on_one_machine(rows: Iterable[Row]) -> bool:
    """Whether the minutes of rows can be compared."""
    return len({(row.cpu, row.cores) for row in rows}) == 1
