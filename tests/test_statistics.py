"""Running statistics: against NumPy over all the data at once."""

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posteriori.experience.replay import Rows
from posteriori.experience.statistics import Moments, ReturnUnit


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=10), st.integers(0, 100))
def test_moments_agree_with_numpy_however_the_rows_come(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = [1000 + rng.normal(size=(size, 3)) * [1, 10, 0.1] for size in [*sizes, 2]]
    moments = Moments(3)
    for block in blocks:
        moments.add(block)
    rows = np.concatenate(blocks)
    assert moments.count == len(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.std(), rows.std(axis=0), rtol=1e-6)


def test_moments_do_not_lose_a_small_spread_beside_a_large_mean() -> None:
    # In float32, 1e6 + 0.01 is 1e6.
    rows = 1e6 + 0.01 * np.random.default_rng(0).normal(size=(1000, 1))
    moments = Moments(1)
    for row in rows:
        moments.add(row[None])
    np.testing.assert_allclose(moments.std(), rows.std(axis=0), rtol=1e-6)


def test_an_entry_that_never_changed_is_left_in_its_own_unit() -> None:
    moments = Moments(2)
    np.testing.assert_array_equal(moments.std(), [1.0, 1.0])
    moments.add(np.array([[3.0, 0.0], [3.0, 2.0]]))
    np.testing.assert_array_equal(moments.std(), [1.0, 1.0])
    np.testing.assert_array_equal(moments.mean, [3.0, 1.0])


GAMMA, LIMIT = 0.9, 5.0


def unit(episodes: list[list[list[float]]], *, terminated: bool = True) -> ReturnUnit:
    """Return the unit after each environment's episodes, a row without transition between them."""
    found = ReturnUnit(len(episodes), GAMMA, LIMIT)
    goes_on = 0.0 if terminated else 1.0
    streams = [
        [
            step
            for rewards in env
            for step in [
                *((r, 1.0, True) for r in rewards[:-1]),
                (rewards[-1], goes_on, True),
                (0.0, 1.0, False),
            ]
        ]
        for env in episodes
    ]
    for t in range(max(map(len, streams))):
        env = np.array([e for e, stream in enumerate(streams) if t < len(stream)])
        reward, discount, valid = map(np.array, zip(*(streams[e][t] for e in env), strict=True))
        empty = np.zeros((len(env), 1), np.float32)
        found.add(Rows(env, empty, empty, reward.astype(np.float32), discount, valid))
    return found


EPISODES = [
    [[1.0, 2.0, -1.0], [0.5] * 5],
    [[0.0, 3.0], [1.0], [1.0, -4.0, 2.0, 0.25]],
]


def test_the_unit_of_reward_is_the_spread_of_discounted_returns() -> None:
    returns = oracles.discounted([rewards for env in EPISODES for rewards in env], GAMMA)
    found = unit(EPISODES)
    assert found.value() == pytest.approx(np.std(returns), rel=1e-6)
    assert found.moments.count == len(returns)


def test_the_unit_of_reward_keeps_the_largest_return_within_the_limit() -> None:
    # One return of -60 among 200 of 0.1: their spread is about 4.3, but 60 / 5 = 12.
    episodes = [[[0.1]] * 200 + [[-60.0]]]
    assert unit(episodes).value() == pytest.approx(12.0)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e6])
def test_rewards_in_another_unit_look_the_same(scale: float) -> None:
    scaled = [[[scale * r for r in rewards] for rewards in env] for env in EPISODES]
    assert unit(scaled).value() == pytest.approx(scale * unit(EPISODES).value(), rel=1e-5)


def test_equal_returns_are_kept_within_the_limit() -> None:
    # Without spread, the limit alone decides: 0.02 / 5.
    assert unit([[[0.02]] * 50]).value() == pytest.approx(0.004)


def test_without_reward_the_unit_is_one() -> None:
    assert ReturnUnit(2, GAMMA, LIMIT).value() == 1.0
    assert unit([[[0.0] * 5]]).value() == 1.0


def test_a_return_reaches_into_the_next_episode_where_its_own_was_truncated() -> None:
    # 100 and then 1 in a new episode: in one stream, the second return is 91.
    assert unit([[[100.0], [1.0]]]).moments.mean[0] == pytest.approx(50.5)
    assert unit([[[100.0], [1.0]]], terminated=False).moments.mean[0] == pytest.approx(95.5)


def test_values_of_short_truncated_episodes_are_within_the_limit() -> None:
    # The critic bootstraps at a time limit: its value of 1 a step is 1 / (1 - gamma) = 10.
    found = unit([[[1.0, 1.0]] * 100], terminated=False)
    assert 10 / found.value() == pytest.approx(LIMIT, rel=1e-3)
