"""Collection: the same rows whatever the autoreset mode, and every end of an episode told apart."""

import functools
import itertools
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from jaxtyping import Array, Float

from posteriori.experience.collect import Collector, Episode, NonFinite
from posteriori.experience.noise import ColouredNoise
from posteriori.experience.replay import Ring, Rows
from posteriori.models.actions import BoxActions
from posteriori.models.actor import Actor
from posteriori.models.distributions import DiagonalGaussian
from posteriori.models.networks import Policy
from posteriori.models.scaling import Scaling

ENVS, STEPS = 3, 40
LOW, HIGH = np.array([[-1.0, 0.0], [3.0, 10.0]], np.float32)
MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED)
every_mode = pytest.mark.parametrize("mode", MODES, ids=lambda m: m.name)


class Clock(gym.Env):
    """Observes its number, its episode, the time, and the last action; nothing is random.

    Episodes of number k last k + 1 + (episode mod 3) steps; even ones terminate, odd ones are
    truncated.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (5,), np.float32)
    action_space = gym.spaces.Box(LOW, HIGH)

    def __init__(self, number: int):
        self.number, self.episode, self.time = number, -1, 0
        self.resets: list[int | None] = []
        self.broken: dict[tuple[str, int, int], float] = {}  # (field, episode, time): its value

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict]:
        """Start the next episode."""
        super().reset(seed=seed, options=options)
        self.resets.append(seed)
        self.episode, self.time = self.episode + 1, 0
        return self.observe(np.zeros(2)), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Let time pass."""
        assert self.action_space.contains(action)
        self.time += 1
        over = self.time == self.number + 1 + self.episode % 3
        even = self.episode % 2 == 0
        reward = self.broken.get(("reward", self.episode, self.time), self.time + float(action[1]))
        return self.observe(action), reward, over and even, over and not even, {}

    def observe(self, action: np.ndarray) -> np.ndarray:
        """Return what can be seen."""
        time = self.broken.get(("obs", self.episode, self.time), self.time)
        return np.array([self.number, self.episode, time, *action], np.float32)


class Wave(eqx.Module):
    """A policy's head that depends on the observation alone, and leaves the box at times."""

    def __call__(self, features: Float[Array, " F"]) -> DiagonalGaussian:
        """Return an action of some size, without spread."""
        phase = jnp.array([1.0, 2.0]) * (features[1] + 0.7 * features[2] + 0.1 * features[3])
        return DiagonalGaussian(1.5 * jnp.sin(phase), jnp.full(2, 1e-3))


class Identity(eqx.Module):
    """A torso that passes the observation on."""

    size: int = eqx.field(static=True, default=5)

    def __call__(self, x: Float[Array, " O"]) -> Float[Array, " O"]:
        """Return what is given."""
        return x


ACTOR = Actor(
    Policy(Identity(), Wave()),
    Scaling.identity(5),
    BoxActions(jnp.asarray(LOW), jnp.asarray(HIGH)),
)


def silence() -> ColouredNoise:
    """Return noise that is zero."""
    noise = ColouredNoise(0.0, (ENVS, 2), 0)
    noise.block[:] = 0.0
    return noise


def start(mode: AutoresetMode) -> tuple[Collector, list[Clock]]:
    """Return a collector and its environments."""
    clocks = [Clock(k) for k in range(ENVS)]
    envs = SyncVectorEnv(
        [functools.partial(lambda clock: clock, clock) for clock in clocks], autoreset_mode=mode
    )
    return Collector(envs, silence(), seed=7), clocks


def collect(collector: Collector, steps: int) -> tuple[list[list[Rows]], list[Episode]]:
    """Return each environment's rows, one at a time, and all episodes."""
    streams: list[list[Rows]] = [[] for _ in range(ENVS)]
    finished = []
    for _ in range(steps):
        rows, episodes = collector.collect(ACTOR)
        finished += episodes
        split(streams, rows)
    return streams, finished


def split(streams: list[list[Rows]], rows: list[Rows]) -> None:
    """Append rows to the streams of their environments."""
    for block in rows:
        for i, e in enumerate(block.env):
            streams[e].append(Rows(*(x[i] for x in block)))


@functools.cache
def collected(mode: AutoresetMode) -> tuple[list[list[Rows]], list[Episode]]:
    """Return what a new collector collects."""
    return collect(start(mode)[0], STEPS)


@pytest.mark.parametrize("mode", MODES[1:], ids=lambda m: m.name)
def test_rows_do_not_depend_on_the_autoreset_mode(mode: AutoresetMode) -> None:
    for one, other in zip(collected(mode)[0], collected(MODES[0])[0], strict=True):
        assert min(len(one), len(other)) >= STEPS
        for x, y in zip(one, other, strict=False):
            same = x._replace(action=y.action) if not x.valid else x  # nothing was done there
            for a, b in zip(same, y, strict=True):
                np.testing.assert_array_equal(a, b)


@every_mode
def test_rows_tell_each_episode_from_its_first_observation_to_its_last(mode: AutoresetMode) -> None:
    for k, stream in enumerate(collected(mode)[0]):
        row = iter(stream)
        for episode in range(5):
            length = k + 1 + episode % 3
            for time in range(length):
                found = next(row)
                assert found.valid
                np.testing.assert_array_equal(found.obs[:3], [k, episode, time])
                terminated = time == length - 1 and episode % 2 == 0
                assert found.discount == (0.0 if terminated else 1.0)
                command = ACTOR.actions.to_env(jnp.asarray(found.action))
                assert found.reward == pytest.approx(time + 1 + float(command[1]), rel=1e-6)
            last = next(row)
            assert not last.valid
            np.testing.assert_array_equal(last.obs[:3], [k, episode, length])
            assert (last.reward, last.discount) == (0.0, 1.0)


@every_mode
def test_an_observation_follows_from_the_row_before(mode: AutoresetMode) -> None:
    for stream in collected(mode)[0]:
        for before, after in itertools.pairwise(stream):
            command = ACTOR.actions.to_env(jnp.asarray(before.action)) if before.valid else [0, 0]
            np.testing.assert_allclose(after.obs[3:], command, rtol=1e-6)


@every_mode
def test_rows_hold_the_action_that_was_executed(mode: AutoresetMode) -> None:
    actions = np.stack([row.action for stream in collected(mode)[0] for row in stream if row.valid])
    assert np.all(np.abs(actions) <= 1.0)
    assert np.any(np.abs(actions) == 1.0)


@every_mode
def test_episodes_have_their_undiscounted_return_and_length(mode: AutoresetMode) -> None:
    streams, episodes = collected(mode)
    expected = []
    for stream in streams:
        rewards: list[float] = []
        for row in stream:
            if row.valid:
                rewards.append(float(row.reward))
            else:
                expected.append((sum(rewards), len(rewards)))
                rewards = []
    # With NEXT_STEP an episode is over one step before the row of its last observation.
    assert len(expected) <= len(episodes) <= len(expected) + ENVS
    found = sorted((e.total, e.length) for e in episodes)
    for total, length in expected:
        assert any(length == n and total == pytest.approx(x, rel=1e-6) for x, n in found)


def test_the_share_of_clipped_entries_is_reported() -> None:
    collector, _ = start(MODES[0])
    for _ in range(5):
        obs = collector.obs
        collector.collect(ACTOR)
        outside = np.abs(ACTOR.policy(jnp.asarray(obs)).mode()) > 1
        assert collector.clipped == pytest.approx(np.mean(outside))


@every_mode
def test_exploration_follows_the_noise(mode: AutoresetMode) -> None:
    collector, _ = start(mode)
    collector.noise.block[:] = 100.0  # standard deviations of 0.001
    expected = ACTOR.policy(jnp.asarray(collector.obs)).mode() + 0.1
    (rows, *_), _ = collector.collect(ACTOR)
    np.testing.assert_allclose(rows.action, np.clip(expected, -1, 1), rtol=1e-5)


@every_mode
@pytest.mark.parametrize("steps", range(4))
def test_an_interruption_cuts_every_episode_short(mode: AutoresetMode, steps: int) -> None:
    collector, clocks = start(mode)
    streams, _ = collect(collector, steps)
    before = collector.obs.copy()
    edge = collector.interrupt(seed=50)
    split(streams, [edge])
    np.testing.assert_array_equal(edge.env, np.arange(ENVS))
    np.testing.assert_array_equal(edge.obs, before)
    assert not edge.valid.any()
    assert (edge.discount == 1.0).all()
    assert [clock.resets[-1] for clock in clocks] == [50, 51, 52]
    for stream in streams:
        assert not stream[-1].valid
        assert all(
            not row.valid or row.obs[1] == after.obs[1] for row, after in itertools.pairwise(stream)
        )
    (rows, *_), _ = collector.collect(ACTOR)
    assert rows.valid.all()
    np.testing.assert_array_equal(rows.obs[:, 2], 0.0)


@every_mode
def test_a_return_does_not_count_what_was_before_an_interruption(mode: AutoresetMode) -> None:
    collector, _ = start(mode)
    collect(collector, 2)
    collector.interrupt(seed=50)
    _, episodes = collect(collector, 6)
    assert max(episode.length for episode in episodes) <= 5
    assert any(episode.length == 3 + 1 for episode in episodes)


@every_mode
def test_windows_of_collected_rows_stay_in_their_episode_until_its_last_row(
    mode: AutoresetMode,
) -> None:
    collector, _ = start(mode)
    ring = Ring(ENVS * 20, ENVS, obs_size=5, action_size=2, window=3, batch=500)
    for _ in range(STEPS):
        for rows in collector.collect(ACTOR)[0]:
            ring.add(rows)
    sample = ring.sample(np.random.default_rng(0))
    assert sample is not None
    number, episode, time = (sample.obs[..., i] for i in range(3))
    assert np.all(number == number[0])
    inside = sample.valid[:-1]
    assert np.all((episode[1:] == episode[:-1]) == inside)
    assert np.all((time[1:] == time[:-1] + 1)[inside])


@every_mode
@pytest.mark.parametrize("value", [np.nan, np.inf, -2e8])
@pytest.mark.parametrize(
    ("field", "episode", "time"), [("reward", 0, 2), ("obs", 0, 1), ("obs", 0, 2), ("obs", 1, 0)]
)
def test_a_number_that_is_none_is_refused(
    mode: AutoresetMode, field: str, episode: int, time: int, value: float
) -> None:
    # Environment 1's first episode has two steps: (0, 2) is its last observation, (1, 0) the first
    # of the next.
    collector, clocks = start(mode)
    clocks[1].broken[field, episode, time] = value
    name = {"obs": "observation"}.get(field, field)
    step = time if episode == 0 else 2 + (mode is AutoresetMode.NEXT_STEP)
    entry = " in entry 2" if field == "obs" else ""
    told = f"environment 1 gave {value}{entry} at its step {step}[.] Mend"
    with pytest.raises(NonFinite, match=f"every {name} must be finite, and .* 1e[+]08, but {told}"):
        collect(collector, 3)


def test_an_action_that_is_none_never_reaches_the_environment() -> None:
    collector, clocks = start(AutoresetMode.NEXT_STEP)
    taken = [clock.time for clock in clocks]
    collector.noise.block[:] = np.nan
    with pytest.raises(
        NonFinite, match=r"the policy's for environment 0 was .*nan.* its step 1[.]"
    ):
        collect(collector, 1)
    assert [clock.time for clock in clocks] == taken


def test_a_first_observation_that_is_none_is_refused() -> None:
    clock = Clock(0)
    clock.broken["obs", 0, 0] = np.nan
    with pytest.raises(NonFinite, match=r"environment 0 gave .*nan"):
        Collector(SyncVectorEnv([lambda: clock]), ColouredNoise(0.0, (1, 2), 0), seed=0)
