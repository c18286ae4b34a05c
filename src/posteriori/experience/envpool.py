"""EnvPool: environments in C++, some ten times faster than Gymnasium's; optional."""

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np

# EnvPool's own spelling of "no limit".
_NO_LIMIT = 2**31 - 1


class Pool(gym.vector.VectorWrapper):
    """An EnvPool vector environment that can be seeded at `reset`, as Gymnasium's can.

    EnvPool takes seeds at construction only, so a seeded reset builds a new pool. It would seed
    environment i with `seed + i`, and runs of seeds 0 and 1 would share all environments but one;
    here the environments' seeds are drawn from `seed`.
    """

    def __init__(self, env_id: str, num_envs: int, *, seed: int, render_mode: str | None = None):
        """Build `num_envs` environments of `env_id`, which `has(env_id)`."""
        self._build = functools.partial(_make, env_id, num_envs, render_mode)
        super().__init__(self._build(seed))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start new episodes, of `seed` if one is given."""
        if seed is not None:
            self.env.close()
            self.env = self._build(seed)
        return self.env.reset(options=options)

    def step(self, actions: np.ndarray) -> Any:
        """Step, with `actions` cast to what the C++ takes (int32 where the space says int64)."""
        dtype = self.env.spec.action_array_spec["action"].dtype  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
        return self.env.step(actions.astype(dtype, copy=False))


def installed() -> bool:
    """Whether EnvPool can be imported here."""
    return _library() is not None


def ids() -> tuple[str, ...]:
    """What EnvPool can run; empty where it is not installed."""
    library = _library()
    return tuple(library.list_all_envs()) if library else ()


def has(env_id: str) -> bool:
    """Whether EnvPool is installed and can run `env_id`."""
    return env_id in ids()


def describe(env_id: str) -> tuple[gym.Space, gym.Space, int | None]:
    """Observation space, action space and time limit (steps, or None) of `env_id`.

    The bounds of observations are not to be trusted: a low of 1.2e-38 in BipedalWalker-v3.

    Raises:
        ValueError: a file that the environment needs is missing.
    """
    library = _library()
    assert library is not None
    with _quiet_casts():
        try:
            spec = library.make_spec(env_id)
        except RuntimeError as cause:
            raise ValueError(
                f"EnvPool needs files of its own for each environment, but {env_id} lacks some: "
                f"{cause} Choose another environment, or see EnvPool's documentation of this one."
            ) from cause
        spaces = spec.gymnasium_observation_space, spec.gymnasium_action_space
    limit = spec.config.max_episode_steps
    return *spaces, None if limit >= _NO_LIMIT else limit


def _make(env_id: str, num_envs: int, render_mode: str | None, seed: int) -> gym.vector.VectorEnv:
    library = _library()
    assert library is not None
    # EnvPool's seeds are int32, so the highest bit goes.
    seeds = np.random.SeedSequence(seed).generate_state(num_envs) >> 1
    with _quiet_casts():
        env = library.make_gymnasium(
            env_id, num_envs=num_envs, seed=seeds.tolist(), render_mode=render_mode
        )
        # EnvPool builds its spaces when they are first asked for, and that is what warns.
        _ = env.observation_space, env.action_space
    return env


@functools.cache
def _library() -> ModuleType | None:
    try:
        import envpool  # takes seconds: only once an environment is asked for
    except ImportError:
        return None
    return envpool


@contextmanager
def _quiet_casts() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")
        yield
