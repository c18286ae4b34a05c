"""Environments: whatever a user brings becomes flat vectors, or is refused with a cure."""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import jaxtyping
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from posteriori.experience import envpool
from posteriori.experience.envs import (
    environment_name,
    make_reference,
    make_vector,
)
from posteriori.experience.guarded import Guarded, Together
from posteriori.experience.spaces import FlatVector

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
MIXED = spaces.Dict(
    {
        "pose": spaces.Box(-1.0, 1.0, (2, 3), np.float64),
        "gear": spaces.Discrete(4, start=1),
        "parts": spaces.Tuple([spaces.MultiBinary(3), spaces.MultiDiscrete([2, 5])]),
    }
)


class Sampler(gym.Env):
    """Observations drawn from a space; records actions; an episode is `length` steps."""

    def __init__(
        self,
        observation_space: gym.Space = BOX,
        action_space: gym.Space = BOX,
        *,
        length: int = 3,
        render_mode: str | None = None,
    ):
        self.observation_space, self.action_space = observation_space, action_space
        self.length, self.render_mode = length, render_mode
        self.taken: list[Any] = []
        self.seen: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        self.taken.append(action)
        return self._observe(), 1.0, self.t == self.length, False, {}

    def _observe(self) -> Any:
        self.seen.append(self.observation_space.sample())
        return self.seen[-1]


class Uncopyable(Sampler):
    """Holds what cannot be copied, as simulators do."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Uncopyable":
        raise RuntimeError("handle of a simulator")


class Unshaped(Sampler):
    """Its observations do not have the shape of its space."""

    def _observe(self) -> Any:
        return np.zeros(5, np.float32)


class Old(Sampler):
    """Returns an observation alone from reset, as Gym did."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return super().reset(seed=seed, options=options)[0]


@pytest.fixture
def untyped() -> Iterator[None]:
    """What a user sees, who runs without the type checks of these tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def sync(mode: AutoresetMode, space: gym.Space = BOX) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Sampler(copy.deepcopy(space))] * 2, autoreset_mode=mode)


def refused(error: type[Exception], text: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=re.escape(text)):
        call()


# What comes out


@pytest.mark.parametrize("backend", ["auto", "gymnasium", "envpool"])
@pytest.mark.parametrize(
    ("env_id", "size", "action_space"),
    [
        ("BipedalWalker-v3", 24, spaces.Box(-1.0, 1.0, (4,), np.float32)),
        ("CartPole-v1", 4, spaces.Discrete(2)),
    ],
)
def test_an_id_becomes_flat_vectors(
    env_id: str, size: int, action_space: gym.Space, backend: Any
) -> None:
    envs = make_vector(env_id, num_envs=3, seed=0, backend=backend)
    assert isinstance(envs.unwrapped, Guarded) == (backend == "gymnasium")
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.single_observation_space.shape == (size,)
    assert envs.single_action_space == action_space
    first, _ = envs.reset(seed=1)
    envs.action_space.seed(0)
    for observation in (first, envs.step(envs.action_space.sample())[0]):
        assert observation.shape == (3, size)
        assert observation.dtype == np.float32


@pytest.mark.parametrize("space", [MIXED, spaces.Discrete(5), spaces.Box(0.0, 1.0, (2, 2))])
def test_observations_are_flattened_in_gymnasiums_order(space: gym.Space) -> None:
    env = Sampler(space)
    envs = make_vector(env, num_envs=1, seed=0)
    assert envs.single_observation_space.shape == (spaces.flatdim(space),)
    given = [envs.reset(seed=3)[0], envs.step(np.zeros((1, 2), np.float32))[0]]
    expected = [spaces.flatten(space, seen) for seen in env.seen[-2:]]
    np.testing.assert_array_equal(np.concatenate(given), np.asarray(expected, np.float32))


def test_actions_take_the_shape_and_dtype_of_the_environment() -> None:
    low = np.array([[-1.0, -2.0, -3.0], [0.0, 1.0, 2.0]])
    env = Sampler(action_space=spaces.Box(low, low + 1, dtype=np.float64))
    envs = make_vector(env, num_envs=1, seed=0)
    np.testing.assert_array_equal(envs.single_action_space.low, low.ravel())  # pyright: ignore[reportAttributeAccessIssue]
    envs.reset(seed=0)
    envs.step(low.ravel()[None].astype(np.float32))
    np.testing.assert_array_equal(env.taken[0], low)
    assert env.taken[0].dtype == np.float64


def test_discrete_actions_start_at_zero() -> None:
    env = Sampler(action_space=spaces.Discrete(3, start=5))
    envs = make_vector(env, num_envs=1, seed=0)
    assert envs.single_action_space == spaces.Discrete(3)
    envs.reset(seed=0)
    envs.step(np.array([2]))
    assert env.taken == [7]


@pytest.mark.parametrize("backend", ["gymnasium", "envpool"])
def test_the_same_seed_gives_the_same_rollout(backend: Any) -> None:
    def rollout(construction: int, seed: int) -> np.ndarray:
        envs = make_vector("BipedalWalker-v3", num_envs=2, seed=construction, backend=backend)
        envs.action_space.seed(0)
        envs.reset(seed=99)  # what came before does not matter
        first, _ = envs.reset(seed=seed)
        steps = [envs.step(envs.action_space.sample())[0] for _ in range(60)]
        return np.stack([first, *steps])

    np.testing.assert_array_equal(rollout(0, 7), rollout(1, 7))
    assert (rollout(0, 7)[0] != rollout(0, 8)[0]).any()


def test_pools_of_neighbouring_seeds_share_no_environment() -> None:
    starts = [make_vector("HalfCheetah-v5", num_envs=4, seed=0).reset(seed=s)[0] for s in range(3)]
    assert len(np.unique(np.concatenate(starts), axis=0)) == 12


def test_a_pool_is_seeded_when_it_is_built() -> None:
    def first(seed: int) -> np.ndarray:
        return make_vector("Pendulum-v1", num_envs=2, seed=seed).reset()[0]

    np.testing.assert_array_equal(first(3), first(3))
    assert (first(3) != first(4)).any()


# What goes in


def test_a_function_is_called_for_each_environment() -> None:
    envs = make_vector(Sampler, num_envs=3, seed=0)
    observation, _ = envs.reset(seed=0)
    assert envs.num_envs == 3
    assert len(np.unique(observation, axis=0)) == 3


def test_an_object_is_one_environment() -> None:
    assert make_vector(Sampler(), num_envs=8, seed=0).num_envs == 1


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_vector_object_keeps_its_size_and_autoreset_mode(mode: AutoresetMode) -> None:
    envs = make_vector(sync(mode), num_envs=8, seed=0)
    assert envs.num_envs == 2
    assert envs.metadata["autoreset_mode"] is mode


def test_final_observations_of_same_step_autoreset_are_flat() -> None:
    inner = sync(AutoresetMode.SAME_STEP, MIXED)
    envs = make_vector(inner, num_envs=2, seed=0)
    envs.reset(seed=0)
    inner.envs[1].unwrapped.length = 1  # pyright: ignore[reportAttributeAccessIssue]
    info = envs.step(np.zeros((2, 2), np.float32))[-1]
    # The second saw its first observation, the last of the episode, and the first of the next.
    seen = inner.envs[1].unwrapped.seen  # pyright: ignore[reportAttributeAccessIssue]
    last: Any = spaces.flatten(MIXED, seen[-2])
    np.testing.assert_array_equal(info["final_obs"], [0 * last, last.astype(np.float32)])
    np.testing.assert_array_equal(info["_final_obs"], [False, True])


def test_a_masked_reset_reaches_a_vector_without_autoreset() -> None:
    envs = make_vector(sync(AutoresetMode.DISABLED), num_envs=2, seed=0)
    before, _ = envs.reset(seed=0)
    after, _ = envs.reset(options={"reset_mask": np.array([False, True])})
    np.testing.assert_array_equal((before != after).any(axis=1), [False, True])


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ("Hopper-v5", "Hopper-v5"),
        (gym.make("Pendulum-v1"), "Pendulum-v1"),
        (gym.wrappers.TimeLimit(Sampler(), 5), "Sampler"),
        (Sampler, "Sampler"),
        (sync, "sync"),
    ],
)
def test_an_environment_is_called_what_its_user_calls_it(env: Any, name: str) -> None:
    assert environment_name(env) == name


# Which backend


def test_an_id_of_envpool_alone_trains_and_is_evaluated_there() -> None:
    for envs in (
        make_vector("CheetahRun-v1", num_envs=2, seed=0),
        make_reference("CheetahRun-v1", num_envs=2),
    ):
        assert isinstance(envs, Together)
        assert isinstance(envs.env, FlatVector)
        assert isinstance(envs.env.env, envpool.Pool)
        # Eight positions and nine velocities, in a Dict.
        assert envs.reset(seed=0)[0].shape == (2, 17)


# Evaluation


def test_the_reference_is_gymnasiums_own() -> None:
    envs = make_reference("BipedalWalker-v3", num_envs=2)
    assert isinstance(envs.unwrapped, Guarded)
    first, _ = envs.reset(seed=5)
    expected, _ = gym.make("BipedalWalker-v3").reset(seed=6)
    np.testing.assert_array_equal(first[1], expected)


def test_the_reference_of_an_object_with_a_spec_is_rebuilt() -> None:
    envs = make_reference(gym.make("Pendulum-v1", g=5.0), num_envs=2, render_mode="rgb_array")
    assert isinstance(envs.unwrapped, Guarded)
    assert envs.num_envs == 2
    assert [env.unwrapped.g for env in envs.unwrapped.envs] == [5.0, 5.0]  # pyright: ignore[reportAttributeAccessIssue]
    envs.reset(seed=0)
    frames = envs.render()
    assert frames is not None
    assert np.asarray(frames[0]).shape == (500, 500, 3)


def test_the_reference_of_an_object_without_a_spec_is_a_copy() -> None:
    env = Sampler(length=2)
    envs = make_reference(env, num_envs=2)
    assert isinstance(envs.unwrapped, Guarded)
    for twin in envs.unwrapped.envs:
        assert isinstance(twin, Sampler)
        assert twin is not env
        assert twin.length == 2


def test_the_reference_keeps_a_wrapper_that_its_spec_cannot_rebuild() -> None:
    class Halved(gym.Wrapper):
        def step(self, action: Any) -> Any:
            observation, reward, *rest = self.env.step(action)
            return observation, float(reward) / 2, *rest

    envs = make_reference(Halved(gym.make("Pendulum-v1")), num_envs=1)
    assert isinstance(envs.unwrapped, Guarded)
    assert isinstance(envs.unwrapped.envs[0], Halved)


def test_the_reference_of_a_vector_is_rebuilt_from_its_spec() -> None:
    vector = gym.make_vec("Pendulum-v1", num_envs=3, vectorization_mode="sync", g=5.0)
    envs = make_reference(vector, num_envs=2)
    assert isinstance(envs.unwrapped, Guarded)
    assert [env.unwrapped.g for env in envs.unwrapped.envs] == [5.0, 5.0]  # pyright: ignore[reportAttributeAccessIssue]


class Plain(CartPoleEnv):
    """Takes no render mode."""

    def __init__(self) -> None:
        super().__init__()


def test_an_environment_need_not_take_a_render_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        gym.registry, "Plain-v0", EnvSpec("Plain-v0", lambda **given: Plain(**given))
    )
    for env in ("Plain-v0", gym.make("Plain-v0"), gym.make_vec("Plain-v0", num_envs=2)):
        make_reference(env, num_envs=2).close()
    make_vector("Plain-v0", num_envs=2, seed=0).close()
    with pytest.raises(TypeError, match="render_mode"):
        make_reference("Plain-v0", num_envs=1, render_mode="rgb_array")


def test_a_copy_without_a_mode_does_not_take_that_of_the_original() -> None:
    shown = gym.make("Pendulum-v1", render_mode="rgb_array")
    assert make_reference(shown, num_envs=1).render_mode is None


def test_a_function_is_told_the_render_mode_if_it_takes_it() -> None:
    envs = make_reference(Sampler, num_envs=1, render_mode="rgb_array")
    assert envs.render_mode == "rgb_array"
    refused(
        ValueError,
        "Rendering needs an environment with render_mode='rgb_array', but Sampler has None.",
        lambda: make_reference(lambda: Sampler(), num_envs=1, render_mode="rgb_array"),
    )


def test_what_cannot_be_rebuilt_is_refused() -> None:
    refused(
        TypeError,
        "Uncopyable cannot be rebuilt from a spec nor copied (handle of a simulator). Pass a "
        "function that builds it, as in env=lambda: MyEnv().",
        lambda: make_reference(Uncopyable(), num_envs=1),
    )
    refused(
        TypeError,
        "the vector environment SyncVectorEnv has no Gymnasium spec to rebuild them from. Pass a "
        "function that builds one as evaluation_env.",
        lambda: make_reference(sync(AutoresetMode.NEXT_STEP), num_envs=1),
    )


# Refusals


def test_spaces_are_checked_before_training() -> None:
    for make in (
        lambda env: make_vector(env, num_envs=1, seed=0),
        lambda env: make_reference(env, num_envs=1),
    ):
        refused(ValueError, "Sampler gives Text", lambda m=make: m(lambda: Sampler(spaces.Text(5))))
    refused(
        ValueError,
        "CarRacing-v3 gives images",
        lambda: make_vector("CarRacing-v3", num_envs=1, seed=0),
    )


def test_first_observations_of_another_shape_are_refused() -> None:
    refused(
        ValueError,
        "must have the shape of its space, (2,), but Unshaped gave (5,). Correct its",
        lambda: make_vector(Unshaped, num_envs=2, seed=0),
    )


def test_a_reset_without_info_is_refused() -> None:
    refused(
        ValueError,
        "reset must return (observation, info), but Old returned ndarray. Return both",
        lambda: make_vector(Old, num_envs=2, seed=0),
    )


def test_a_vector_that_does_not_say_how_it_resets_is_refused() -> None:
    vector = sync(AutoresetMode.NEXT_STEP)
    vector.metadata = {}
    refused(
        ValueError,
        "but SyncVectorEnv has None. Set it in the metadata of its class",
        lambda: make_vector(vector, num_envs=2, seed=0),
    )


def test_a_function_that_builds_something_else_is_refused() -> None:
    refused(
        TypeError,
        "must return a gymnasium.Env, but <lambda> returned SyncVectorEnv. Return one",
        lambda: make_vector(lambda: sync(AutoresetMode.NEXT_STEP), num_envs=1, seed=0),  # pyright: ignore[reportArgumentType]
    )


@pytest.mark.usefixtures("untyped")
def test_arguments_of_another_type_are_refused() -> None:
    make: Any = make_vector
    refused(TypeError, "but is 3. Pass one, such as", lambda: make(3, num_envs=1, seed=0))
    refused(
        ValueError,
        "backend must be one of auto, gymnasium, envpool, subprocess, but is 'isaac'. Use 'auto'",
        lambda: make("Pendulum-v1", num_envs=1, seed=0, backend="isaac"),
    )


def test_envpool_is_refused_for_what_is_no_id() -> None:
    refused(
        ValueError,
        "backend 'envpool' needs an environment id, but env is Sampler. Use backend='auto'.",
        lambda: make_vector(Sampler(), num_envs=1, seed=0, backend="envpool"),
    )


def test_no_environments_are_refused() -> None:
    for make in (
        lambda: make_vector("Pendulum-v1", num_envs=0, seed=0),
        lambda: make_reference("Pendulum-v1", num_envs=0),
    ):
        refused(ValueError, "num_envs must be at least 1, but is 0.", make)
