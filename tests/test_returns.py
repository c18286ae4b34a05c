"""n-step returns: against a walk along each window, and blind beyond an episode's end."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from posteriori.algorithms.returns import n_step

ROWS, WINDOWS = 6, 4
solve = jax.jit(n_step)


def streams(elements: st.SearchStrategy, dtype: type) -> st.SearchStrategy[NDArray]:
    """Return a strategy of arrays [T B]."""
    return arrays(dtype, (ROWS, WINDOWS), elements=elements)


rewards = streams(st.floats(-10, 10, width=32), np.float32)
discounts = streams(st.sampled_from([0.0, 0.5, 0.99, 1.0]), np.float32)
validity = streams(st.booleans(), np.bool_)


@settings(deadline=None, max_examples=200)
@given(rewards, discounts, validity)
def test_n_step_agrees_with_a_walk_along_each_window(
    reward: NDArray, discount: NDArray, valid: NDArray
) -> None:
    found = solve(reward, discount, valid)
    for b in range(WINDOWS):
        total, factor, row = oracles.n_step(reward[:, b], discount[:, b], valid[:, b])
        assert float(found.reward[b]) == pytest.approx(total, rel=1e-5, abs=1e-4)
        assert float(found.discount[b]) == pytest.approx(factor, rel=1e-5)
        assert int(found.end[b]) == row


@settings(deadline=None, max_examples=100)
@given(st.tuples(rewards, discounts, validity), st.tuples(rewards, discounts, validity))
def test_what_lies_beyond_the_end_of_an_episode_changes_nothing(
    own: tuple[NDArray, ...], others: tuple[NDArray, ...]
) -> None:
    valid = own[2]
    beyond = np.cumsum(~valid, axis=0) > 0  # the row of the last observation, and all after it
    garbage = [np.where(beyond, other, x) for x, other in zip(own, others, strict=True)]
    garbage[2] &= np.cumsum(beyond, axis=0) != 1  # that row itself stays without transition
    for one, other in zip(solve(*own), solve(*garbage), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("last", [0.0, 1.0], ids=["terminated", "truncated"])
def test_a_window_ends_with_its_episode(last: float) -> None:
    # Two transitions of reward 1 and 2, then the last observation: R = 1 + 0.5 * 2 = 2, and
    # 0.5 * 0.5 = 0.25 to bootstrap with at row 2, unless the second transition terminated. The next
    # episode's 100 is not seen.
    reward = jnp.array([[1.0], [2.0], [100.0], [100.0]])
    discount = 0.5 * jnp.array([[1.0], [last], [1.0], [1.0]])
    valid = jnp.array([[True], [True], [False], [True]])
    found = n_step(reward, discount, valid)
    assert float(found.reward[0]) == 2.0
    assert float(found.discount[0]) == 0.25 * last
    assert int(found.end[0]) == 2


def test_a_whole_window_discounts_once_a_step() -> None:
    # R = 1 + 0.5 + 0.25 and gamma^3 = 0.125; the last row's reward belongs to the next window.
    reward = jnp.array([[1.0], [1.0], [1.0], [100.0]])
    found = n_step(reward, jnp.full((4, 1), 0.5), jnp.ones((4, 1), bool))
    assert (float(found.reward[0]), float(found.discount[0]), int(found.end[0])) == (1.75, 0.125, 3)


def test_a_transition_is_a_window_of_two_rows() -> None:
    found = n_step(jnp.array([[3.0], [9.0]]), jnp.full((2, 1), 0.9), jnp.array([[True], [False]]))
    assert float(found.reward[0]) == 3.0
    assert float(found.discount[0]) == pytest.approx(0.9)
    assert int(found.end[0]) == 1
