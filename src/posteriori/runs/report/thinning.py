"""Fewer points of a curve than a run has rows, with its extremes kept."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST = 2000  # points of a curve: more than a screen has columns, and a file may hold many


def kept(values: Sequence[int | float], most: int = MOST) -> NDArray[np.intp]:
    """Return the indices to keep: of equal stretches, the lowest and the highest value.

    Args:
        values: A curve's, in order; NaN is kept only where a stretch holds nothing else.
        most: Points at most, of which the first and the last are two.
    """
    y = np.asarray(values, float)
    if len(y) <= most:
        return np.arange(len(y))
    low, high = np.where(np.isnan(y), np.inf, y), np.where(np.isnan(y), -np.inf, y)
    edges = np.linspace(0, len(y), (most - 2) // 2 + 1).astype(int)
    found = {0, len(y) - 1}
    for start, end in itertools.pairwise(edges):
        found |= {start + int(np.argmin(low[start:end])), start + int(np.argmax(high[start:end]))}
    return np.asarray(sorted(found), np.intp)
