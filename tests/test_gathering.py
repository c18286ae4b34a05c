"""Gathering: what is kept of each step, in which units, and what a resumed run finds again."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from small_runs import LENGTH, RETURN, Counting

from posteriori import Config
from posteriori.experience.envs import make_vector
from posteriori.models.actor import Actor
from posteriori.models.scaling import Scaling
from posteriori.runs.assemble import assemble
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.gathering import Gathering

ENVS = 2
CONFIG = Config(widths=(8,), n_step=2, batch_size=4, replay_size=60, envs=ENVS)


@pytest.fixture
def envs() -> Iterator[VectorEnv]:
    """Return two environments of five-step episodes."""
    made = make_vector(Counting, num_envs=ENVS, seed=0)
    yield made
    made.close()


def gathering(envs: VectorEnv, seed: int = 0, **settings: Any) -> Gathering:
    """Return a gathering of the environments."""
    config = CONFIG if not settings else Config(**(vars(CONFIG) | settings))
    return Gathering(config, envs, 2, seed)


def actor(envs: VectorEnv) -> Actor:
    """Return a policy that has learned nothing."""
    observation, action = envs.single_observation_space, envs.single_action_space
    agent = assemble(CONFIG, observation, action, "Counting")
    return Actor(agent.state.online.policy, Scaling.identity(3), agent.actions)


def kept(one: Gathering) -> dict[str, NDArray]:
    """Return the rows that replay holds, and how many were added."""
    filled = int(min(one.replay.added.max(), one.replay.share))
    rows = {k: v[:, :filled] for k, v in one.replay.rows._asdict().items()}
    return rows | {"added": one.replay.added}


def restored(one: Gathering, other: Gathering) -> Gathering:
    """Return the other, gone on from what a checkpoint would keep of the one."""
    other.restore(one.arrays())
    other.replay.put(one.replay.since(np.zeros(ENVS, np.int64)))
    return other


def steps(one: Gathering, envs: VectorEnv, n: int) -> list[Any]:
    """Step n times; return what each step brought."""
    return [one.step(actor(envs)) for _ in range(n)]


def test_transitions_and_episodes_are_counted(envs: VectorEnv) -> None:
    progress = steps(gathering(envs), envs, LENGTH + 1)
    # The sixth step is the environments' reset.
    assert [p.transitions for p in progress] == [ENVS] * LENGTH + [0]
    assert [len(p.episodes) for p in progress] == [0] * (LENGTH - 1) + [ENVS, 0]
    assert [e.total for e in progress[LENGTH - 1].episodes] == [RETURN] * ENVS


def test_rewards_are_clipped_where_they_are_kept_and_not_where_they_are_reported(
    envs: VectorEnv,
) -> None:
    one = gathering(envs, clip_rewards=2.5)
    progress = steps(one, envs, LENGTH)
    np.testing.assert_array_equal(kept(one)["reward"], [[1, 2, 2.5, 2.5, 2.5]] * ENVS)
    assert progress[-1].episodes[0].total == RETURN


def test_scaling_is_that_of_the_rows_kept(envs: VectorEnv) -> None:
    one = gathering(envs)
    steps(one, envs, 9)
    obs = kept(one)["obs"].reshape(-1, 3)
    scaling = one.scaling()
    np.testing.assert_allclose(scaling.mean, obs.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scaling.std, obs.std(axis=0), rtol=1e-5)
    assert float(scaling.reward) > 1.0


def test_scaling_can_be_turned_off(envs: VectorEnv) -> None:
    one = gathering(envs, normalise_observations=False, scale_rewards=False)
    steps(one, envs, 9)
    scaling = one.scaling()
    np.testing.assert_array_equal(scaling.mean, np.zeros(3))
    np.testing.assert_array_equal(scaling.std, np.ones(3))
    assert float(scaling.reward) == 1.0


def test_an_interruption_leaves_rows_to_bootstrap_from(envs: VectorEnv) -> None:
    one = gathering(envs)
    steps(one, envs, 3)
    last = one.collector.obs.copy()
    one.interrupt(seed=1)
    rows = kept(one)
    np.testing.assert_array_equal(rows["valid"], [[True, True, True, False]] * ENVS)
    np.testing.assert_array_equal(rows["discount"], np.ones((ENVS, 4)))
    np.testing.assert_array_equal(rows["obs"][:, 3], last)
    np.testing.assert_array_equal(one.collector.obs[:, 0], [0, 0])
    # Rewards of 1, 2, 3: the return goes on, as at a time limit.
    np.testing.assert_allclose(one.unit.running, [3 + 0.99 * 2 + 0.99**2] * ENVS)


def test_what_was_gathered_comes_back(envs: VectorEnv) -> None:
    one = gathering(envs)
    steps(one, envs, 40)  # the ring of 30 rows an environment has been filled
    arrays, replay = one.arrays(), kept(one)
    other = restored(one, gathering(envs, seed=5))
    assert replay["valid"].shape == (ENVS, 30)
    for have, want in ((other.arrays(), arrays), (kept(other), replay)):
        assert have.keys() == want.keys()
        for name in want:
            np.testing.assert_array_equal(have[name], want[name], err_msg=name)
    for x, y in zip(
        other.scaling().__dict__.values(), one.scaling().__dict__.values(), strict=True
    ):
        np.testing.assert_array_equal(x, y)
    # The generators go on where they were: the same batch, the same noise.
    mine, theirs = other.sample(), one.sample()
    assert mine is not None and theirs is not None
    for x, y in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(x, y)
    noise, its_noise = other.collector.noise, one.collector.noise
    for _ in range(2000):  # beyond the block that was saved
        np.testing.assert_array_equal(noise.sample(), its_noise.sample())


def test_rows_go_on_where_the_ring_was(envs: VectorEnv) -> None:
    one = gathering(envs)
    steps(one, envs, 33)
    other = restored(one, gathering(envs))
    before = kept(other)["obs"].copy()
    other.interrupt(seed=1)
    now = kept(other)
    changed = np.flatnonzero((now["obs"] != before).any(axis=(0, 2)))
    assert changed.tolist() == [33 % 30]
    assert now["added"].tolist() == [34, 34]


def test_other_environments_are_refused(envs: VectorEnv) -> None:
    one = gathering(envs)
    steps(one, envs, 3)
    three = make_vector(Counting, num_envs=3, seed=0)
    with pytest.raises(CheckpointError, match=r"obs must be float32\[3, 3\], but it is float32\["):
        Gathering(CONFIG, three, 2, 0).restore(one.arrays())
    three.close()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"noise.position": np.asarray(2**40)}, "noise.position must lie in noise.block"),
        ({"over": np.zeros(ENVS)}, r"over must be bool\[2\], but it is float64\[2\]. Continue a"),
        ({"rng": np.frombuffer(b"{}", np.uint8)}, "a generator must have the state of one, but"),
        ({"rng": np.frombuffer(b"{", np.uint8)}, "a generator must have the state of one, but"),
    ],
)
def test_what_no_run_has_saved_is_refused(
    envs: VectorEnv, changes: dict[str, NDArray], text: str
) -> None:
    one = gathering(envs)
    with pytest.raises(CheckpointError, match=text):
        gathering(envs).restore(one.arrays() | changes)


def test_the_same_seed_gathers_the_same(envs: VectorEnv) -> None:
    rows = []
    for seed in (0, 0, 1):
        one = gathering(envs, seed=seed)
        steps(one, envs, 7)
        rows.append(kept(one))
    first, again, other = rows
    for name in ("obs", "action"):
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()


def test_discrete_actions_are_kept_as_one_hot_vectors() -> None:
    envs = make_vector("CartPole-v1", num_envs=ENVS, seed=0, backend="gymnasium")
    assert isinstance(envs.single_action_space, gym.spaces.Discrete)
    observation, action_space = envs.single_observation_space, envs.single_action_space
    agent = assemble(CONFIG, observation, action_space, "CartPole-v1")
    policy = Actor(agent.state.online.policy, Scaling.identity(4), agent.actions)
    one = gathering(envs)
    for _ in range(3):
        one.step(policy)
    action = kept(one)["action"]
    assert action.shape == (ENVS, 3, 2)
    np.testing.assert_array_equal(action.sum(axis=-1), np.ones((ENVS, 3)))
    envs.close()
