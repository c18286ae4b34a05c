"""Environments: an id, an object or a factory becomes a vector of flat environments."""

import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from posteriori.experience import envpool
from posteriori.experience.registry import (
    backends_of,
    find_spec,
    is_newest,
    make_registered,
    require_envpool,
)
from posteriori.experience.single import (
    call_factory,
    check_first_observation,
    copy_of,
    environment_name,
    one_of,
)
from posteriori.experience.spaces import FlatVector, check_spaces

__all__ = [
    "Backend",
    "EnvLike",
    "check_spaces",
    "environment_name",
    "list_environments",
    "make_reference",
    "make_vector",
]

EnvLike = str | gym.Env | VectorEnv | Callable[[], gym.Env]
Backend = Literal["auto", "gymnasium", "envpool"]


def make_vector(
    env: EnvLike, *, num_envs: int, seed: int, backend: Backend = "auto"
) -> gym.vector.VectorEnv:
    """Training environments: flat float32 observations, flat actions, a declared autoreset mode.

    Args:
        env: A registered id ("Hopper-v5", "package:Id-v0"), a function that builds an environment,
            or an object, which is used as it is: one environment for a `gym.Env`, its own number
            for a `VectorEnv`.
        num_envs: How many copies of an id's or a function's environment.
        seed: What EnvPool is seeded with until `reset(seed=...)`, which seeds every backend.
        backend: "auto" takes EnvPool where it has the id with Gymnasium's spaces and time limit,
            or where Gymnasium lacks the id; Gymnasium for everything else.

    Raises:
        ValueError: the id is unknown, or the environment's spaces, observations or autoreset mode
            cannot be used.
        ImportError: the environment's simulator, or EnvPool if asked for, is not installed.
        TypeError: `env` is nothing that an environment can be made of.
    """
    _check_arguments(env, num_envs, backend)
    if isinstance(env, VectorEnv):
        return FlatVector(env, environment_name(env))
    if isinstance(env, gym.Env):
        return _vector([env])
    if not isinstance(env, str):
        return _vector([call_factory(env, None) for _ in range(num_envs)])
    if backend == "envpool":
        require_envpool(env)
    if backend == "envpool" or (backend == "auto" and backends_of(env)[0] == "envpool"):
        return FlatVector(envpool.Pool(env, num_envs, seed=seed), env)
    return _vector([make_registered(env) for _ in range(num_envs)])


def make_reference(
    env: EnvLike, *, num_envs: int, render_mode: str | None = None
) -> gym.vector.VectorEnv:
    """Evaluation environments: Gymnasium's own, whatever backend trains; fresh copies of an object.

    Environment i of `reset(seed=s)` starts as `gym.make(id).reset(seed=s + i)` does. An id that
    EnvPool alone has is evaluated in EnvPool.

    Args:
        env: As for `make_vector`.
        num_envs: How many copies.
        render_mode: Of the environments, such as "rgb_array".

    Raises:
        ValueError: as for `make_vector`, or the environment was built for another render mode.
        ImportError: the environment's simulator is not installed.
        TypeError: an object can be neither rebuilt nor copied.
    """
    _check_arguments(env, num_envs, "auto")
    if isinstance(env, VectorEnv):
        return _vector([one_of(env, render_mode) for _ in range(num_envs)])
    if isinstance(env, gym.Env):
        return _vector([copy_of(env, render_mode) for _ in range(num_envs)])
    if not isinstance(env, str):
        return _vector([call_factory(env, render_mode) for _ in range(num_envs)])
    if find_spec(env) is None and backends_of(env) == ("envpool",):
        return FlatVector(envpool.Pool(env, num_envs, seed=0, render_mode=render_mode), env)
    return _vector([make_registered(env, render_mode) for _ in range(num_envs)])


def list_environments(pattern: str = "") -> list[tuple[str, tuple[str, ...]]]:
    """Ids that can be trained here, each with its backends, the one that "auto" takes first.

    Args:
        pattern: A part of the id, in either case. Where it ends in a version ("hopper-v4"), that
            version is listed too if it is old. Without a pattern, the more than a thousand ids of
            EnvPool alone are left out.
    """
    versions = re.search(r"-v\d+$", pattern)
    candidates = {env_id for env_id in gym.registry if versions or is_newest(env_id)}
    if pattern:
        candidates |= set(envpool.ids()) - set(gym.registry)
    found = sorted((i for i in candidates if pattern.lower() in i.lower()), key=str.lower)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old versions: nobody asked to train on them yet
        return [(env_id, backends) for env_id in found if (backends := _trainable(env_id))]


def _trainable(env_id: str) -> tuple[str, ...]:
    """The backends of `env_id`, none if its spaces do not fit or its simulator is missing."""
    try:
        return backends_of(env_id)
    except (ValueError, ImportError):
        return ()


def _vector(envs: list[gym.Env]) -> VectorEnv:
    name = environment_name(envs[0])
    check_spaces(envs[0].observation_space, envs[0].action_space, name)
    check_first_observation(envs[0], name)
    # Of the autoreset modes, the one that EnvPool has too: one kind of rows, whatever the backend.
    built = [partial(_given, env) for env in envs]
    return FlatVector(SyncVectorEnv(built, autoreset_mode=AutoresetMode.NEXT_STEP), name)


def _given(env: gym.Env) -> gym.Env:
    return env


def _check_arguments(env: Any, num_envs: int, backend: str) -> None:
    if not (isinstance(env, str | gym.Env | VectorEnv) or callable(env)):
        raise TypeError(
            "env must be an id, a gymnasium.Env, a gymnasium.vector.VectorEnv or a function that "
            f"builds an environment, but is {env!r}. Pass one, such as 'BipedalWalker-v3'."
        )
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, but is {num_envs}. Use 8 if in doubt.")
    if backend not in get_args(Backend):
        raise ValueError(
            f"backend must be one of {', '.join(get_args(Backend))}, but is {backend!r}. "
            "Use 'auto' to leave the choice to the environment."
        )
    if backend == "envpool" and not isinstance(env, str):
        raise ValueError(
            f"backend 'envpool' needs an environment id, but env is {environment_name(env)}. "
            "Use backend='auto'."
        )
