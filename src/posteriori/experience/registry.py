"""Environment ids: what is registered, what runs it, and why one cannot be made."""

import difflib
import importlib
from typing import Any, Literal

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, find_highest_version

from posteriori.experience import envpool
from posteriori.experience.spaces import check_spaces, flat_action_space, flat_size

BackendName = Literal["gymnasium", "envpool"]

# Gymnasium's own environments by folder, and the extra that brings their simulator.
_EXTRAS = {
    "box2d": "box2d",
    "classic_control": "classic-control",
    "mujoco": "mujoco",
    "phys2d": "jax",
    "tabular": "jax",
    "toy_text": "toy-text",
}


def make_registered(env_id: str, render_mode: str | None = None) -> gym.Env:
    """Gymnasium's own environment of an id.

    Raises:
        ValueError: the id is unknown.
        ImportError: a package that it needs is not installed.
    """
    spec = require_spec(env_id)
    try:
        # Gymnasium's checker warns of what `check_spaces` raises or `FlatVector` mends.
        return make_env(env_id, render_mode)
    except (gym.error.DependencyNotInstalled, ImportError) as cause:
        reason = str(cause).rstrip(".")
        raise ImportError(
            f"{env_id} needs a simulator that cannot be imported here: {reason}. "
            f"{_cure(spec, cause)}"
        ) from cause


def make_env(what: str | EnvSpec, render_mode: str | None, /, **kwargs: Any) -> gym.Env:
    """`gym.make`, which tells the environment its render mode only where that says something.

    A class that cannot render need not take one. None says something where the spec has a mode.
    """
    spec = require_spec(what) if isinstance(what, str) else what
    if render_mode is not None or "render_mode" in spec.kwargs:
        kwargs["render_mode"] = render_mode
    return gym.make(what, disable_env_checker=True, **kwargs)


def make_from_spec(spec: EnvSpec, render_mode: str | None = None) -> gym.Env:
    """The environment of a registration that another process has and this one may lack."""
    gym.registry.setdefault(spec.id, spec)
    return make_registered(spec.id, render_mode)


def require_spec(env_id: str) -> EnvSpec:
    """What Gymnasium has registered as `env_id`.

    Raises:
        ValueError: there is nothing.
    """
    spec = find_spec(env_id)
    if spec is None:
        raise ValueError(_unknown(env_id))
    return spec


def check_known(env_id: str) -> None:
    """Refuse an id that neither Gymnasium nor EnvPool has; nothing is built.

    Raises:
        ValueError: nothing has that id, or the module before its ":" cannot be imported.
    """
    if find_spec(env_id) is None and not envpool.has(env_id):
        raise ValueError(_unknown(env_id))


def find_spec(env_id: str) -> EnvSpec | None:
    """What Gymnasium has registered as `env_id`, or None; "module:Id-v0" imports the module first.

    Raises:
        ValueError: the module cannot be imported.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as cause:
            raise ValueError(
                f"The part of an id before ':' must be a module that registers it, but {module!r} "
                f"of {env_id!r} cannot be imported: {cause}. Install its package or correct it."
            ) from cause
    return gym.registry.get(name)


def backends_of(env_id: str) -> tuple[BackendName, ...]:
    """The backends that run `env_id` with the same spaces, first the one to prefer.

    That is EnvPool, if its time limit is Gymnasium's too.

    Raises:
        ValueError: the id is unknown, or its spaces cannot be trained on.
        ImportError: Gymnasium needs a package for it that is not installed.
    """
    check_known(env_id)
    if find_spec(env_id) is None:
        check_spaces(*envpool.describe(env_id)[:2], env_id)
        return ("envpool",)
    env = make_registered(env_id)
    env.close()
    check_spaces(env.observation_space, env.action_space, env_id)
    if not envpool.has(env_id):
        return ("gymnasium",)
    observation, action, limit = envpool.describe(env_id)
    same_size = flat_size(observation) == flat_size(env.observation_space)
    if not same_size or flat_action_space(action) != flat_action_space(env.action_space):
        return ("gymnasium",)
    same_limit = env.spec is not None and env.spec.max_episode_steps == limit
    return ("envpool", "gymnasium") if same_limit else ("gymnasium", "envpool")


def require_envpool(env_id: str) -> None:
    """Refuse an id that EnvPool cannot run as Gymnasium declares it.

    Raises:
        ImportError: EnvPool is not installed.
        ValueError: EnvPool lacks the id, or has it with other spaces.
    """
    if not envpool.installed():
        raise ImportError(
            "backend 'envpool' needs EnvPool, which is not installed here. "
            "Run `pip install envpool`, or use backend='auto'."
        )
    if "envpool" not in backends_of(env_id):
        reason = "has other spaces than Gymnasium's" if envpool.has(env_id) else "is missing"
        raise ValueError(
            "backend 'envpool' needs an environment that EnvPool runs as Gymnasium does, but "
            f"{env_id} {reason} there. Use backend='auto'."
        )


def is_newest(env_id: str) -> bool:
    """Whether no higher version of a registered id is registered."""
    spec = gym.registry[env_id]
    return spec.version == find_highest_version(spec.namespace, spec.name)


def _unknown(env_id: str) -> str:
    known = {*gym.registry, *envpool.ids()}
    near = difflib.get_close_matches(env_id, known, n=3, cutoff=0.7)  # `-v0` alone is not near
    cure = f"Did you mean {' or '.join(near)}?" if near else "`posteriori envs` lists what is."
    return (
        f"env must be a registered environment id, but {env_id!r} is not. {cure} "
        "An id of another package needs its module in front, as in 'package:Name-v0'."
    )


def _cure(spec: EnvSpec, cause: ImportError | gym.error.DependencyNotInstalled) -> str:
    """What to do where making `spec` raised `cause`."""
    newest = find_highest_version(spec.namespace, spec.name)
    missing = isinstance(cause, ModuleNotFoundError | gym.error.DependencyNotInstalled)
    if not missing and spec.version != newest:  # Gymnasium keeps the ids of what it has moved away
        return f"Use {spec.id.rpartition('-v')[0]}-v{newest}."
    folders = str(spec.entry_point).partition(":")[0].split(".")
    if folders[:2] == ["gymnasium", "envs"] and folders[2] in _EXTRAS:
        return f'Run `pip install "gymnasium[{_EXTRAS[folders[2]]}]"`.'
    module = getattr(cause, "name", None)
    return f"Run `pip install {module}`." if module else "Install what this names."
