"""The settings of a run: one dataclass, from which the command line, the defaults and `config.json` all come."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from posteriori.algorithms.mpo import Mpo


@dataclass(frozen=True)
class Config:
    """Settings of a training run.

    Args:
        seed: Of environments, networks, exploration and replay.
        steps: Environment steps to train for, over all environments.
        envs: Environments stepped together.
        backend: Which implementation of the environment collects data; evaluation always uses Gymnasium's.
        policy: Distribution over actions; auto is diagonal for a Box and categorical for a Discrete space.
        critic: Whether the critic predicts the distribution of the return or its mean.
        widths: Hidden units of each layer, of the policy and of the critic.
        initial_std: The policy's standard deviation at the start, in units of half the action range.
        support_points: Points of the categorical critic's support.
        support_limit: The support reaches from minus this to this, in scaled return.
        mpo: Hyperparameters of the algorithm.
        n_step: Steps of reward before bootstrapping.
        batch_size: Windows per update.
        replay_size: Rows kept for replay.
        learning_starts: Environment steps before the first update.
        steps_per_update: Environment steps per update.
        noise_exponent: Colour of the exploration noise: 0 white, 1 pink (Eberhard et al., ICLR 2023).
        normalise_observations: Whether observations are centred and scaled by their running moments.
        scale_rewards: Whether rewards are divided by a running estimate of the return's spread.
        clip_rewards: Rewards are clipped to minus and plus this; 0 is no clipping.
        evaluate_every: Environment steps between evaluations.
        evaluate_episodes: Greedy episodes of an evaluation.
        checkpoint_every: Environment steps between checkpoints.
    """

    seed: int = 0
    steps: int = 400_000
    envs: int = 8
    backend: Literal["auto", "gymnasium", "envpool"] = "auto"
    policy: Literal["auto", "diagonal", "full", "categorical"] = "auto"
    critic: Literal["categorical", "scalar"] = "categorical"
    widths: tuple[int, ...] = (128, 128)
    initial_std: float = 0.5
    support_points: int = 101
    support_limit: float = 5.0
    mpo: Mpo = field(default_factory=Mpo)
    n_step: int = 5
    batch_size: int = 128
    replay_size: int = 1_000_000
    learning_starts: int = 2_000
    steps_per_update: int = 2
    noise_exponent: float = 1.0
    normalise_observations: bool = True
    scale_rewards: bool = True
    clip_rewards: float = 0.0
    evaluate_every: int = 10_000
    evaluate_episodes: int = 10
    checkpoint_every: int = 20_000


# The source tutorial's settings. Differs: no sigma clip, and log N is in the dual (both were faults there).
TUTORIAL = Config(
    envs=1,
    critic="scalar",
    mpo=Mpo(
        epsilon=0.1,
        epsilon_mean=0.01,
        epsilon_cov=0.001,
        learning_rate=5e-4,
        target_period=100,  # 400 environment steps at one update per 4
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


def to_json(config: Config) -> dict:
    """Return plain values, from which `from_json` makes the same config."""
    return dataclasses.asdict(config)
