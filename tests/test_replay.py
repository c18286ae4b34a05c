"""Replay: against a list per environment, under any stream of rows."""

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from posteriori.experience.replay import Ring, Rows

ENVS, BATCH = 3, 64
RATES = np.array([0.9, 0.6, 0.2])  # how often each environment has a row


def ring(share: int, window: int, envs: int = ENVS, batch: int = BATCH) -> Ring:
    """Return an empty ring of `share` rows an environment."""
    return Ring(share * envs, envs, obs_size=2, action_size=1, window=window, batch=batch)


def numbered(env: NDArray, number: NDArray, valid: NDArray) -> Rows:
    """Return rows whose every field tells their number and environment."""
    number, valid = number.astype(np.float32), np.asarray(valid, bool)
    obs = np.stack([number, env.astype(np.float32)], axis=-1)
    discount = np.where(number % 3 == 0, 0.0, 1.0).astype(np.float32)
    return Rows(env, obs, -number[:, None], 10 * number, discount, valid)


def fill(store: Ring, stream: oracles.Stream, seed: int, steps: int, lacking: float) -> None:
    """Add the same rows to both: of some environments at a time, some without a transition."""
    rng, envs = np.random.default_rng(seed), len(stream.rows)
    count = np.zeros(envs, int)
    over = np.zeros(envs, bool)
    for _ in range(steps):
        env = np.flatnonzero(rng.random(envs) < RATES[:envs])
        # Two consecutive rows never both lack a transition.
        over[env] = ~over[env] & (rng.random(env.size) < lacking)
        number = 1000 * env + count[env]
        store.add(numbered(env, number, ~over[env]))
        for e, n in zip(env, number, strict=True):
            stream.add(int(e), int(n), bool(~over[e]))
        count[env] += 1


@settings(deadline=None, max_examples=150)
@given(
    envs=st.sampled_from([1, ENVS]),
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 60),
    window=st.integers(2, 5),
    spare=st.integers(1, 8),
    lacking=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_a_sample_is_of_stored_windows_that_begin_with_a_transition(
    envs: int, seed: int, steps: int, window: int, spare: int, lacking: float
) -> None:
    store, stream = ring(window + spare, window, envs), oracles.Stream(envs, window + spare)
    fill(store, stream, seed, steps, lacking)
    allowed = stream.windows(window)
    sample = store.sample(np.random.default_rng(seed))
    if sample is None:
        assert allowed == set()
        return
    drawn = {tuple(int(n) for n in column) for column in sample.obs[..., 0].T}
    assert drawn <= allowed
    assert sample.obs.shape == (window, BATCH, 2)


def test_the_fields_of_a_row_stay_together() -> None:
    store, stream = ring(7, 3), oracles.Stream(ENVS, 7)
    fill(store, stream, seed=0, steps=40, lacking=0.3)
    sample = store.sample(np.random.default_rng(0))
    assert sample is not None
    number = sample.obs[..., 0]
    validity = {n: valid for rows in stream.rows for n, valid in rows}
    np.testing.assert_array_equal(sample.obs[..., 1], number // 1000)
    np.testing.assert_array_equal(sample.action[..., 0], -number)
    np.testing.assert_array_equal(sample.reward, 10 * number)
    np.testing.assert_array_equal(sample.discount, number % 3 != 0)
    np.testing.assert_array_equal(sample.valid, np.vectorize(validity.get)(number))


def test_every_window_is_drawn_alike() -> None:
    store, stream = ring(9, 3, batch=40_000), oracles.Stream(ENVS, 9)
    fill(store, stream, seed=1, steps=30, lacking=0.3)
    allowed = stream.windows(3)
    sample = store.sample(np.random.default_rng(0))
    assert sample is not None
    first, counts = np.unique(sample.obs[0, :, 0], return_counts=True)
    assert set(first) == {window[0] for window in allowed}
    expected = 40_000 / len(allowed)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_the_ring_keeps_the_newest_rows() -> None:
    store = ring(4, 2, envs=1)
    for n in range(11):
        store.add(numbered(np.array([0]), np.array([n]), np.array([True])))
    sample = store.sample(np.random.default_rng(0))
    assert sample is not None
    assert set(sample.obs[..., 0].ravel()) == {7, 8, 9, 10}
    np.testing.assert_array_equal(sample.obs[1] - sample.obs[0], np.tile([1, 0], (BATCH, 1)))


def test_the_only_window_is_found_where_the_ring_begins_anew() -> None:
    # Of rows 0 to 3 the ring keeps 1, 2 and 3, as 3 1 2: the one transition is in its last place.
    store = ring(3, 2, envs=1)
    for n, valid in enumerate([True, False, True, False]):
        store.add(numbered(np.array([0]), np.array([n]), np.array([valid])))
    sample = store.sample(np.random.default_rng(0))
    assert sample is not None
    np.testing.assert_array_equal(sample.obs[..., 0], np.tile([[2], [3]], BATCH))


def test_nothing_is_sampled_before_a_window_fits() -> None:
    store = ring(8, 3)
    for n in range(3):
        assert store.sample(np.random.default_rng(0)) is None
        env = np.arange(ENVS)
        store.add(numbered(env, 1000 * env + n, np.ones(ENVS)))
    assert store.sample(np.random.default_rng(0)) is not None


def test_a_sample_depends_on_its_generator_alone() -> None:
    store = ring(9, 3)
    fill(store, oracles.Stream(ENVS, 9), seed=1, steps=30, lacking=0.3)
    one, same, other = (store.sample(np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one is not None and same is not None and other is not None
    np.testing.assert_array_equal(one.obs, same.obs)
    assert np.any(one.obs != other.obs)


def test_a_sample_does_not_change_with_later_rows() -> None:
    store = ring(4, 2, envs=1)
    for n in range(5):
        store.add(numbered(np.array([0]), np.array([n]), np.array([True])))
    sample = store.sample(np.random.default_rng(0))
    assert sample is not None
    before = sample.obs.copy()
    for n in range(5, 12):
        store.add(numbered(np.array([0]), np.array([n]), np.array([True])))
    np.testing.assert_array_equal(sample.obs, before)


def test_a_replay_that_cannot_hold_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"more than 6 rows.*3 env.*size is 20\. .*at least 21"):
        Ring(20, 3, obs_size=1, action_size=1, window=6, batch=1)
    assert Ring(21, 3, obs_size=1, action_size=1, window=6, batch=1).share == 7
