"""What critics say: the categorical projection against C51's loop, and what every value keeps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from numpy.typing import NDArray

from posteriori.models.values import CategoricalValue, EnsembleValue, ScalarValue, Value

LOW, HIGH, POINTS, STATES, ATOMS = -2.0, 4.0, 13, 6, 5
SUPPORT = np.linspace(LOW, HIGH, POINTS)


def categorical(shape: tuple[int, ...], seed: int = 0) -> CategoricalValue:
    """Return distributions of the return that no formula is likely to favour."""
    logits = 2 * np.random.default_rng(seed).normal(size=(*shape, POINTS)).astype(np.float32)
    return CategoricalValue(jnp.asarray(logits), LOW, HIGH)


def scalar(shape: tuple[int, ...], seed: int = 0) -> ScalarValue:
    """Return expected returns."""
    v = np.random.default_rng(seed).normal(size=shape)
    return ScalarValue(jnp.asarray(v, jnp.float32))


every_kind = pytest.mark.parametrize("make", [categorical, scalar], ids=lambda f: f.__name__)
Maker = Callable[..., Value]


def mass(value: CategoricalValue) -> NDArray:
    """Return the probabilities."""
    return np.asarray(value.p, np.float64)


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("reward", [0.0, 0.5, -0.3, 1.7, 100.0, -100.0])
def test_backup_is_the_published_projection(reward: float, discount: float) -> None:
    # The support's points are 0.5 apart: a reward of 0.5 and a discount of 1 meet them exactly.
    value = categorical((STATES,))
    rewards, discounts = jnp.full(STATES, reward), jnp.full(STATES, discount)
    projected = mass(value.backup(rewards, discounts))
    for s in range(STATES):
        expected = oracles.project(SUPPORT, mass(value)[s], reward, discount)
        np.testing.assert_allclose(projected[s], expected, atol=2e-6)


def test_backup_serves_each_state_its_own_reward_and_discount() -> None:
    value = categorical((STATES, 2))
    rng = np.random.default_rng(1)
    reward, discount = rng.normal(size=(STATES, 2)), rng.uniform(size=(STATES, 2))
    projected = mass(value.backup(jnp.asarray(reward), jnp.asarray(discount)))
    for at in np.ndindex(STATES, 2):
        expected = oracles.project(SUPPORT, mass(value)[at], float(reward[at]), float(discount[at]))
        np.testing.assert_allclose(projected[at], expected, atol=2e-6)


def test_a_backup_of_nan_is_nan() -> None:
    # Its place on the support is an index, in which a NaN could get lost.
    value = categorical((2,)).backup(jnp.array([jnp.nan, 0.1]), jnp.full(2, 0.9))
    assert np.isnan(mass(value)).any(axis=-1).tolist() == [True, False]


@pytest.mark.parametrize("reward", [0.3, 50.0, -50.0])
def test_backup_keeps_the_mass(reward: float) -> None:
    value = categorical((STATES,)).backup(jnp.full(STATES, reward), jnp.full(STATES, 0.9))
    np.testing.assert_allclose(mass(value).sum(axis=-1), 1.0, rtol=1e-5)


@every_kind
def test_backup_keeps_the_mean_inside_the_support(make: Maker) -> None:
    # 0.2 + 0.9 z lies between -1.6 and 3.8.
    value = make((STATES,))
    after = value.backup(jnp.full(STATES, 0.2), jnp.full(STATES, 0.9))
    np.testing.assert_allclose(after.mean(), 0.2 + 0.9 * value.mean(), rtol=1e-5, atol=1e-5)


@every_kind
def test_a_backup_without_discount_is_the_reward(make: Maker) -> None:
    reward = jnp.linspace(LOW, HIGH, STATES)
    after = make((STATES,)).backup(reward, jnp.zeros(STATES))
    np.testing.assert_allclose(after.mean(), reward, rtol=1e-5, atol=1e-5)


def test_mass_is_normalised_whatever_the_logits() -> None:
    value = categorical((STATES,))
    shifted = CategoricalValue(value.logits + 50.0, LOW, HIGH)
    np.testing.assert_allclose(mass(value).sum(axis=-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(shifted.mean(), value.mean(), rtol=1e-4)
    np.testing.assert_allclose(shifted.loss(value), 0.0, atol=1e-5)


@every_kind
def test_mixing_gives_the_weighted_mean(make: Maker) -> None:
    value = make((ATOMS, STATES))
    log_w = jax.nn.log_softmax(scalar((ATOMS, STATES), seed=2).v, axis=0)
    expected = np.sum(np.exp(log_w) * np.asarray(value.mean()), axis=0)
    np.testing.assert_allclose(value.mix(log_w).mean(), expected, rtol=1e-4, atol=1e-5)


def test_mixing_distributions_gives_their_mixture() -> None:
    value = categorical((ATOMS, STATES))
    log_w = jax.nn.log_softmax(scalar((ATOMS, STATES), seed=2).v, axis=0)
    expected = np.einsum("ns,nsl->sl", np.exp(log_w), mass(value))
    np.testing.assert_allclose(mass(value.mix(log_w)), expected, rtol=1e-4)


def test_the_mean_of_a_distribution_is_over_its_support() -> None:
    value = categorical((STATES,))
    np.testing.assert_allclose(value.support, SUPPORT, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(value.mean(), mass(value) @ SUPPORT, rtol=1e-5)


@every_kind
def test_the_loss_is_least_at_its_goal(make: Maker) -> None:
    goal, other = make((STATES,), 0), make((STATES,), 1)
    np.testing.assert_allclose(goal.loss(goal), 0.0, atol=1e-6)
    assert np.all(other.loss(goal) > 0)


def test_the_scalar_loss_is_half_the_squared_error() -> None:
    # (3 - 1)^2 / 2 = 2
    one, three = ScalarValue(jnp.ones(1)), ScalarValue(jnp.full(1, 3.0))
    assert float(one.loss(three)[0]) == 2.0


def test_the_loss_of_a_distribution_is_fitted_by_its_goal() -> None:
    # In the logits, the gradient of KL(goal || softmax(logits)) is softmax(logits) - goal.
    goal, value = categorical((STATES,), 0), categorical((STATES,), 1)

    def loss(logits: jax.Array) -> jax.Array:
        return CategoricalValue(logits, LOW, HIGH).loss(goal).sum()

    gradient = jax.jit(jax.grad(loss))(value.logits)
    np.testing.assert_allclose(gradient, mass(value) - mass(goal), atol=1e-6)


def test_a_goal_with_empty_points_gives_a_finite_loss_and_gradient() -> None:
    goal = categorical((STATES,)).backup(jnp.full(STATES, 100.0), jnp.zeros(STATES))
    np.testing.assert_allclose(mass(goal)[:, :-2], 0.0, atol=1e-30)

    def loss(logits: jax.Array) -> jax.Array:
        return CategoricalValue(logits, LOW, HIGH).loss(goal).sum()

    value = categorical((STATES,), 1)
    found, gradient = jax.jit(jax.value_and_grad(loss))(value.logits)
    # All mass is at the last point: the loss is minus its log-probability.
    assert float(found) == pytest.approx(-np.log(mass(value)[:, -1]).sum(), rel=1e-4)
    assert np.isfinite(gradient).all()


@every_kind
def test_a_value_answers_the_four_questions(make: Maker) -> None:
    assert isinstance(make((STATES,)), Value)


def members(make: Maker, pessimism: float, n: int = 3) -> tuple[EnsembleValue, list[Value]]:
    """Return an ensemble of values of N atoms, and its members."""
    values = [make((ATOMS, STATES), seed) for seed in range(n)]
    return EnsembleValue(tuple(values), pessimism), values


LOG_W = np.full((ATOMS, STATES), -np.log(ATOMS))


@every_kind
def test_an_ensembles_mean_is_that_of_its_members(make: Maker) -> None:
    ensemble, values = members(make, 1.0)
    expected = np.mean([value.mean() for value in values], axis=0)
    np.testing.assert_allclose(ensemble.mean(), expected, rtol=1e-5, atol=1e-6)


@every_kind
@pytest.mark.parametrize("pessimism", [0.0, 0.5, 1.0])
def test_pessimism_goes_from_the_average_mixture_to_the_lowest(
    make: Maker, pessimism: float
) -> None:
    ensemble, values = members(make, pessimism)
    means = np.array([value.mix(jnp.asarray(LOG_W)).mean() for value in values])
    assert len(set(means.argmin(axis=0))) > 1  # not the same one everywhere
    expected = pessimism * means.min(axis=0) + (1 - pessimism) * means.mean(axis=0)
    goal = ensemble.mix(jnp.asarray(LOG_W))
    np.testing.assert_allclose(goal.mean(), expected, rtol=1e-4, atol=1e-5)


def test_the_lowest_of_an_ensemble_is_taken_whole() -> None:
    # Not the mean alone: the distribution of the member whose mean is lowest in that state.
    ensemble, values = members(categorical, 1.0)
    mixtures = [value.mix(jnp.asarray(LOG_W)) for value in values]
    lowest = np.argmin([mixture.mean() for mixture in mixtures], axis=0)
    distributions = [mass(x) for x in mixtures if isinstance(x, CategoricalValue)]
    expected = np.array([distributions[k][s] for s, k in enumerate(lowest)])
    goal = ensemble.mix(jnp.asarray(LOG_W))
    assert isinstance(goal, CategoricalValue)
    np.testing.assert_allclose(mass(goal), expected, atol=1e-6)


@every_kind
def test_an_ensemble_of_one_is_its_member(make: Maker) -> None:
    ensemble, (value,) = members(make, 0.5, n=1)
    np.testing.assert_allclose(ensemble.mean(), value.mean(), rtol=1e-6)
    mixed = [x.mix(jnp.asarray(LOG_W)).mean() for x in (ensemble, value)]
    np.testing.assert_allclose(*mixed, rtol=1e-5, atol=1e-6)


@every_kind
def test_each_member_of_an_ensemble_is_fitted_to_the_goal(make: Maker) -> None:
    ensemble, values = members(make, 0.5)
    goal = make((ATOMS, STATES), 9)
    expected = np.sum([value.loss(goal) for value in values], axis=0)
    np.testing.assert_allclose(ensemble.loss(goal), expected, rtol=1e-4)
