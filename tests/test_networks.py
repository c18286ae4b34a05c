"""Networks: the same answer for one state and for many, and a start that explores."""

import functools
import itertools
from collections.abc import Callable

import agents
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from posteriori.models.distributions import DiagonalGaussian, Distribution, FullGaussian
from posteriori.models.networks import DiagonalHead, FullHead, Mlp, elu
from posteriori.models.values import EnsembleValue, Value

OBS, ACTIONS = 5, 3
every_policy = pytest.mark.parametrize("kind", agents.POLICIES)
every_critic = pytest.mark.parametrize("kind", agents.CRITICS)


@functools.cache
def policy(kind: str) -> Callable[[Array], Distribution]:
    """Return a new policy."""
    return eqx.filter_jit(agents.networks(kind, "scalar", OBS, ACTIONS).policy)


@functools.cache
def critic(kind: str) -> Callable[[Array, Array], Value | EnsembleValue]:
    """Return a new critic."""
    return eqx.filter_jit(agents.networks("diagonal", kind, OBS, ACTIONS).critic)


def test_elu_and_its_slope_are_those_of_jax() -> None:
    # Also at 0 and where e^x leaves float32's range, in both directions.
    x = jnp.array([-1e4, -3.0, -1e-3, 0.0, 1e-3, 3.0, 1e4])
    np.testing.assert_allclose(elu(x), jax.nn.elu(x), rtol=0, atol=1e-7)
    slopes = [jax.vmap(jax.grad(f))(x) for f in (elu, jax.nn.elu)]
    np.testing.assert_allclose(*slopes, rtol=1e-6)


@every_policy
def test_a_policy_answers_each_state_by_itself(kind: str) -> None:
    obs = jax.random.normal(jax.random.key(0), (2, 4, OBS))
    answer = policy(kind)(obs)
    assert isinstance(answer, Distribution)
    assert answer.mode().shape == (2, 4, ACTIONS)
    for at in np.ndindex(2, 4):
        one = jax.tree.leaves(policy(kind)(obs[at]))
        many = jax.tree.leaves(answer)
        for x, y in zip(one, many, strict=True):
            np.testing.assert_allclose(x, y[at], rtol=1e-4, atol=1e-6)


@every_critic
def test_a_critic_answers_each_atom_of_each_state_by_itself(kind: str) -> None:
    obs_key, action_key = jax.random.split(jax.random.key(0))
    obs = jax.random.normal(obs_key, (4, OBS))
    action = jax.random.normal(action_key, (2, 4, ACTIONS))
    answer = critic(kind)(obs, action)
    assert isinstance(answer, EnsembleValue if kind == "ensemble" else Value)
    assert answer.mean().shape == (2, 4)
    for n, s in np.ndindex(2, 4):
        one = critic(kind)(obs[s], action[n, s]).mean()
        np.testing.assert_allclose(one, answer.mean()[n, s], rtol=1e-4, atol=1e-5)


@every_critic
def test_a_critic_depends_on_state_and_action(kind: str) -> None:
    origin = critic(kind)(jnp.zeros(OBS), jnp.zeros(ACTIONS)).mean()
    assert float(origin) != float(critic(kind)(jnp.ones(OBS), jnp.zeros(ACTIONS)).mean())
    assert float(origin) != float(critic(kind)(jnp.zeros(OBS), jnp.ones(ACTIONS)).mean())


@every_policy
def test_a_new_policy_explores_everywhere_alike(kind: str) -> None:
    obs = 3 * jax.random.normal(jax.random.key(0), (50, OBS))
    answer = policy(kind)(obs)
    if isinstance(answer, DiagonalGaussian | FullGaussian):
        np.testing.assert_allclose(answer.mean, 0.0, atol=0.05)
        np.testing.assert_allclose(answer.spread()["sigma"], 0.5, atol=0.05)
    else:
        np.testing.assert_allclose(answer.spread()["entropy"], np.log(ACTIONS), atol=0.01)


@pytest.mark.parametrize("std", [1e-3, 0.1, 2.0])
@pytest.mark.parametrize("head", [DiagonalHead, FullHead])
def test_a_gaussian_starts_with_the_standard_deviation_asked_for(
    head: type[DiagonalHead | FullHead], std: float
) -> None:
    answer = head(6, ACTIONS, std, key=jax.random.key(0))(jnp.zeros(6))
    np.testing.assert_allclose(answer.spread()["sigma"], std, rtol=1e-4)


def test_the_factor_of_a_covariance_is_lower_triangular_and_invertible() -> None:
    head = FullHead(6, ACTIONS, 0.5, key=jax.random.key(0))
    tril = np.asarray(head(1e4 * jax.random.normal(jax.random.key(1), (6,))).tril)
    np.testing.assert_array_equal(np.triu(tril, 1), 0.0)
    assert np.all(np.abs(tril[np.tril_indices(ACTIONS, -1)]) > 0)
    assert np.all(np.diag(tril) >= 0)


def test_the_first_layer_of_features_is_normalised_and_bounded() -> None:
    torso = Mlp(OBS, (16,), key=jax.random.key(0))
    features = torso(1e6 * jax.random.normal(jax.random.key(1), (OBS,)))
    assert torso.size == 16
    assert np.all(np.abs(features) < 1.0)
    # Before tanh, layer norm gives mean 0 and variance 1.
    before = np.arctanh(np.asarray(features, np.float64))
    np.testing.assert_allclose([before.mean(), before.std()], [0.0, 1.0], atol=1e-3)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(range(3), 2)))
def test_layers_are_initialised_independently(one: int, other: int) -> None:
    layers = Mlp(8, (8, 8, 8), key=jax.random.key(0)).layers
    assert not np.any(layers[one].weight == layers[other].weight)
