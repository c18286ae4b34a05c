"""What the critics of a run expect before its greedy walker falls, and where it does not fall.

    python benchmarks/falls.py RUN [RUN ...] [--episodes 200]

Each episode in its own copy of Gymnasium's environment, with the actor and the critics of the run's
newest checkpoint. Expected is the return of the noisy policy that the critics judge, discounted, in
the environment's units of reward; beside it stands what followed the greedy actions. An episode
that is cut by its time limit has no return to compare with, nor have the last steps of any.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import gymnasium as gym
import jax.numpy as jnp
import numpy as np
from agreement import load
from jaxtyping import Array, Float
from numpy.typing import NDArray
from protocol import FALL

from posteriori.experience.envs import make_reference
from posteriori.runs.loop import Loop

BEFORE = (1, 10, 20, 30, 50, 80)  # steps before the fall
HORIZON = 3  # times 1 / (1 - discount): steps at the end of an episode that are left out


class Episode(NamedTuple):
    """What was expected at each of T steps, and the reward of each."""

    expected: Float[NDArray, " T"]
    reward: Float[NDArray, " T"]

    @property
    def fell(self) -> bool:
        """Whether its end is a fall."""
        return bool(self.reward[-1] <= FALL)

    def returns(self, discount: float) -> Float[NDArray, " T"]:
        """Return what followed each step, discounted."""
        followed = np.zeros(len(self.reward) + 1)
        for t in reversed(range(len(self.reward))):
            followed[t] = self.reward[t] + discount * followed[t + 1]
        return followed[:-1]


def main() -> None:
    """Describe the falls of every run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--episodes", type=int, default=200)
    args = parser.parse_args()
    for path in args.runs:
        loop = load(path)
        episodes = play(judge(loop), make_reference(loop.name, num_envs=args.episodes), seed=0)
        print(f"{path}, {loop.steps:,} steps: {told(episodes, loop.config.mpo.discount)}")
        loop.close()


def judge(loop: Loop) -> Callable[[NDArray], tuple[NDArray, NDArray]]:
    """Return a function from observations to the greedy actions and what the critics expect."""
    scaling, critic = loop.gathering.scaling(), loop.learner.critic()
    actor = loop.learner.actor(scaling)

    @eqx.filter_jit
    def judged(obs: Float[Array, " E O"]) -> tuple[Array, Float[Array, " E"]]:
        scaled = scaling.observation(obs)
        action = actor.actions.clip(actor.policy(scaled).mode())
        return actor.actions.to_env(action), critic(scaled, action).mean() * scaling.reward

    def numbers(obs: NDArray) -> tuple[NDArray, NDArray]:
        action, expected = judged(jnp.asarray(obs))
        return np.asarray(action), np.asarray(expected)

    return numbers


def play(
    policy: Callable[[NDArray], tuple[NDArray, NDArray]], envs: gym.vector.VectorEnv, seed: int
) -> list[Episode]:
    """Play one episode in each environment."""
    obs, _ = envs.reset(seed=seed)
    running, rows = np.ones(envs.num_envs, bool), []
    while running.any():
        action, expected = policy(obs)
        obs, reward, terminated, truncated, _ = envs.step(action)
        rows.append((np.where(running, expected, np.nan), reward))
        running &= ~(terminated | truncated)
    envs.close()
    expected, reward = map(np.stack, zip(*rows, strict=True))
    played = ~np.isnan(expected)
    return [Episode(expected[on, i], reward[on, i]) for i, on in enumerate(played.T)]


def told(episodes: Sequence[Episode], discount: float) -> str:
    """Describe episodes in words, a line for each distance before the falls."""
    falls = [episode for episode in episodes if episode.fell]
    cut = int(HORIZON / (1 - discount))
    lines = [f"{len(falls)} of {len(episodes)} fell"]
    walks = [x for x in episodes if not x.fell and len(x.reward) > cut]
    if walks:
        expected = np.mean(np.concatenate([x.expected[:-cut] for x in walks]))
        followed = np.mean(np.concatenate([x.returns(discount)[:-cut] for x in walks]))
        lines.append(f"without a fall: expected {expected:.1f}, followed by {followed:.1f}")
    for steps in BEFORE:
        found = [
            (x.expected[-steps], x.returns(discount)[-steps])
            for x in falls
            if len(x.reward) >= steps
        ]
        if found:
            before, after = np.median(found, axis=0)
            lines.append(f"{steps} before: expected {before:.1f}, followed by {after:.1f}")
    return "\n  ".join(lines)


if __name__ == "__main__":
    main()
