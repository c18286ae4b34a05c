"""Runs that take a second or two, and an environment whose every number is known."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from posteriori import Run, train
from posteriori.runs.sinks import read_rows

# Small networks and batches, no evaluation, rows of metrics only at the end.
SMALL: dict[str, Any] = {
    "steps": 120,
    "envs": 2,
    "widths": (8,),
    "batch_size": 8,
    "samples": 3,
    "support_points": 11,
    "n_step": 2,
    "replay_size": 400,
    "learning_starts": 40,
    "steps_per_update": 8,
    "evaluate_every": 0,
    "evaluate_episodes": 2,
    "final_episodes": 0,
    "pictures": False,
}
UNLEARNED = SMALL | {"learning_starts": 10_000}  # nothing to compile but the policy

LOW, HIGH = np.array([-0.3, -5.0], np.float32), np.array([2.0, 1.0], np.float32)
LENGTH = 5


class Counting(gym.Env):
    """Episodes of five steps; observation [t, seed's draw, last action's first entry], reward t.

    Args:
        bad: By the number of the step since it was made, what it gives instead of a number, such
            as `{3: ("reward", math.nan)}`. Step 0 is the first reset.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(LOW, HIGH)

    def __init__(self, bad: dict[int, tuple[str, float]] | None = None):
        self.bad = bad or {}
        self.made = 0
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        super().reset(seed=seed, options=options)
        self.t, self.draw = 0, self.np_random.normal()
        return self._observation(0.0), {}

    def step(self, action: NDArray) -> tuple:
        assert self.action_space.contains(action), action
        self.t += 1
        self.made += 1
        field, value = self.bad.get(self.made, ("", 0.0))
        reward = value if field == "reward" else float(self.t)
        return self._observation(action[0]), reward, False, self.t == LENGTH, {}

    def _observation(self, action: float) -> NDArray:
        field, value = self.bad.get(self.made, ("", 0.0))
        third = value if field == "observation" else action
        return np.array([self.t, self.draw, third], np.float32)


RETURN = 15.0  # 1 + 2 + 3 + 4 + 5


def small_run(env: Any, run_dir: Path, **settings: Any) -> Run:
    """Train for a moment, or not at all with `UNLEARNED` settings."""
    return train(env, run_dir=run_dir, **(SMALL | settings))


def replay(parts: Mapping[str, Mapping[str, NDArray]], share: int) -> dict[str, NDArray]:
    """Return the rows of a checkpoint's segments by environment, the newest `share` of each."""
    segments = [parts[name] for name in sorted(parts) if name.startswith("replay-")]
    added = segments[-1]["last"]
    rows: dict[str, list[list[NDArray]]] = {}
    for one in segments:
        edges = np.cumsum(one["last"] - one["first"])[:-1]
        for name in ("obs", "action", "reward", "discount", "valid"):
            for e, new in enumerate(np.split(one[name], edges)):
                rows.setdefault(name, [[] for _ in added])[e].extend(new)
    return {"added": added} | {k: np.array([e[-share:] for e in v]) for k, v in rows.items()}


def timeless(run_dir: Path) -> list[dict[str, Any]]:
    """Return a run's rows of metrics without what depends on the machine's speed."""
    times = ("progress/seconds", "speed/steps", "speed/updates")
    return [
        {k: v for k, v in row.items() if k not in times}
        for row in read_rows(run_dir / "metrics.jsonl")
    ]
