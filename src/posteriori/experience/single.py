"""Single environments: built by a user's function, copied from an object, rebuilt from a spec."""

import copy
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from posteriori.experience.registry import make_env


def environment_name(env: Any) -> str:
    """What a user calls an environment: its id, or else its class or function."""
    spec = getattr(env, "spec", None)
    if isinstance(env, str):
        return env
    if isinstance(spec, EnvSpec):
        return spec.id
    inner = env.unwrapped if isinstance(env, gym.Env | VectorEnv) else env
    return getattr(inner, "__name__", type(inner).__name__)


def call_factory(factory: Callable[..., Any], render_mode: str | None) -> gym.Env:
    """What `factory` builds; it is told the render mode if there is one and it takes it.

    Raises:
        TypeError: it built something else than an environment.
        ValueError: it built an environment of another render mode.
    """
    takes_mode = render_mode is not None and "render_mode" in _parameters(factory)
    env = factory(render_mode=render_mode) if takes_mode else factory()
    if not isinstance(env, gym.Env):
        raise TypeError(
            "A function given as env must return a gymnasium.Env, but "
            f"{environment_name(factory)} returned {type(env).__name__}. Return one environment; "
            "it is called once for each of num_envs."
        )
    _check_render_mode(env, render_mode)
    return env


def copy_of(env: gym.Env, render_mode: str | None) -> gym.Env:
    """A second environment like `env`: from its spec where that tells all, or else a deep copy.

    Raises:
        TypeError: there is neither.
        ValueError: the copy has another render mode.
    """
    try:
        if env.spec is not None:
            return make_env(env.spec, render_mode)
    except ValueError:  # from a wrapper that does not record its arguments
        pass
    try:
        twin = copy.deepcopy(env)
    except Exception as cause:  # whatever the simulator raises where it cannot be copied
        raise TypeError(
            f"Evaluation needs a second environment, but {environment_name(env)} cannot be rebuilt "
            f"from a spec nor copied ({cause}). Pass a function that builds it, as in "
            "env=lambda: MyEnv()."
        ) from cause
    _check_render_mode(twin, render_mode)
    return twin


def same_again(env: gym.Env) -> Callable[[], gym.Env]:
    """A function that gives `env` itself, and where that has failed another from its spec.

    Without a spec that tells all, it is given again, to be reset: better than none.
    """
    given = False

    def make() -> gym.Env:
        nonlocal given
        first, given = not given, True
        if first or env.spec is None:
            return env
        with suppress(ValueError):  # from a wrapper that does not record its arguments
            return make_env(env.spec, env.render_mode)
        return env

    return make


def one_of(env: VectorEnv, render_mode: str | None) -> gym.Env:
    """One of the environments of the vector `env`, from its spec.

    Raises:
        TypeError: it has none.
    """
    spec = env.spec
    if not isinstance(spec, EnvSpec):
        raise TypeError(
            "Evaluation needs environments of its own, but the vector environment "
            f"{environment_name(env)} has no Gymnasium spec to rebuild them from. Pass a function "
            "that builds one as evaluation_env."
        )
    ours = ("num_envs", "vectorization_mode", "render_mode")
    kwargs = {name: value for name, value in spec.kwargs.items() if name not in ours}
    return make_env(spec.id, render_mode, **kwargs)


def check_first_observation(env: gym.Env, name: str) -> None:
    """Reset `env`, and refuse a first observation that is not what it declares.

    Raises:
        ValueError: reset returns no info, or an observation of another shape than its space.
    """
    first = env.reset()
    if not (isinstance(first, tuple) and len(first) == 2):
        raise ValueError(
            f"reset must return (observation, info), but {name} returned {type(first).__name__}. "
            "Return both, as Gymnasium's API asks since 0.26."
        )
    space = env.observation_space
    if isinstance(space, gym.spaces.Box) and np.shape(first[0]) != space.shape:
        raise ValueError(
            f"The first observation must have the shape of its space, {space.shape}, but {name} "
            f"gave {np.shape(first[0])}. Correct its observation_space or what reset returns."
        )


def _parameters(factory: Callable[..., Any]) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(factory).parameters)
    except ValueError:  # some builtins have none to show
        return ()


def _check_render_mode(env: gym.Env, render_mode: str | None) -> None:
    if render_mode is not None and env.render_mode != render_mode:
        raise ValueError(
            f"Rendering needs an environment with render_mode={render_mode!r}, but "
            f"{environment_name(env)} has {env.render_mode!r}. Pass a function that takes "
            "render_mode and hands it on."
        )
