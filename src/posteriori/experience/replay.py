"""Replay: what has been experienced, kept in NumPy arrays and sampled as windows of rows."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from posteriori.algorithms.trajectory import Trajectory


class Rows(NamedTuple):
    """One row from each of some environments, in a Trajectory's fields; `env` tells which."""

    env: NDArray[np.intp]
    obs: NDArray[np.float32]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    discount: NDArray[np.float32]
    valid: NDArray[np.bool_]


class Ring:
    """The newest rows of each environment, and uniform windows of them.

    Args:
        capacity: Rows over all environments.
        num_envs: Number of environments.
        obs_size: Entries of an observation.
        action_size: Entries of an action.
        window: Rows of a window, n + 1 for n-step returns.
        batch: Windows of a sample.

    Raises:
        ValueError: If an environment's share cannot hold a window.
    """

    def __init__(
        self, capacity: int, num_envs: int, obs_size: int, action_size: int, window: int, batch: int
    ):
        self.share = capacity // num_envs
        if self.share <= window:
            raise ValueError(
                f"replay must hold more than {window} rows of each of {num_envs} environments, "
                f"but its size is {capacity}. Make it at least {(window + 1) * num_envs}."
            )
        self.window, self.batch = window, batch
        self.rows = Trajectory(
            obs=np.zeros((num_envs, self.share, obs_size), np.float32),
            action=np.zeros((num_envs, self.share, action_size), np.float32),
            reward=np.zeros((num_envs, self.share), np.float32),
            discount=np.zeros((num_envs, self.share), np.float32),
            valid=np.zeros((num_envs, self.share), np.bool_),
        )
        self.added = np.zeros(num_envs, np.int64)

    def add(self, rows: Rows) -> None:
        """Append a row to each environment's ring."""
        at = (rows.env, self.added[rows.env] % self.share)
        for store, new in zip(self.rows, rows[1:], strict=True):
            store[at] = new
        self.added[rows.env] += 1

    def since(self, added: NDArray[np.int64]) -> dict[str, NDArray]:
        """Return the rows that came after the counts were `added`, as far as they are held.

        One environment's after another's, in order. `first` and `last` say which of each
        environment's rows they are, counted as `added` counts.
        """
        first = np.maximum(added, np.maximum(self.added - self.share, 0))
        env, number = _numbered(first, self.added)
        rows = {k: store[env, number % self.share] for k, store in self.rows._asdict().items()}
        return {"first": first, "last": self.added.copy(), **rows}

    def put(self, rows: Mapping[str, NDArray]) -> None:
        """Put rows from `since` where they were, and count them as added."""
        env, number = _numbered(rows["first"], rows["last"])
        for name, store in self.rows._asdict().items():
            store[env, number % self.share] = rows[name]
        self.added = rows["last"].copy()

    def sample(self, rng: np.random.Generator) -> Trajectory | None:
        """Draw windows `[T B]` that begin with a transition; None while there are none."""
        stored = np.minimum(self.added, self.share)
        starts = stored - self.window + 1  # windows that fit, by environment
        if not self._any_start(starts):
            return None
        env, start = self._draw(rng, starts, self.batch)
        missing = np.flatnonzero(~self.rows.valid[env, start])
        while missing.size:
            env[missing], start[missing] = self._draw(rng, starts, missing.size)
            missing = missing[~self.rows.valid[env[missing], start[missing]]]
        time = (start + np.arange(self.window)[:, None]) % self.share
        return Trajectory(*(x[env, time] for x in self.rows))

    def _draw(self, rng: np.random.Generator, starts: NDArray, n: int) -> tuple[NDArray, NDArray]:
        """Draw n windows uniformly: their environments, and where in the ring they begin."""
        counts = np.maximum(starts, 0)
        edges = np.cumsum(counts)
        flat = rng.integers(edges[-1], size=n)
        env = np.searchsorted(edges, flat, side="right")
        oldest = np.maximum(self.added - self.share, 0)[env]
        return env, (oldest + flat - (edges - counts)[env]) % self.share

    def _any_start(self, starts: NDArray) -> bool:
        if starts.max() > 2 * self.window:
            return True  # two consecutive rows cannot both lack a transition
        oldest = np.maximum(self.added - self.share, 0)
        return any(
            self.rows.valid[e, (oldest[e] + np.arange(s)) % self.share].any()
            for e, s in enumerate(starts)
        )


def _numbered(first: NDArray, last: NDArray) -> tuple[NDArray, NDArray]:
    """Return, of rows first[e] to last[e] of each environment e, the environments and numbers."""
    counts = last - first
    env = np.repeat(np.arange(len(counts)), counts)
    return env, np.arange(len(env)) + np.repeat(last - np.cumsum(counts), counts)
