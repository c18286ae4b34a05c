"""Collection: steps of a vector environment, as rows.

Whatever the environment's autoreset mode, the rows that come out are the same: one per step, and
for the last observation of an episode one that carries no transition.
"""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode
from jaxtyping import Array, Float
from numpy.typing import NDArray

from posteriori.experience.noise import ColouredNoise
from posteriori.experience.replay import Rows
from posteriori.models.actor import Actor

# No observation or reward may be larger. Float32 has 24 bits: at 1e8 it cannot tell a number from
# one 3 larger, so that what is learnt there is rounding; and a fourth power, as in the variance
# of a squared error, is still finite.
LARGEST = 1e8


class Episode(NamedTuple):
    """A finished episode: undiscounted return, and length in steps."""

    total: float
    length: int


class NonFinite(RuntimeError):
    """The environment or the policy gave a number that is none, or that cannot be meant."""


class Collector:
    """Steps environments with an exploring policy.

    Attributes:
        restarts: The environments that failed at the last step or reset, and how.

    Args:
        envs: A vector environment with flat observations; its autoreset mode is in its metadata.
        noise: Exploration noise of shape [E D].
        seed: Of the environments.
    """

    restarts: dict[int, str]

    def __init__(self, envs: gym.vector.VectorEnv, noise: ColouredNoise, seed: int):
        self.envs, self.noise = envs, noise
        self.mode = envs.metadata["autoreset_mode"]
        self.steps = 0
        self.clipped = 0.0  # share of action entries outside the box, at the last step
        self._start(*envs.reset(seed=seed))

    def collect(self, actor: Actor) -> tuple[list[Rows], list[Episode]]:
        """Step every environment once; return the new rows in order, and what episodes ended."""
        action, executed, command = jax.device_get(_act(actor, self.obs, self.noise.sample()))
        self._refuse_non_finite_action(action)
        self.clipped = float(np.mean(action != executed))
        obs, reward, terminated, truncated, info = self.envs.step(command)
        self.steps += 1
        lost = self._lost(info)
        valid = ~self.over & ~lost
        ended = (terminated | truncated) & valid
        last = self._last_observation(obs, info, ended)
        self._refuse_non_finite(last, reward)
        reward = np.where(valid, reward, 0.0).astype(np.float32)
        discount = 1.0 - (terminated & valid).astype(np.float32)
        rows = [Rows(np.arange(len(reward)), self.obs, executed, reward, discount, valid)]
        if lost.any():
            rows = self._cut(rows[0], lost)
        episodes = self._count(reward, valid, ended)
        self.obs, self.over = np.array(last, np.float32), ended
        if self.mode is not AutoresetMode.NEXT_STEP and ended.any():
            rows.append(self._edge(ended))
            self.obs = np.array(self._reset_observation(obs, ended), np.float32)
            self._refuse_non_finite(self.obs, reward)
            self.over = np.zeros_like(ended)
        return rows, episodes

    def interrupt(self, seed: int) -> Rows:
        """End unfinished episodes as truncated and reset; return their last observations' rows."""
        rows = self._edge(np.ones_like(self.over))
        self._start(*self.envs.reset(seed=seed))
        return rows

    def _start(self, obs: NDArray, info: Mapping) -> None:
        self.restarts = info.get("restarts", {})
        self.obs = np.array(obs, np.float32)  # a copy: an environment may write over its own
        self.over = np.zeros(len(obs), np.bool_)  # the environment awaits its reset step
        self.total = np.zeros(len(obs))
        self.length = np.zeros(len(obs), np.int64)
        self._refuse_non_finite(self.obs, np.zeros(len(obs)))

    def _lost(self, info: Mapping) -> NDArray[np.bool_]:
        """Which environments failed: their episodes end before what was just asked of them."""
        self.restarts = info.get("restarts", {})
        lost = np.zeros_like(self.over)
        lost[list(self.restarts)] = True
        return lost

    def _cut(self, rows: Rows, lost: NDArray) -> list[Rows]:
        """Forget the returns of lost episodes; one that had no transition yet leaves no row."""
        kept = ~lost | self.over | (self.length > 0)
        self.total[lost], self.length[lost] = 0.0, 0
        return [rows._make(x[kept] for x in rows)]

    def _edge(self, which: NDArray[np.bool_]) -> Rows:
        env = np.flatnonzero(which)
        zeros = np.zeros(len(env), np.float32)
        action = np.zeros((len(env), self.noise.shape[-1]), np.float32)
        return Rows(env, self.obs[env], action, zeros, zeros + 1, np.zeros(len(env), np.bool_))

    def _count(self, reward: NDArray, valid: NDArray, ended: NDArray) -> list[Episode]:
        self.total += reward
        self.length += valid
        episodes = [
            Episode(float(self.total[e]), int(self.length[e])) for e in np.flatnonzero(ended)
        ]
        self.total[ended] = 0.0
        self.length[ended] = 0
        return episodes

    def _last_observation(self, obs: NDArray, info: Mapping, ended: NDArray) -> NDArray:
        """Undo SAME_STEP's reset: the true last observation is in the info."""
        if self.mode is not AutoresetMode.SAME_STEP or not ended.any():
            return obs
        last = np.array(obs)
        last[ended] = np.stack(list(info["final_obs"][ended]))
        return last

    def _reset_observation(self, obs: NDArray, ended: NDArray) -> NDArray:
        if self.mode is AutoresetMode.SAME_STEP:
            return obs
        return self.envs.reset(options={"reset_mask": ended})[0]

    def _refuse_non_finite_action(self, action: NDArray) -> None:
        bad = np.flatnonzero(~np.isfinite(action).all(axis=1))
        if bad.size:
            raise NonFinite(
                f"every action must be finite, but the policy's for environment {bad[0]} was "
                f"{action[bad[0]]} at its step {self.steps + 1}. Lower the learning rate, or look "
                "for absurd rewards or observations."
            )

    def _refuse_non_finite(self, obs: NDArray, reward: NDArray) -> None:
        for field, value in (("observation", obs), ("reward", reward)):
            if not (np.abs(value) <= LARGEST).all():  # not >, which NaN is not
                raise NonFinite(f"{first_bad(field, value)} at its step {self.steps}. {_CURE}")


_CURE = "Mend the environment, or divide what is in such units by their size."


def first_bad(field: str, value: NDArray) -> str:
    """Say which environment gave the first number of `[E ...]` that is none or absurd."""
    env, *entry = np.argwhere(~(np.abs(value) <= LARGEST))[0]
    where = f" in entry {', '.join(map(str, entry))}" if entry else ""
    return (
        f"every {field} must be finite, and no larger than {LARGEST:.0e}, but environment {env} "
        f"gave {value[(env, *entry)]}{where}"
    )


@eqx.filter_jit
def _act(
    actor: Actor, obs: Float[Array | NDArray, " E O"], noise: Float[Array | NDArray, " E D"]
) -> tuple[Array, Array, Array]:
    action = actor.act(obs, jnp.asarray(noise))
    return action, actor.actions.clip(action), actor.actions.to_env(action)
