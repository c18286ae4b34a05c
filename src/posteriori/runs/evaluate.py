"""Evaluation: greedy episodes in Gymnasium's own environment, undiscounted returns."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from posteriori.experience.collect import LARGEST, NonFinite, first_bad
from posteriori.experience.envs import EnvLike, environment_name, make_reference
from posteriori.experience.faults import Patience, announce
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.config import Config
from posteriori.runs.folder import RunFolder, trusted
from posteriori.runs.notices import warn
from posteriori.runs.policy import load_policy

if TYPE_CHECKING:
    from posteriori.runs.run import Run

ENDLESS = 100_000  # steps of an episode at which its end is asked for
_ENDLESS = (
    f"has come to {ENDLESS:,} steps, and its end is waited for. If there may be none, wrap the "
    "environment in gymnasium.wrappers.TimeLimit."
)
AGAIN = "The unfinished episode is played again."
PARALLEL = 10  # episodes stepped together, so that one call of the policy serves several


@dataclass(frozen=True)
class Evaluation:
    """Greedy episodes: their undiscounted returns, in the environment's units of reward."""

    env: str
    episodes: int
    mean: float
    std: float
    min: float
    max: float
    returns: list[float]
    lengths: list[int]
    steps: int

    def to_json(self) -> dict:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Evaluation":
        """Return the evaluation of plain values.

        Raises:
            CheckpointError: If they are of none.
        """
        names = {field.name for field in fields(cls)}
        if values.keys() != names or type(values["mean"]) not in (int, float):
            raise CheckpointError(
                f"an evaluation must have {', '.join(sorted(names))}, but it is {values!r:.200}."
            )
        return cls(**values)


def run_episodes(
    policy: Callable[[NDArray], NDArray],
    envs: VectorEnv,
    *,
    env: str,
    episodes: int,
    seed: int,
    tell: Callable[[str, str], None] = lambda name, text: warn(f"{name}: {text}"),
) -> Evaluation:
    """Run greedy episodes, as many in each environment, so that short ones are not favoured.

    Args:
        policy: From a batch of observations to a batch of actions, in the environment's units.
        envs: From `make_reference`; autoresets at the next step.
        env: The environment's name.
        episodes: How many; where they are no multiple of the environments, the first ones' count.
        seed: Of the first environment; the others count on from it.
        tell: Hears, by name and text, of each environment that failed and was rebuilt, and of an
            episode that does not end.

    Raises:
        NonFinite: If an observation or a reward is no number.
        EnvironmentFailed: If environments fail more often than they may.
    """
    quota = -(-episodes // envs.num_envs)
    done: list[list[tuple[float, int]]] = [[] for _ in range(envs.num_envs)]
    total, length = np.zeros(envs.num_envs), np.zeros(envs.num_envs, np.int64)
    over = np.zeros(envs.num_envs, np.bool_)
    obs, info = envs.reset(seed=seed)
    announce(info.get("restarts", {}), AGAIN, tell)
    while min(map(len, done)) < quota:
        _refuse_non_finite(env, "observation", obs)
        obs, reward, terminated, truncated, info = envs.step(policy(obs))
        _refuse_non_finite(env, "reward", reward)
        total, length = np.where(over, 0.0, total + reward), np.where(over, 0, length + 1)
        over = (terminated | truncated) & ~over
        if length.max() == ENDLESS:
            tell("episode-without-end", f"an episode of {env} in an evaluation {_ENDLESS}")
        restarts = info.get("restarts", {})
        announce(restarts, AGAIN, tell)
        for e in restarts:  # their episodes cannot be counted
            total[e], length[e], over[e] = 0.0, 0, False
        for e in np.flatnonzero(over):
            done[e].append((float(total[e]), int(length[e])))
    return _summary(env, [episode for one in done for episode in one[:quota]][:episodes])


def evaluate(
    run_or_policy: "Run | Path | str | Callable[[NDArray], NDArray]",
    env: EnvLike | None = None,
    *,
    episodes: int = 100,
    seed: int = 0,
    best: bool = False,
) -> Evaluation:
    """Evaluate a policy greedily in Gymnasium's own environment.

    Args:
        run_or_policy: A run, its folder, or a callable from a batch of observations to a batch of
            actions.
        env: The environment; by default the run's.
        episodes: How many.
        seed: Of the first episodes' initial states.
        best: Of a folder, the policy of the best evaluation on the way rather than the last policy.

    Raises:
        ValueError: If the number of episodes is not positive, or the environment is not known.
        TypeError: If it is no policy and no run.
        NonFinite: If the environment gives an observation or a reward that is no number.
        EnvironmentFailed: If it fails more often than the run's settings allow, by default 10
            times; each failure before is a warning.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, but it is {episodes}. Use 100.")
    policy, env, config = _policy_of(run_or_policy, env, best=best)
    if env is None:
        raise ValueError("env must be given with a policy that is no run. Give a Gymnasium id.")
    envs = make_reference(
        env,
        num_envs=min(PARALLEL, episodes),
        backend=config.backend,
        patience=Patience(config.env_restarts, config.env_timeout),
    )
    try:
        return run_episodes(policy, envs, env=environment_name(env), episodes=episodes, seed=seed)
    finally:
        envs.close()


def _policy_of(
    given: "Run | Path | str | Callable[[NDArray], NDArray]", env: EnvLike | None, *, best: bool
) -> tuple[Callable[[NDArray], NDArray], EnvLike | None, Config]:
    """Return a policy, the environment to evaluate it in, and the settings that it comes with."""
    if isinstance(given, Path | str):
        folder = RunFolder.open(given)
        name, config = folder.read_config()
        env = trusted(name, env, folder.record)
        return load_policy(given, best=best), env, config
    if best:
        raise ValueError(
            f"best must be asked of a run's folder, but {type(given).__name__} was given. "
            "Give the folder (run.run_dir)."
        )
    if callable(given):
        return given, env, Config()
    if not hasattr(given, "policy"):
        raise TypeError(
            f"run_or_policy must be a run, its folder or a callable, but it is {given!r}. "
            "Give the folder of a run."
        )
    return given.policy, given.env if env is None else env, given.config


def _summary(env: str, episodes: list[tuple[float, int]]) -> Evaluation:
    returns, lengths = map(list, zip(*episodes, strict=True))
    return Evaluation(
        env=env,
        episodes=len(episodes),
        mean=float(np.mean(returns)),
        std=float(np.std(returns)),
        min=min(returns),
        max=max(returns),
        returns=returns,
        lengths=lengths,
        steps=sum(lengths),
    )


def _refuse_non_finite(env: str, field: str, value: NDArray) -> None:
    if not (np.abs(value) <= LARGEST).all():
        raise NonFinite(f"{first_bad(field, value)}, of {env} in an evaluation. Mend it.")
