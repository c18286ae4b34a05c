"""From settings and spaces to an algorithm and its first state: all variants are known here."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from posteriori.algorithms.mpo import Mpo, Networks, State
from posteriori.experience.spaces import flat_size
from posteriori.models.actions import Actions, BoxActions, DiscreteActions, Preference
from posteriori.models.networks import (
    CategoricalHead,
    CategoricalValueHead,
    Critic,
    DiagonalHead,
    Ensemble,
    FullHead,
    Mlp,
    Policy,
    ScalarHead,
    Torso,
)
from posteriori.runs.config import Config

TorsoFactory = Callable[[int, PRNGKeyArray], Torso]


class Agent(NamedTuple):
    """What learns: the algorithm, its first state, and the action space."""

    algorithm: Mpo
    state: State
    actions: Actions


def assemble(
    config: Config,
    observation_space: gym.Space,
    action_space: gym.Space,
    name: str,
    torso: TorsoFactory | None = None,
    preferences: Mapping[str, Preference] | None = None,
) -> Agent:
    """Build networks and algorithm for an environment.

    Args:
        config: The run's settings.
        observation_space: A flat box.
        action_space: A flat box, or a Discrete space.
        name: The environment's, for errors.
        torso: Makes a torso of one's own from an input size and a key; the torso tells its number
            of features by an attribute `size`. Called once for the policy and once for the critic,
            whose input ends with the action.
        preferences: Objectives of one's own beside the return, by name.

    Raises:
        ValueError: If the policy of the settings does not fit the action space, the torso's
            features are not of its size, or a preference cannot be used.
        TypeError: If the torso has no size, or a preference is none.
    """
    actions = _actions(action_space, preferences or {})
    obs_size = flat_size(observation_space)
    names = ("torso", "head", "critics", "state")
    keys = dict(zip(names, jax.random.split(jax.random.key(config.seed), 4), strict=True))
    torso = torso or (lambda size, key: Mlp(size, config.widths, key=key))
    policy_torso = _torso(torso, obs_size, keys["torso"])
    policy = Policy(
        policy_torso, _policy_head(config, actions, policy_torso.size, name, keys["head"])
    )
    critic = Ensemble(
        tuple(
            _critic(config, torso, obs_size + actions.size, key)
            for key in jax.random.split(keys["critics"], config.critics)
        ),
        config.pessimism,
    )
    state = config.mpo.init(keys["state"], Networks(policy, critic), jnp.zeros(obs_size))
    return Agent(config.mpo, state, actions)


def describe(observation_space: gym.Space, action_space: gym.Space) -> dict:
    """Return flat spaces as plain values, from which `spaces` makes them without the simulator."""
    if isinstance(action_space, gym.spaces.Discrete):
        action = {"n": int(action_space.n), "start": int(action_space.start)}
    else:
        assert isinstance(action_space, gym.spaces.Box)
        action = {"low": action_space.low.tolist(), "high": action_space.high.tolist()}
    return {"observation": flat_size(observation_space), "action": action}


def sizes(description: dict) -> tuple[int, int]:
    """Return the entries of an observation and of an action of a description."""
    action = description["action"]
    return description["observation"], action["n"] if "n" in action else len(action["low"])


def spaces(description: dict) -> tuple[gym.Space, gym.Space]:
    """Return the spaces of a description."""
    action = description["action"]
    observation_space = gym.spaces.Box(-np.inf, np.inf, (description["observation"],), np.float32)
    if "n" in action:
        return observation_space, gym.spaces.Discrete(action["n"], start=action["start"])
    low, high = (np.asarray(action[side], np.float32) for side in ("low", "high"))
    return observation_space, gym.spaces.Box(low, high, dtype=np.float32)


def _actions(space: gym.Space, preferences: Mapping[str, Preference]) -> Actions:
    own = tuple(preferences.items())
    if isinstance(space, gym.spaces.Discrete):
        actions: Actions = DiscreteActions(int(space.n), int(space.start), own)
    else:
        assert isinstance(space, gym.spaces.Box)
        low, high = (jnp.asarray(side, jnp.float32) for side in (space.low, space.high))
        actions = BoxActions(low, high, own)
    for name, preference in own:
        _check_preference(name, preference, actions.size)
    return actions


def _check_preference(name: str, preference: Preference, size: int) -> None:
    if not isinstance(preference, Preference):
        raise TypeError(
            f"preferences must be Preference(value, epsilon), but {name} is a "
            f"{type(preference).__name__}. Give {name}=Preference(..., epsilon=0.01)."
        )
    if not name.isidentifier() or name in ("return", "bounds"):
        raise ValueError(
            f"a preference's name must be a word other than return and bounds, but it is {name!r}."
        )
    if not 0 < preference.epsilon < math.inf:
        raise ValueError(
            f"epsilon of the preference {name} must be above 0, but it is {preference.epsilon}. "
            "Leave out a preference that is not to count."
        )
    shape = eqx.filter_eval_shape(preference.value, jnp.zeros((3, 2, size))).shape
    if shape != (3, 2):
        raise ValueError(
            f"value of the preference {name} must turn actions [*S, {size}] into [*S], but it "
            f"makes {list(shape)} of [3, 2, {size}]. Sum over the last axis alone: axis=-1."
        )


def _torso(make: TorsoFactory, in_size: int, key: PRNGKeyArray) -> Torso:
    torso = make(in_size, key)
    if not isinstance(getattr(torso, "size", None), int):
        raise TypeError(
            "torso must make callables with an attribute size, an int, but it made a "
            f"{type(torso).__name__} without. Set size to the number of features."
        )
    features = eqx.filter_eval_shape(torso, jnp.zeros(in_size))
    if features.shape != (torso.size,):
        raise ValueError(
            f"torso must turn [{in_size}] into [size], here [{torso.size}], but its features have "
            f"shape {list(features.shape)}. It is called for one state; set size to what it gives."
        )
    return torso


def _critic(config: Config, torso: TorsoFactory, in_size: int, key: PRNGKeyArray) -> Critic:
    torso_key, value_key = jax.random.split(key)
    features = _torso(torso, in_size, torso_key)
    return Critic(features, _value_head(config, features.size, value_key))


def _policy_head(
    config: Config, actions: Actions, features: int, name: str, key: PRNGKeyArray
) -> DiagonalHead | FullHead | CategoricalHead:
    discrete = isinstance(actions, DiscreteActions)
    kind = config.policy
    if kind == "auto":
        kind = "categorical" if discrete else "diagonal"
    if discrete != (kind == "categorical"):
        space, other = ("Discrete", "categorical") if discrete else ("Box", "diagonal")
        needed = "discrete" if kind == "categorical" else "continuous"
        raise ValueError(
            f"--policy {kind} needs a {needed} action space, but {name} has a {space} of "
            f"{actions.size}. Use --policy {other}."
        )
    if kind == "categorical":
        return CategoricalHead(features, actions.size, key=key)
    head = {"diagonal": DiagonalHead, "full": FullHead}[kind]
    return head(features, actions.size, config.initial_std, key=key)


def _value_head(
    config: Config, features: int, key: PRNGKeyArray
) -> CategoricalValueHead | ScalarHead:
    if config.critic == "scalar":
        return ScalarHead(features, key=key)
    limit = config.support_limit
    return CategoricalValueHead(features, config.support_points, -limit, limit, key=key)
