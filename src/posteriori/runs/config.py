"""The settings of a run: one dataclass makes the command line, the defaults and `config.json`."""

import dataclasses
import difflib
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from posteriori.algorithms.mpo import Mpo
from posteriori.runs.folder import canonical


@dataclass(frozen=True)
class Config:
    """Settings of a training run.

    Args:
        seed: Of environments, networks, exploration and replay.
        steps: Environment steps to train for, over all environments.
        envs: Environments stepped together.
        backend: Which implementation of the environment collects data; evaluation always uses
            Gymnasium's. subprocess is Gymnasium's, each environment in a process of its own, which
            may hang or die.
        env_restarts: How often, over all environments, one that fails is rebuilt before the run
            gives up.
        env_timeout: Seconds that an environment may take for a step or a reset; subprocess only.
        policy: Distribution over actions; auto is diagonal for a Box and categorical for a Discrete
            space.
        critic: Whether a critic predicts the distribution of the return or its mean.
        critics: How many critics; the policy is improved by their average.
        pessimism: How far what they are fitted to goes from their average, 0, to the lowest of
            them, 1.
        widths: Hidden units of each layer, of the policy and of each critic.
        initial_std: The policy's standard deviation at the start, in units of half the action
            range.
        support_points: Points of the categorical critic's support.
        support_limit: The support reaches from minus this to this, in scaled return.
        mpo: Hyperparameters of the algorithm.
        n_step: Steps of reward before bootstrapping.
        batch_size: Windows per update.
        replay_size: Rows kept for replay.
        learning_starts: Environment steps before the first update.
        steps_per_update: Environment steps per update.
        noise_exponent: Colour of the exploration noise: 0 white, 1 pink (Eberhard et al.,
            ICLR 2023).
        normalise_observations: Whether observations are centred and scaled by their running
            moments.
        scale_rewards: Whether rewards are divided by a running estimate of the return's spread.
        clip_rewards: Rewards are clipped to minus and plus this; 0 is no clipping.
        evaluate_every: Environment steps between evaluations; 0 is never.
        evaluate_episodes: Greedy episodes of an evaluation.
        final_episodes: Greedy episodes of the evaluation at the end; 0 is none.
        checkpoint_every: Environment steps between checkpoints; there is always one at the end.
        keep_checkpoints: How many of the newest checkpoints are kept.
        video_every: Environment steps between videos of an episode, to watch it learn; 0 is never.
        video_overlay: Whether videos show the step, the return so far, the critic's value of the
            state and the action.
        pictures: Whether to draw the learning curve and record a video at the end.
    """

    seed: int = 0
    steps: int = 200_000
    envs: int = 8
    backend: Literal["auto", "gymnasium", "envpool", "subprocess"] = "auto"
    env_restarts: int = 10
    env_timeout: float = 60.0
    policy: Literal["auto", "diagonal", "full", "categorical"] = "auto"
    critic: Literal["categorical", "scalar"] = "categorical"
    critics: int = 2
    pessimism: float = 0.25
    widths: tuple[int, ...] = (128, 128)
    initial_std: float = 0.5
    support_points: int = 101
    support_limit: float = 5.0
    mpo: Mpo = field(default_factory=Mpo)
    n_step: int = 3
    batch_size: int = 128
    replay_size: int = 1_000_000
    learning_starts: int = 2_000
    steps_per_update: int = 1
    noise_exponent: float = 1.0
    normalise_observations: bool = True
    scale_rewards: bool = True
    clip_rewards: float = 0.0
    evaluate_every: int = 20_000
    evaluate_episodes: int = 10
    final_episodes: int = 100
    checkpoint_every: int = 20_000
    keep_checkpoints: int = 2
    video_every: int = 0
    video_overlay: bool = False
    pictures: bool = True


# The source tutorial's settings. Differs: no sigma clip, and log N is in the dual (both were faults
# there).
TUTORIAL = Config(
    envs=1,
    critic="scalar",
    critics=1,
    pessimism=0.0,
    mpo=Mpo(
        epsilon=0.1,
        epsilon_bounds=0.001,
        epsilon_mean=0.01,
        epsilon_cov=0.001,
        policy_learning_rate=5e-4,
        critic_learning_rate=5e-4,
        critic_weight_decay=0.0,
        target_period=100,  # 400 environment steps at one update per 4
        settle_after=0,
    ),
    n_step=1,
    replay_size=10_000,
    learning_starts=5_000,
    steps_per_update=4,
    noise_exponent=0.0,
    normalise_observations=False,
    scale_rewards=False,
    clip_rewards=1.0,
    steps=600_000,
)

PRESETS: dict[str, Config] = {"default": Config(), "tutorial": TUTORIAL}


def with_settings(config: Config, settings: Mapping[str, object]) -> Config:
    """Replace fields of a config, or of its algorithm, by name.

    Raises:
        TypeError: If a name is no field (near matches are named), or `mpo` is no `Mpo`.
    """
    own = {f.name for f in dataclasses.fields(Config)}
    algorithm = {f.name for f in dataclasses.fields(Mpo)}
    for name in settings:
        if name not in own | algorithm:
            near = difflib.get_close_matches(name, own | algorithm)
            hint = (
                f"Did you mean {' or '.join(near)}?" if near else "See `posteriori train --help`."
            )
            raise TypeError(
                f"settings must be fields of Config or Mpo, but {name!r} is none. {hint}"
            )
    mpo: dict[str, Any] = {k: v for k, v in settings.items() if k in algorithm}
    rest: dict[str, Any] = {k: v for k, v in settings.items() if k in own}  # `check` sees to types
    if not isinstance(rest.get("mpo", config.mpo), Mpo):
        raise TypeError(f"mpo must be an Mpo, but it is {rest['mpo']!r}. Use Mpo(epsilon=0.1).")
    config = dataclasses.replace(config, **rest)
    return dataclasses.replace(config, mpo=dataclasses.replace(config.mpo, **mpo))


def fingerprint(config: Config) -> str:
    """Return a checksum of all settings but `steps`, which a run that is resumed may change."""
    settings = dataclasses.asdict(config)
    del settings["steps"]
    return hashlib.sha256(canonical(settings)).hexdigest()


def plain(config: Config) -> dict[str, str | int | float]:
    """Return all settings without nesting, as numbers, truth values and texts, for trackers."""
    flat = dataclasses.asdict(config)
    flat |= flat.pop("mpo")
    return {k: v if isinstance(v, int | float) else str(v) for k, v in flat.items()}


def check(config: Config) -> None:
    """Refuse settings that cannot work, before anything starts.

    Raises:
        TypeError: If a value is not of its default's type.
        ValueError: If a value lies outside its range.
    """
    default = Config()
    for owner, defaults in ((config, default), (config.mpo, default.mpo)):
        for field_ in dataclasses.fields(owner):
            if field_.name != "mpo":
                value, usual = getattr(owner, field_.name), getattr(defaults, field_.name)
                _check_type(field_.name, value, usual)
                _check_range(field_.name, value, usual, get_args(field_.type))
    if config.n_step * config.envs >= config.replay_size:
        raise ValueError(
            f"replay_size must exceed n_step times envs, but it is {config.replay_size} with "
            f"n_step {config.n_step} and envs {config.envs}. Raise replay_size."
        )


def _check_type(name: str, value: object, usual: object) -> None:
    kind = type(usual)
    fits = type(value) is kind or (kind is float and type(value) is int)
    if kind is tuple and isinstance(value, tuple):
        fits = bool(value) and all(type(x) is int for x in value)
    if not fits:
        raise TypeError(
            f"{name} must be {kind.__name__} like {usual!r}, but it is {type(value).__name__} "
            f"{value!r}."
        )


def _check_range(name: str, value: object, usual: object, choices: tuple) -> None:
    if isinstance(value, str):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, but it is {value!r}.")
        return
    lowest, highest = _RANGES.get(name, (None, math.inf))
    for x in value if isinstance(value, tuple) else (value,):
        assert isinstance(x, int | float)
        if lowest is None and isinstance(usual, float):
            fits, bound = 0 < x < highest, "greater than 0 and finite"
        elif lowest is None:
            fits, bound = 1 <= x <= _LARGEST, f"from 1 to {_LARGEST}"
        else:
            fits, bound = lowest <= x <= highest, f"from {lowest} to {highest}"
        if not fits and not isinstance(x, bool):
            raise ValueError(f"{name} must be {bound}, but it is {value}. Its default is {usual}.")


# What may be 0 or must not be large. Other numbers are greater than 0: counts up to 2^53, which
# a float still tells from its neighbours, the rest finite.
_LARGEST = 2**53
_RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "support_points": (2, 10_001),
    "learning_starts": (0, _LARGEST),
    "noise_exponent": (0, 2),
    "clip_rewards": (0, _LARGEST),
    "env_restarts": (0, _LARGEST),
    "evaluate_every": (0, _LARGEST),
    "video_every": (0, _LARGEST),
    "final_episodes": (0, _LARGEST),
    "discount": (0, 1),
    "pessimism": (0, 1),
    "settle_after": (0, _LARGEST),
    "critic_weight_decay": (0, 100),
}
