"""Vector environments that survive their environments: what fails is rebuilt and starts anew.

The episode in which an environment failed is cut short. `info["restarts"]` says so: a cause for
each environment that was rebuilt in this step, whose observation is the first of a new episode and
whose reward and flags mean nothing.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from posteriori.experience.faults import FAULTS, Failures, told
from posteriori.experience.single import check_first_observation, environment_name
from posteriori.experience.spaces import check_spaces, fitting

logger = logging.getLogger(__name__)

Call = tuple[str, Any]  # ("step", action), or ("reset", (seed, options))


class Description(NamedTuple):
    """What is known of an environment from outside."""

    observation_space: gym.Space
    action_space: gym.Space
    metadata: dict[str, Any]
    render_mode: str | None


class Place(Protocol):
    """Where one environment runs."""

    def describe(self) -> Description:
        """Wait until it is built, and return what it is."""
        ...

    def send(self, call: Call) -> None:
        """Ask for something."""
        ...

    def receive(self) -> Any:
        """Return the answer to what was last asked; raises what went wrong."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """End it; at once if it has failed."""
        ...


class Here:
    """An environment in this process: what hangs here hangs for good."""

    def __init__(self, build: Callable[[], gym.Env]):
        self.env = build()

    def describe(self) -> Description:
        """Return what it is."""
        env = self.env
        return Description(
            env.observation_space, env.action_space, env.metadata or {}, env.render_mode
        )

    def send(self, call: Call) -> None:
        """Remember the call; it is made when its answer is wanted."""
        self.call = call

    def receive(self) -> Any:
        """Make the call."""
        return answer(self.env, self.call)

    def close(self, *, failed: bool = False) -> None:
        """Close the environment; one that has failed may not manage even that."""
        with suppress(*FAULTS) if failed else told_at_close(self.env):
            self.env.close()


@contextmanager
def told_at_close(env: Any) -> Iterator[None]:
    """Turn what an environment raises when it is closed into a warning in the log: all is done."""
    try:
        yield
    except FAULTS as cause:
        logger.warning("%s failed when it was closed: %s", environment_name(env), told(cause))


def answer(env: gym.Env, call: Call) -> Any:
    """Do what a call asks of an environment."""
    name, given = call
    if name == "step":
        return env.step(given)
    seed, options = given
    return env.reset(seed=seed, options=options)


class Guarded(VectorEnv):
    """Environments stepped one by one, of which one may fail without the others.

    It resets at the next step, as EnvPool does. Observations are copies.

    Args:
        makers: Build each environment, now and whenever it has failed.
        failures: How many there may be.

    Raises:
        ValueError: they cannot be trained in.
    """

    def __init__(self, makers: Sequence[Callable[[], Place]], failures: Failures):
        self._makers, self._failures = makers, failures
        self._places: list[Place] = []
        try:
            self._places = [make() for make in makers]
            described = [place.describe() for place in self._places]
            first = described[0]
            name = environment_name(self.envs[0]) if self.envs else failures.name
            check_spaces(first.observation_space, first.action_space, name)
            for env in self.envs[:1]:  # a worker has done it by itself
                check_first_observation(env, name)
        except BaseException:
            self.close_extras()
            raise
        self.num_envs = len(makers)
        self.metadata = {**first.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = first.render_mode
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self.observation_space = batch_space(first.observation_space, self.num_envs)
        self.action_space = batch_space(first.action_space, self.num_envs)
        self._seeds = np.random.default_rng(0)
        self._clear()

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        """Start new episodes; environment i is seeded with `seed + i`."""
        if seed is not None:
            self._seeds = np.random.default_rng([seed, self.num_envs])  # of what is rebuilt later
        self._clear()
        seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        self._ask([("reset", (own, options)) for own in seeds])
        return self._batch(), self._info()

    def step(self, actions: Any) -> Any:
        """Step those within an episode, and reset those whose episode is over."""
        over = (self._terminated | self._truncated).tolist()
        self._clear()
        calls = zip(over, actions, strict=True)
        self._ask([("reset", (None, None)) if end else ("step", action) for end, action in calls])
        flags = self._terminated.copy(), self._truncated.copy()
        return self._batch(), self._rewards, *flags, self._info()

    @property
    def envs(self) -> list[gym.Env]:
        """The environments that are in this process."""
        return [place.env for place in self._places if isinstance(place, Here)]

    def render(self) -> tuple[Any, ...]:
        """Draw the environments that are in this process."""
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **_: Any) -> None:
        """Close every environment."""
        for place in self._places:
            place.close()

    def _clear(self) -> None:
        self._rewards = np.zeros(self.num_envs)
        self._terminated = np.zeros(self.num_envs, np.bool_)
        self._truncated = np.zeros(self.num_envs, np.bool_)
        self._observations: list[Any] = [None] * self.num_envs
        self._restarts: dict[int, str] = {}

    def _ask(self, calls: Sequence[Call]) -> None:
        """Make a call of each environment; those in subprocesses work at the same time."""
        for place, call in zip(self._places, calls, strict=True):
            place.send(call)
        for i, (name, _) in enumerate(calls):
            try:
                self._take(i, name, self._places[i].receive())
            except FAULTS as cause:
                self._rebuild(i, cause)

    def _take(self, i: int, name: str, given: Any) -> None:
        """Keep an answer, after a look at it."""
        if name == "reset":
            observation, _ = given
        else:
            observation, reward, terminated, truncated, _ = given
            self._rewards[i] = _number(reward)
            self._terminated[i], self._truncated[i] = bool(terminated), bool(truncated)
        self._observations[i] = fitting(self.single_observation_space, observation)

    def _rebuild(self, i: int, cause: BaseException) -> None:
        self._rewards[i], self._terminated[i], self._truncated[i] = 0.0, False, False
        while True:
            self._restarts[i] = self._failures.add(i, cause)
            self._places[i].close(failed=True)
            try:
                self._places[i] = place = self._makers[i]()
                place.describe()
                place.send(("reset", (int(self._seeds.integers(2**31)), None)))
                return self._take(i, "reset", place.receive())
            except FAULTS as again:
                cause = again

    def _batch(self) -> Any:
        space = self.single_observation_space
        return concatenate(space, self._observations, create_empty_array(space, self.num_envs))

    def _info(self) -> dict[str, Any]:
        return {"restarts": dict(self._restarts)} if self._restarts else {}


def _number(reward: Any) -> float:
    """Return a reward, which many environments of one's own give as an array of one number."""
    shape = np.shape(reward)
    if np.size(reward) != 1:
        raise ValueError(f"a reward must be one number, but an array {list(shape)} was given")
    return float(np.reshape(reward, ()) if shape else reward)


class Together(gym.vector.VectorWrapper):
    """A vector environment that is reset as a whole where it fails: EnvPool's, or a user's own.

    Args:
        env: The vector environment; a seeded reset must set it right again.
        failures: How many there may be.
    """

    def __init__(self, env: VectorEnv, failures: Failures):
        super().__init__(env)
        self._failures = failures
        self._seeds = np.random.default_rng(0)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        """Start new episodes."""
        if seed is not None:
            self._seeds = np.random.default_rng([seed, self.num_envs])
        try:
            observation, info = self.env.reset(seed=seed, options=options)
            return self._fitting("observation", observation), info
        except FAULTS as cause:
            if options:  # a part was to be reset: what asked for it reckons with the rest as it is
                raise
            return self._start_anew(cause)

    def step(self, actions: Any) -> Any:
        """Step; where that fails, start all environments anew."""
        try:
            observation, reward, terminated, truncated, info = self.env.step(actions)
            reward = np.asarray(reward, np.float64)
            given = {"reward": reward, "terminated": terminated, "truncated": truncated}
            flat = [self._fitting(name, value) for name, value in given.items()]
            return self._fitting("observation", observation), *flat, info
        except FAULTS as cause:
            observation, info = self._start_anew(cause)
        zeros = np.zeros(self.num_envs)
        return observation, zeros, zeros.astype(np.bool_), zeros.astype(np.bool_), info

    def close(self, **kwargs: Any) -> None:
        """Close it."""
        with told_at_close(self.env):
            self.env.close(**kwargs)

    def _fitting(self, name: str, value: Any) -> Any:
        """Return a part of an answer; it must have a row for each environment, and no other shape.

        Raises:
            ValueError: it has.
        """
        space = self.single_observation_space.shape if name == "observation" else ()
        shape = (self.num_envs, *(space or ()))
        if np.shape(value) != shape:
            raise ValueError(
                f"{name} must have shape {list(shape)}, but {list(np.shape(value))} was given"
            )
        return value

    def _start_anew(self, cause: BaseException) -> tuple[Any, dict[str, Any]]:
        while True:
            text = self._failures.add(None, cause)
            try:
                observation, _ = self.env.reset(seed=int(self._seeds.integers(2**31)))
                observation = self._fitting("observation", observation)
            except FAULTS as again:
                cause = again
            else:
                return observation, {"restarts": dict.fromkeys(range(self.num_envs), text)}
