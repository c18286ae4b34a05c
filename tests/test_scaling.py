"""The units in which networks see the world."""

import jax.numpy as jnp
import numpy as np
import pytest

from posteriori.models.scaling import OBSERVATION_LIMIT, Scaling

SCALING = Scaling(jnp.array([1.0, -2.0]), jnp.array([0.5, 4.0]), jnp.asarray(3.0))


@pytest.mark.parametrize("axes", [(), (3,), (2, 3)])
def test_observations_are_centred_and_scaled_per_entry(axes: tuple[int, ...]) -> None:
    obs = np.random.default_rng(0).normal(size=(*axes, 2)).astype(np.float32)
    expected = (obs - [1.0, -2.0]) / [0.5, 4.0]
    np.testing.assert_allclose(
        SCALING.observation(jnp.asarray(obs)), expected, rtol=1e-5, atol=1e-6
    )


def test_outliers_are_limited_on_both_sides() -> None:
    found = SCALING.observation(jnp.array([1e6, -1e6]))
    np.testing.assert_array_equal(found, [OBSERVATION_LIMIT, -OBSERVATION_LIMIT])


def test_the_identity_changes_nothing_within_the_limit() -> None:
    scaling = Scaling.identity(2)
    np.testing.assert_array_equal(scaling.observation(jnp.array([3.0, -9.5])), [3.0, -9.5])
    assert float(scaling.reward) == 1.0
