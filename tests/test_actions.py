"""Between a policy's actions and the environment's: bounds per dimension, and not symmetric."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posteriori.models.actions import Actions, BoxActions, DiscreteActions

BOX = BoxActions(jnp.array([-1.0, 0.0, -3.0]), jnp.array([1.0, 10.0, -2.0]))


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ([-1.0, -1.0, -1.0], [-1.0, 0.0, -3.0]),
        ([1.0, 1.0, 1.0], [1.0, 10.0, -2.0]),
        ([0.0, 0.0, 0.0], [0.0, 5.0, -2.5]),
        ([0.5, -0.5, 0.2], [0.5, 2.5, -2.4]),  # low + (a + 1) / 2 * (high - low)
        ([9.0, -9.0, 1.5], [1.0, 0.0, -2.0]),
    ],
)
def test_a_box_maps_its_own_bounds_per_dimension(
    action: list[float], expected: list[float]
) -> None:
    np.testing.assert_allclose(BOX.to_env(jnp.array(action)), expected, rtol=1e-6)


def test_a_command_never_leaves_bounds_that_rounding_would_cross() -> None:
    # In float32 0.1 + (0.7 - 0.1) is above 0.7.
    low, high = np.array([[0.1, -0.3], [0.7, 0.6]], np.float32)
    box = BoxActions(jnp.asarray(low), jnp.asarray(high))
    command = np.asarray(
        jax.vmap(box.to_env)(jnp.linspace(-2, 2, 2001)[:, None] * jnp.ones((1, 2)))
    )
    assert np.all((command >= low) & (command <= high))
    np.testing.assert_array_equal(command[[0, -1]], [low, high])


@pytest.mark.parametrize("axes", [(), (5,), (4, 5)])
def test_a_box_serves_any_state_axes(axes: tuple[int, ...]) -> None:
    action = 2 * jax.random.normal(jax.random.key(0), (*axes, 3))
    flat = jnp.stack([BOX.to_env(a) for a in action.reshape(-1, 3)])
    np.testing.assert_array_equal(BOX.to_env(action).reshape(-1, 3), flat)
    assert BOX.preferences(action)["bounds"].shape == axes


def test_a_critic_sees_the_nearest_action_inside() -> None:
    np.testing.assert_array_equal(
        BOX.clip(jnp.array([-3.0, 0.3, 1.2])), [-1.0, np.float32(0.3), 1.0]
    )


def test_what_is_executed_is_what_a_critic_sees() -> None:
    action = 3 * jax.random.normal(jax.random.key(0), (50, 3))
    np.testing.assert_array_equal(BOX.to_env(action), BOX.to_env(BOX.clip(action)))


@pytest.mark.parametrize(
    ("action", "expected"),
    [([0.0, 1.0, -1.0], 0.0), ([4.0, 5.0, 0.0], -5.0), ([-3.0, 0.0, 0.0], -2.0)],
)
def test_the_preference_for_bounds_is_minus_the_distance_outside(
    action: list[float], expected: float
) -> None:
    # (4, 5) is (3, 4) outside, at a distance of 5.
    assert float(BOX.preferences(jnp.array(action))["bounds"]) == expected


def test_discrete_actions_become_integers_from_their_start() -> None:
    actions = DiscreteActions(3, start=5)
    one_hot = jnp.eye(3)[jnp.array([[2, 0], [1, 1]])]
    np.testing.assert_array_equal(actions.to_env(one_hot), [[7, 5], [6, 6]])
    np.testing.assert_array_equal(actions.clip(one_hot), one_hot)
    assert actions.preferences(one_hot) == {}


@pytest.mark.parametrize("actions", [BOX, DiscreteActions(3)], ids=["box", "discrete"])
def test_a_space_tells_its_size_and_answers_as_actions_do(actions: Actions) -> None:
    assert isinstance(actions, Actions)
    assert actions.size == 3
