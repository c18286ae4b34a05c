"""Environments: an id, an object or a factory becomes a vector of flat environments."""

import re
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import gymnasium as gym
from gymnasium.vector import VectorEnv

from posteriori.experience import envpool
from posteriori.experience.faults import Failures, Patience
from posteriori.experience.guarded import Guarded, Here, Place, Together
from posteriori.experience.registry import (
    backends_of,
    find_spec,
    is_newest,
    make_from_spec,
    require_envpool,
    require_spec,
)
from posteriori.experience.single import (
    call_factory,
    copy_of,
    environment_name,
    one_of,
    same_again,
)
from posteriori.experience.spaces import FlatVector, check_spaces
from posteriori.experience.worker import Worker, WorkerFailed

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
Backend = Literal["auto", "gymnasium", "envpool", "subprocess"]
Maker = Callable[[], gym.Env]


def make_vector(
    env: EnvLike,
    *,
    num_envs: int,
    seed: int,
    backend: Backend = "auto",
    patience: Patience | None = None,
) -> gym.vector.VectorEnv:
    """Training environments: flat float32 observations, flat actions, a declared autoreset mode.

    Args:
        env: A registered id ("Hopper-v5", "package:Id-v0"), a function that builds an environment,
            or an object, which is used as it is: one environment for a `gym.Env`, its own number
            for a `VectorEnv`.
        num_envs: How many copies of an id's or a function's environment.
        seed: What EnvPool is seeded with until `reset(seed=...)`, which seeds every backend.
        backend: "auto" takes EnvPool where it has the id with Gymnasium's spaces and time limit,
            or where Gymnasium lacks the id; Gymnasium for everything else. "subprocess" is
            Gymnasium's, each environment in a process of its own.
        patience: With environments that fail; what others have used up of it counts.

    Raises:
        ValueError: the id is unknown, or the environment's spaces, observations or autoreset mode
            cannot be used.
        ImportError: the environment's simulator, or EnvPool if asked for, is not installed.
        TypeError: `env` is nothing that an environment can be made of.
    """
    _check_arguments(env, num_envs, backend)
    failures = Failures(patience or Patience(), environment_name(env))
    if isinstance(env, VectorEnv):
        return Together(FlatVector(env, failures.name), failures)
    if backend == "envpool":
        require_envpool(str(env))
    if backend == "envpool" or (
        backend == "auto" and isinstance(env, str) and backends_of(env)[0] == "envpool"
    ):
        return Together(
            FlatVector(envpool.Pool(str(env), num_envs, seed=seed), failures.name), failures
        )
    if isinstance(env, gym.Env):
        return _vector([same_again(env)], failures)
    return _vector(_makers(env, num_envs, None), failures, apart=backend == "subprocess")


def make_reference(
    env: EnvLike,
    *,
    num_envs: int,
    render_mode: str | None = None,
    backend: Backend = "auto",
    patience: Patience | None = None,
) -> gym.vector.VectorEnv:
    """Evaluation environments: Gymnasium's own, whatever backend trains; fresh copies of an object.

    Environment i of `reset(seed=s)` starts as `gym.make(id).reset(seed=s + i)` does. An id that
    EnvPool alone has is evaluated in EnvPool.

    Args:
        env: As for `make_vector`.
        num_envs: How many copies.
        render_mode: Of the environments, such as "rgb_array".
        backend: The one that trains. "subprocess" has these in processes of their own too.
        patience: With environments that fail; what others have used up of it counts.

    Raises:
        ValueError: as for `make_vector`, or the environment was built for another render mode.
        ImportError: the environment's simulator is not installed.
        TypeError: an object can be neither rebuilt nor copied.
    """
    _check_arguments(env, num_envs, "auto")
    where = " in a video" if render_mode else " in an evaluation"
    failures = Failures(patience or Patience(), environment_name(env), where)
    if isinstance(env, str) and find_spec(env) is None and backends_of(env) == ("envpool",):
        pool = envpool.Pool(env, num_envs, seed=0, render_mode=render_mode)
        return Together(FlatVector(pool, env), failures)
    apart = backend == "subprocess" and not isinstance(env, gym.Env | VectorEnv)
    return _vector(_makers(env, num_envs, render_mode), failures, apart=apart)


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


def _makers(env: EnvLike, num_envs: int, render_mode: str | None) -> list[Maker]:
    """Functions that build environments like `env`, whenever they are called."""
    if isinstance(env, VectorEnv):
        make: Maker = partial(one_of, env, render_mode)
    elif isinstance(env, gym.Env):
        make = partial(copy_of, env, render_mode)
    elif isinstance(env, str):
        make = partial(make_from_spec, require_spec(env), render_mode)
    else:
        make = partial(call_factory, env, render_mode)
    return [make] * num_envs


def _vector(makers: list[Maker], failures: Failures, *, apart: bool = False) -> VectorEnv:
    """Environments side by side; `apart`, each in a process of its own."""
    name = failures.name
    places: list[Callable[[], Place]] = [
        partial(Worker, make, name, failures.patience.timeout) if apart else partial(Here, make)
        for make in makers
    ]
    if not apart:
        guarded = Guarded(places, failures)
        return FlatVector(guarded, environment_name(guarded.envs[0]))
    try:
        return FlatVector(Guarded(places, failures), name)
    except (WorkerFailed, TimeoutError) as cause:
        raise ValueError(
            f"backend 'subprocess' must be able to build {name} in a process of its own, but "
            f"there: {cause}. Correct that, or use backend='gymnasium'."
        ) from cause


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
    if backend == "subprocess" and not isinstance(env, str) and not _is_factory(env):
        raise ValueError(
            "backend 'subprocess' builds each environment in a process of its own, so that env "
            f"must be an id or a function, but it is {environment_name(env)}, an object. Pass a "
            "function that builds it, as in env=lambda: MyEnv()."
        )
    if backend == "subprocess" and sys.platform == "win32":
        raise ValueError(
            "backend 'subprocess' needs Linux or macOS, but this is Windows. Use 'gymnasium'."
        )


def _is_factory(env: Any) -> bool:
    return callable(env) and not isinstance(env, gym.Env | VectorEnv)
