"""A cell of a peer: its released package, with the settings of `peers.toml`."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from experiments import PEERS, RANDOM, RLOX, Cell, tuned
from numpy.typing import NDArray
from protocol import Examiner, Recorder, record

# Of the first episodes of training: none that an evaluation begins with.
TRAINING_SEED, MOST_ENVS = 2_000_000, 1_000


def train(cell: Cell, folder: Path) -> None:
    """Train one peer, and evaluate it on the way and at the end.

    Raises:
        ValueError: If there is no such method.
    """
    if cell.method == RANDOM:
        packages: tuple[str, ...] = ("gymnasium",)
    elif cell.method in PEERS["methods"]:
        packages = tuple(PEERS["methods"][cell.method]["packages"])
    else:
        raise ValueError(
            f"The method must be one of {', '.join(PEERS['methods'])}, but it is {cell.method!r}. "
            "Add it to benchmarks/peers.toml."
        )
    record(folder, cell, packages)
    special = {RANDOM: random, RLOX: rlox}
    special.get(cell.method, stable_baselines)(cell, Recorder(folder, cell.task))


def load(method: str) -> Any:
    """Import the class of a method."""
    module, _, name = PEERS["methods"][method]["class"].rpartition(".")
    return getattr(import_module(module), name)


def random(cell: Cell, recorder: Recorder) -> None:
    """Act uniformly at random: the zero of a task's score."""
    space = gym.make(cell.task).action_space
    space.seed(cell.seed)
    examiner = Examiner(cell, recorder, lambda obs: np.stack([space.sample() for _ in obs]))
    examiner.step = cell.steps
    examiner.finish(0)


def stable_baselines(cell: Cell, recorder: Recorder) -> None:
    """Train with Stable-Baselines3, its contributions, or SBX, which share an interface."""
    model = build(cell.method, cell.task, cell.seed, tuned(cell.method, cell.task))
    examiner = Examiner(cell, recorder, greedy(model))

    def look(*_: Any) -> bool:
        examiner.at(model.num_timesteps, model._n_updates, model._episode_num or None)
        return model.num_timesteps < cell.steps  # or a rollout would run past the last step

    model.learn(cell.steps, callback=look)
    examiner.finish(model._n_updates, model._episode_num or None)


def build(method: str, task: str, seed: int, given: dict[str, Any]) -> Any:
    """Make a model of the Stable-Baselines3 family with its environments.

    Args:
        method: Of `peers.toml`.
        task: A Gymnasium id.
        seed: Of the model and the environments.
        given: The constructor's arguments; `n_envs` and `normalise` are for the environments.
    """
    from stable_baselines3.common.env_util import make_vec_env  # pyright: ignore[reportMissingImports]
    from stable_baselines3.common.vec_env import VecNormalize  # pyright: ignore[reportMissingImports]

    rest = {k: _parsed(v) for k, v in given.items() if k not in ("n_envs", "normalise")}
    envs = make_vec_env(task, given.get("n_envs", 1), seed=seed)
    if given.get("normalise"):
        envs = VecNormalize(envs, gamma=given.get("gamma", 0.99))
    model = load(method)("MlpPolicy", envs, seed=seed, device="cpu", **rest)
    model.env.seed(TRAINING_SEED + MOST_ENVS * seed)
    return model


def greedy(model: Any) -> Callable[[NDArray], NDArray]:
    """Return the policy of a model, with the statistics of its observations where it has them."""
    moments = model.get_vec_normalize_env()

    def act(obs: NDArray) -> NDArray:
        obs = obs if moments is None else moments.normalize_obs(obs)
        return model.predict(obs, deterministic=True)[0]

    return act


def rlox(cell: Cell, recorder: Recorder) -> None:
    """Train with rlox, which seeds no more than the environment's start."""
    import torch  # pyright: ignore[reportMissingImports]
    from rlox.callbacks import Callback  # pyright: ignore[reportMissingImports]

    torch.manual_seed(cell.seed)
    given = tuned(cell.method, cell.task)
    starts = load(cell.method).__init__.__globals__["MPOConfig"](**given).learning_starts

    class Look(Callback):
        def on_step(self, *, step: int, **_: Any) -> bool:
            examiner.at(step, max(0, step - starts))  # one update per step
            return True

    first = TRAINING_SEED + cell.seed
    model = load(cell.method)(cell.task, seed=first, callbacks=[Look()], **given)
    model.env.action_space.seed(cell.seed)
    examiner = Examiner(cell, recorder, model.predict)
    model.train(cell.steps)
    examiner.finish(max(0, cell.steps - starts))


def _parsed(value: Any) -> Any:
    """Turn what TOML cannot say into Python: schedules, and classes of activations."""
    if isinstance(value, str) and value.startswith("linear "):
        start = float(value.removeprefix("linear "))
        return lambda remaining: remaining * start
    if isinstance(value, dict) and "activation_fn" in value:
        from torch import nn  # pyright: ignore[reportMissingImports]

        return value | {"activation_fn": getattr(nn, value["activation_fn"])}
    return value
