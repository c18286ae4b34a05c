"""What the critics of a run expect before its greedy walker falls, and where it does not fall.

    python benchmarks/falls.py RUN [RUN ...] [--episodes 200]

Each episode in its own copy of Gymnasium's environment, with the actor and the critics of the run's
newest checkpoint. Expected is the return of the noisy policy that the critics judge, discounted, in
the environment's units of reward; beside it stands what followed the greedy actions. An episode
that is cut by its time limit has no return to compare with, nor have the last steps of any.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from protocol import FALL

from posteriori.experience.envs import make_reference
from posteriori.runs.estimate import Estimate, load_estimate
from posteriori.runs.folder import RunFolder
from posteriori.runs.policy import GreedyPolicy

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
        name, config = RunFolder.open(path).read_config()
        policy, estimate = load_estimate(path)
        envs = make_reference(name, num_envs=args.episodes)
        episodes = play(policy, estimate, envs, seed=0)
        print(f"{path}: {told(episodes, config.mpo.discount)}")


def play(
    policy: GreedyPolicy, estimate: Estimate, envs: gym.vector.VectorEnv, seed: int
) -> list[Episode]:
    """Play one episode in each environment."""
    obs, _ = envs.reset(seed=seed)
    running, rows = np.ones(envs.num_envs, bool), []
    while running.any():
        expected = estimate(obs)
        obs, reward, terminated, truncated, _ = envs.step(policy(obs))
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
