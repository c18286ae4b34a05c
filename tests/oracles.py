"""Slow, obvious versions of the mathematics, in float64; no code is shared with the package."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax


def dual(q: NDArray, log_w: NDArray, eta: float, epsilon: float) -> float:
    """Return g(eta) = eta epsilon + eta mean_s log sum_j w_j exp(q_j / eta), of q [N S]."""
    q, log_w = np.asarray(q, np.float64), np.asarray(log_w, np.float64)
    best = q.max(axis=0)
    log_z = np.asarray(logsumexp((q - best) / eta + log_w, axis=0))
    return float(eta * epsilon + np.mean(best + eta * log_z))


def minimise_dual(q: NDArray, log_w: NDArray, epsilon: float) -> float:
    """Return the temperature at which the dual is least, by SciPy's bounded minimiser."""
    q = np.asarray(q, np.float64) - np.max(q, axis=0)  # a shift of a state moves the dual alone
    scale = np.log(q.std())

    def objective(log_eta: float) -> float:
        return dual(q, log_w, float(np.exp(log_eta)), epsilon)

    found = minimize_scalar(
        objective, bounds=(scale - 8, scale + 8), method="bounded", options={"xatol": 1e-10}
    )
    return float(np.exp(found.x))


def improved(q: NDArray, log_w: NDArray, eta: float) -> NDArray:
    """Return the improved policy's weights: w_j exp(q_j / eta), normalised over the atoms."""
    return softmax((np.asarray(q, np.float64) - np.max(q, axis=0)) / eta + log_w, axis=0)


def mean_kl(q: NDArray, log_w: NDArray, eta: float) -> float:
    """Return mean_s KL(improved || old)."""
    p = improved(q, log_w, eta)
    terms = np.where(p > 0, p * (np.log(np.where(p > 0, p, 1.0)) - log_w), 0.0)
    return float(terms.sum(axis=0).mean())


def n_step(reward: NDArray, discount: NDArray, valid: NDArray) -> tuple[float, float, int]:
    """Walk one window: its reward, the discount to bootstrap with, and the row to do so from."""
    total, factor, row = 0.0, 1.0, 0
    while row < len(reward) - 1 and valid[row]:
        total += factor * reward[row]
        factor *= discount[row]
        row += 1
    return total, factor, row


def project(support: NDArray, p: NDArray, reward: float, discount: float) -> NDArray:
    """Return the categorical projection of one distribution: C51 (arXiv 1707.06887), Algorithm 1.

    As published it loses the mass of a point that falls exactly on the support, where l = u; here
    it is kept.
    """
    low, high, spacing = support[0], support[-1], support[1] - support[0]
    m = np.zeros(len(support))
    for j, z in enumerate(support):
        moved = min(max(reward + discount * z, low), high)
        b = min((moved - low) / spacing, len(support) - 1.0)
        lower, upper = int(np.floor(b)), int(np.ceil(b))
        if lower == upper:
            m[lower] += p[j]
        else:
            m[lower] += p[j] * (upper - b)
            m[upper] += p[j] * (b - lower)
    return m


class Stream:
    """Each environment's rows in a list, the oldest dropped when it exceeds its share."""

    def __init__(self, num_envs: int, share: int):
        self.share = share
        self.rows: list[list[tuple[int, bool]]] = [[] for _ in range(num_envs)]

    def add(self, env: int, row: int, valid: bool) -> None:
        """Append a row, named by a number."""
        self.rows[env] = [*self.rows[env], (row, valid)][-self.share :]

    def windows(self, length: int) -> set[tuple[int, ...]]:
        """Return every window that begins with a transition, as the numbers of its rows."""
        return {
            tuple(number for number, _ in rows[start : start + length])
            for rows in self.rows
            for start in range(len(rows) - length + 1)
            if rows[start][1]
        }


def discounted(rewards: Sequence[Sequence[float]], gamma: float) -> list[float]:
    """Return G_t = reward_t + gamma G_{t-1} of every step of some episodes, each from 0."""
    returns = []
    for episode in rewards:
        total = 0.0
        for reward in episode:
            total = reward + gamma * total
            returns.append(total)
    return returns
