"""What a policy sees and does: flat vectors, whatever spaces an environment declares."""

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

MOST = 1_000_000  # entries of an observation, or actions to choose from: more is a mistake
_FLAT = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)


class FlatVector(gym.vector.VectorWrapper):
    """A vector environment with flat float32 observations and flat actions.

    Observations are flattened in the order of `gymnasium.spaces.flatten`; Discrete parts become
    one-hot. Box actions are 1-D float32 here and take the environment's own shape and dtype inside;
    Discrete actions start at 0. `info["final_obs"]`, where it is given, is `[B O]` float32 too.
    """

    def __init__(self, env: gym.vector.VectorEnv, name: str):
        """Wrap `env`, called `name` in errors.

        Raises:
            ValueError: the spaces cannot be trained on, or the autoreset mode is not declared.
        """
        super().__init__(env)
        check_spaces(env.single_observation_space, env.single_action_space, name)
        _check_autoreset(env, name)
        self._inner_observation, self._inner_action = (
            env.single_observation_space,
            env.single_action_space,
        )
        shape = (flat_size(self._inner_observation),)
        self.single_observation_space = spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.single_action_space = flat_action_space(self._inner_action)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        """Reset, as `gymnasium.vector.VectorEnv.reset` does."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._flatten(observation), info

    def step(self, actions: Any) -> Any:
        """Step, as `gymnasium.vector.VectorEnv.step` does; `actions` are `[B D]` or `[B]`."""
        space = self._inner_action
        if isinstance(space, spaces.Discrete):
            actions = np.asarray(actions) + space.start
        actions = np.asarray(actions).reshape(self.num_envs, *(space.shape or ()))
        observation, reward, terminated, truncated, info = self.env.step(
            actions.astype(space.dtype)  # a copy, which an environment may write over
        )
        if "final_obs" in info:
            info = {**info, "final_obs": self._flatten_final(info["final_obs"])}
        return self._flatten(observation), reward, terminated, truncated, info

    def _flatten(self, observation: Any) -> np.ndarray:
        return flatten(self._inner_observation, observation, self.num_envs)

    def _flatten_final(self, final: Any) -> np.ndarray:
        """Rows of environments that did not end are zero, as Gymnasium's mask `_final_obs` says."""
        if not (isinstance(final, np.ndarray) and final.dtype == object):
            return self._flatten(final)
        rows = np.zeros((self.num_envs, flat_size(self._inner_observation)), np.float32)
        for i, observation in enumerate(final):
            if observation is not None:
                rows[i] = _flatten_one(self._inner_observation, observation)
        return rows


def flatten(space: gym.Space, observation: Any, num_envs: int) -> np.ndarray:
    """A batch of observations of `space` as float32 rows, `[B O]`."""
    if isinstance(space, spaces.Box):
        return _cast(np.asarray(observation).reshape(num_envs, -1), np.float32)
    if isinstance(space, spaces.Dict):
        parts = [flatten(space[key], observation[key], num_envs) for key in space]
        return np.concatenate(parts, axis=1)
    if isinstance(space, spaces.Tuple):
        pairs = zip(space, observation, strict=True)
        return np.concatenate([flatten(part, x, num_envs) for part, x in pairs], axis=1)
    return np.stack([_flatten_one(space, x) for x in observation])


def _flatten_one(space: gym.Space, observation: Any) -> np.ndarray:
    flat: Any = spaces.flatten(space, observation)
    return np.asarray(flat, np.float32)


def fitting(space: gym.Space, observation: Any) -> Any:
    """Return a copy of an observation of `space`, which an environment may later write over.

    Raises:
        ValueError: it has another shape or another kind of numbers. Bounds are not looked at: many
            environments overstep their own.
    """
    if isinstance(space, spaces.Dict):
        return {key: fitting(space[key], observation[key]) for key in space}
    if isinstance(space, spaces.Tuple):
        return tuple(fitting(part, x) for part, x in zip(space, observation, strict=True))
    given = np.array(observation)
    if isinstance(space, spaces.Box):
        kind = given.dtype == space.dtype or np.can_cast(given.dtype, space.dtype, "same_kind")
        if fits := given.shape == space.shape and kind:
            given = _cast(given, space.dtype)
    else:
        fits = space.contains(observation)
    if not fits:
        raise ValueError(
            f"an observation must fit {space}, but {given.dtype}{list(given.shape)} was given"
            + ("" if isinstance(space, spaces.Box) else f", {observation!r}")
        )
    return given


def _cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Cast; what is too large becomes infinite, and is refused as such."""
    with np.errstate(over="ignore"):
        return array.astype(dtype, copy=False)


def flat_size(space: gym.Space) -> int:
    """How many numbers an observation of `space` has once flat."""
    return spaces.flatdim(space)


def flat_action_space(space: gym.Space) -> spaces.Box | spaces.Discrete:
    """The space of a policy's actions: a 1-D float32 Box, or a Discrete that starts at 0."""
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n))
    assert isinstance(space, spaces.Box)
    low, high = (_cast(bound.ravel(), np.float32) for bound in (space.low, space.high))
    return spaces.Box(low, high, dtype=np.float32)


def check_spaces(observation_space: gym.Space, action_space: gym.Space, name: str) -> None:
    """Refuse spaces of the environment `name` that no policy here can be trained on.

    Raises:
        ValueError: a part of the observation is an image or has no fixed size; the actions are
            neither Discrete nor a Box of floats with finite, ordered bounds.
    """
    for part in _parts(observation_space):
        _check_observation(part, name)
    size = spaces.flatdim(observation_space)
    if size == 0:
        raise ValueError(
            f"Observations must have at least one number, but {name} has {observation_space}. "
            "Add what the policy should see to its observation_space."
        )
    if size > MOST:
        raise ValueError(
            f"Observations must be of at most {MOST:,} numbers once flat, where Discrete has one "
            f"for each value, but those of {name} are of {size:,}: {observation_space}. Wrap it in "
            "gymnasium.wrappers.TransformObservation to return fewer."
        )
    _check_action(action_space, name)


def _parts(space: gym.Space) -> Iterator[gym.Space]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part in space.values() if isinstance(space, spaces.Dict) else space:
            yield from _parts(part)
    else:
        yield space


def _check_observation(part: gym.Space, name: str) -> None:
    if not isinstance(part, _FLAT):
        raise ValueError(
            f"Observations must be vectors of a fixed size, but {name} gives {part}. Wrap it in "
            "gymnasium.wrappers.TransformObservation (or FilterObservation) to return a Box."
        )
    if isinstance(part, spaces.Box) and part.dtype == np.uint8 and len(part.shape) == 3:
        raise ValueError(
            f"Observations must be vectors of features, but {name} gives images, {part}. Wrap it "
            "in gymnasium.wrappers.TransformObservation (or FilterObservation) to return features."
        )


def _check_action(space: gym.Space, name: str) -> None:
    if isinstance(space, spaces.Discrete):
        if space.n > MOST:
            raise ValueError(
                f"There must be at most {MOST:,} actions, but {name} has {space}. Wrap it in "
                "gymnasium.wrappers.TransformAction to choose among fewer."
            )
        return
    if not isinstance(space, spaces.Box) or not np.issubdtype(np.dtype(space.dtype), np.floating):
        raise ValueError(
            f"Actions must be a Box of floats or Discrete, but {name} has {space}. Wrap it in "
            "gymnasium.wrappers.TransformAction to take one of these."
        )
    # As policies see them: in float32 finite bounds may be infinite, and two bounds the same.
    low, high = (_cast(bound, np.float32) for bound in (space.low, space.high))
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(high - low).all()
    if not finite:
        raise ValueError(
            f"Action bounds must be finite in float32, but {name} has {space}. Wrap it in "
            "gymnasium.wrappers.TransformAction with a gymnasium.spaces.Box of the range to search."
        )
    if not (low < high).all() or math.prod(space.shape) == 0:
        raise ValueError(
            f"Every action must have low < high in float32, but {name} has low={low.ravel()} and "
            f"high={high.ravel()}. Wrap it in gymnasium.wrappers.TransformAction to leave out what "
            "is fixed."
        )


def _check_autoreset(env: gym.vector.VectorEnv, name: str) -> None:
    mode = (env.metadata or {}).get("autoreset_mode")
    if not isinstance(mode, gym.vector.AutoresetMode):
        raise ValueError(
            'metadata["autoreset_mode"] must be a gymnasium.vector.AutoresetMode, but '
            f"{name} has {mode!r}. Set it in the metadata of its class to what the environment "
            "does, such as AutoresetMode.NEXT_STEP."
        )
