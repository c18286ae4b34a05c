"""Train in an environment of one's own, and send its metrics where one likes.

python examples/own_environment.py
"""

import argparse

import gymnasium as gym
import numpy as np

import posteriori

BOUNDS = np.array([[-0.3, -5.0], [2.0, 1.0]], np.float32)  # low, high: any finite box will do


class Pull(gym.Env):
    """Bring a point to the origin; it is pulled well in some directions and badly in others."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(*BOUNDS)

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.at, self.time = self.np_random.uniform(-3, 3, 2), 0
        return self.at.astype(np.float32), {}

    def step(self, action):
        self.at, self.time = np.clip(self.at + 0.2 * action, -5, 5), self.time + 1
        return self.at.astype(np.float32), -float(self.at @ self.at), False, self.time == 50, {}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    steps = parser.parse_args().steps
    told = "rollout/return"
    sink = lambda step, row: told in row and print(f"{step:>7} {row[told]:8.1f}")  # noqa: E731
    few = {"learning_starts": 500, "final_episodes": 20, "pictures": False}
    run = posteriori.train(Pull, steps=steps, sinks=[sink], **few)
    print(f"mean return {run.final.mean:.1f}, actions such as {run.policy(np.zeros(2))}")
