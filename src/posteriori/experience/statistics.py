"""Running statistics of the data, in float64 on the host: the units of what networks see."""

import numpy as np
from numpy.typing import NDArray

from posteriori.experience.replay import Rows


class Moments:
    """Mean and variance of all rows seen so far (Chan et al. 1983, the pairwise update)."""

    def __init__(self, size: int):
        self.count = np.zeros(())
        self.mean = np.zeros(size)
        self.square = np.zeros(size)  # sum of squared deviations

    def add(self, rows: NDArray) -> None:
        """Take in rows `[K size]`."""
        if len(rows) == 0:
            return
        rows = np.asarray(rows, np.float64)
        total = self.count + len(rows)
        shift = rows.mean(axis=0) - self.mean
        self.square = (
            self.square
            + ((rows - rows.mean(axis=0)) ** 2).sum(axis=0)
            + shift**2 * self.count * len(rows) / total
        )
        self.mean = self.mean + shift * len(rows) / total
        self.count = total

    def std(self) -> NDArray[np.float64]:
        """Return the standard deviation, 1 where an entry has been constant."""
        std = np.sqrt(self.square / np.maximum(self.count, 1))
        return np.where(std > 1e-6, std, 1.0)


class ReturnUnit:
    """A unit of reward in which returns have about unit spread and stay within a limit.

    It follows G_t = reward_t + gamma G_{t-1} in each environment, and is the larger of G's standard
    deviation and max |G| / limit, so that a critic's fixed support needs no tuning per task
    (SimbaV2, arXiv 2502.15280, *Reward bounding and scaling*). G begins anew where an episode
    terminates. It goes on where one is truncated: there the critic bootstraps, so that its values
    are those of endless episodes, far beyond the returns of short ones.

    Args:
        num_envs: Number of environments.
        discount: gamma.
        limit: What the largest return seen becomes at most, in the new unit.
    """

    def __init__(self, num_envs: int, discount: float, limit: float):
        self.discount, self.limit = discount, limit
        self.running = np.zeros(num_envs)
        self.moments = Moments(1)
        self.largest = np.zeros(())

    def add(self, rows: Rows) -> None:
        """Take in a row of some environments; one without a transition changes nothing."""
        env, discount = rows.env[rows.valid], rows.discount[rows.valid]
        running = rows.reward[rows.valid] + self.discount * self.running[env]
        self.moments.add(running[:, None])
        self.largest = np.maximum(self.largest, np.abs(running).max(initial=0.0))
        self.running[env] = running * discount

    def value(self) -> float:
        """Return the unit, 1 before any reward differed from zero."""
        if self.largest == 0:
            return 1.0
        spread = np.sqrt(self.moments.square[0] / self.moments.count)
        return float(max(spread, self.largest / self.limit))
