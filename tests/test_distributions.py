"""What policies say: against SciPy, numerical integration and the statistics of their samples."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from numpy.typing import NDArray
from scipy import integrate, stats

from posteriori.models.distributions import (
    Categorical,
    DiagonalGaussian,
    Distribution,
    FullGaussian,
)

STATES, SIZE = 4, 3
DRAWS = 40_000


def diagonal(seed: int) -> DiagonalGaussian:
    """Return a diagonal Gaussian in each state."""
    noise = np.random.default_rng(seed).normal(size=(2, STATES, SIZE)).astype(np.float32)
    return DiagonalGaussian(jnp.asarray(noise[0]), jnp.asarray(np.exp(0.5 * noise[1])))


def full(seed: int) -> FullGaussian:
    """Return a Gaussian with correlations in each state."""
    rng = np.random.default_rng(seed)
    mean, low = rng.normal(size=(STATES, SIZE)), rng.normal(size=(STATES, SIZE, SIZE))
    tril = np.tril(0.5 * low, -1) + np.exp(0.3 * low) * np.eye(SIZE)
    return FullGaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(tril, jnp.float32))


def categorical(seed: int) -> Categorical:
    """Return a categorical distribution in each state."""
    logits = np.random.default_rng(seed).normal(size=(STATES, SIZE)).astype(np.float32)
    return Categorical(jax.nn.log_softmax(jnp.asarray(logits)))


MAKERS = [diagonal, full, categorical]
every_kind = pytest.mark.parametrize("make", MAKERS, ids=lambda f: f.__name__)
gaussians = pytest.mark.parametrize("make", MAKERS[:2], ids=lambda f: f.__name__)
Maker = Callable[[int], Distribution]


def covariance(policy: Distribution, state: int) -> NDArray:
    """Return the covariance matrix of a Gaussian in one state."""
    if isinstance(policy, DiagonalGaussian):
        return np.diag(np.asarray(policy.std[state], np.float64) ** 2)
    assert isinstance(policy, FullGaussian)
    tril = np.asarray(policy.tril[state], np.float64)
    return tril @ tril.T


def log_density(mean: NDArray, cov: NDArray, x: NDArray) -> NDArray:
    """Return SciPy's log-density of a normal distribution."""
    return np.asarray(stats.multivariate_normal.logpdf(x, mean, cov))  # pyright: ignore[reportArgumentType] - typed as int


def actions_of(policy: Distribution) -> Array:
    """Return some actions [N S D], none of them special."""
    if isinstance(policy, Categorical):
        return policy.atoms(jax.random.key(0), 1)[0]
    return 2 * jax.random.normal(jax.random.key(1), (5, STATES, SIZE))


@gaussians
def test_log_prob_agrees_with_scipy(make: Maker) -> None:
    policy = make(0)
    actions = actions_of(policy)
    mean = np.asarray(policy.mode())
    expected = [
        [log_density(mean[s], covariance(policy, s), a) for s, a in enumerate(atom)]
        for atom in np.asarray(actions)
    ]
    np.testing.assert_allclose(policy.log_prob(actions), expected, rtol=1e-4, atol=1e-5)


def test_log_prob_of_a_discrete_action_is_its_own() -> None:
    policy = categorical(0)
    np.testing.assert_array_equal(policy.log_prob(actions_of(policy)), policy.log_p.T)


@every_kind
def test_log_prob_takes_actions_with_and_without_an_axis_of_atoms(make: Maker) -> None:
    policy = make(0)
    actions = actions_of(policy)
    one_by_one = jnp.stack([policy.log_prob(a) for a in actions])
    np.testing.assert_allclose(policy.log_prob(actions), one_by_one, rtol=1e-6)


def test_a_full_gaussian_without_correlations_is_a_diagonal_one() -> None:
    new, old = diagonal(0), diagonal(1)
    full_new, full_old = (FullGaussian(p.mean, jax.vmap(jnp.diag)(p.std)) for p in (new, old))
    actions = actions_of(new)
    np.testing.assert_allclose(full_new.log_prob(actions), new.log_prob(actions), rtol=1e-5)
    np.testing.assert_allclose(full_new.sample(actions[0]), new.sample(actions[0]), rtol=1e-6)
    np.testing.assert_allclose(full_new.spread()["sigma"], new.std, rtol=1e-6)
    for name, (_, kl) in full_new.decouple(full_old).items():
        summed = new.decouple(old)[name][1].sum(axis=-1)
        np.testing.assert_allclose(kl[..., 0], summed, rtol=1e-4, atol=1e-6)


def test_a_diagonal_kl_per_dimension_is_the_integral_from_old_to_new() -> None:
    new, old = diagonal(0), diagonal(1)
    regions = new.decouple(old)
    for s, d in itertools.product(range(STATES), range(SIZE)):
        mean, std, m, v = (float(x[s, d]) for x in (new.mean, new.std, old.mean, old.std))
        for name, after in {"mean": (mean, v), "cov": (m, std)}.items():
            exact = integral_kl((m, v), after)
            np.testing.assert_allclose(regions[name][1][s, d], exact, rtol=1e-4, atol=1e-6)


def integral_kl(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Return KL(before || after) of two normal distributions, each (mean, std), by quadrature."""

    def integrand(x: float) -> float:
        log_p = stats.norm.logpdf(x, *before)
        return float(np.exp(log_p) * (log_p - stats.norm.logpdf(x, *after)))

    mean, std = before
    return integrate.quad(integrand, mean - 12 * std, mean + 12 * std, limit=200)[0]


@gaussians
def test_the_decoupled_kls_go_from_old_to_new(make: Maker) -> None:
    # A quadratic's mean under N(m, L L') is its mean over the points m +- sqrt(D) L e_i.
    new, old = make(0), make(1)
    for name, (_, kl) in new.decouple(old).items():
        for s in range(STATES):
            root = np.linalg.cholesky(covariance(old, s))
            mean = np.asarray(old.mode()[s], np.float64)
            points = mean + np.sqrt(SIZE) * np.concatenate([root.T, -root.T])
            center = np.asarray(new.mode()[s]) if name == "mean" else mean
            moved = covariance(new if name == "cov" else old, s)
            before = log_density(mean, covariance(old, s), points)
            exact = np.mean(before - log_density(center, moved, points))
            np.testing.assert_allclose(kl[s].sum(), exact, rtol=1e-4, atol=1e-5)


@gaussians
def test_the_kl_of_a_covariance_that_hardly_moved_is_not_lost_in_rounding(make: Maker) -> None:
    # A policy that settles has a bound far below float32's spacing around 1/2, 6e-8 nats.
    old = make(0)
    new = stretched(old, 1 + 1e-4 * np.random.default_rng(0).normal(size=(STATES, SIZE, SIZE)))
    kl = np.asarray(new.decouple(old)["cov"][1]).sum(axis=-1)
    for s in range(STATES):
        before, after = covariance(old, s), covariance(new, s)
        ratio = np.linalg.solve(after, before) - np.eye(SIZE)
        # 1/2 (tr R - log det (1 + R)) to the third order, of R small
        exact = np.trace(ratio @ ratio) / 4 - np.trace(ratio @ ratio @ ratio) / 6
        assert 1e-9 < exact < 1e-7
        np.testing.assert_allclose(kl[s], exact, rtol=1e-2)


def stretched(policy: Distribution, by: NDArray) -> Distribution:
    """Return a Gaussian with each entry of its spread multiplied."""
    factor = jnp.asarray(by, jnp.float32)
    if isinstance(policy, DiagonalGaussian):
        return DiagonalGaussian(policy.mean, policy.std * factor[:, 0])
    assert isinstance(policy, FullGaussian)
    return FullGaussian(policy.mean, policy.tril * factor)


def test_the_kl_of_a_discrete_policy_goes_from_old_to_new() -> None:
    new, old = categorical(0), categorical(1)
    exact = stats.entropy(np.exp(old.log_p), np.exp(new.log_p), axis=-1)
    np.testing.assert_allclose(new.decouple(old)["policy"][1][:, 0], exact, rtol=1e-4)


@gaussians
def test_what_is_fitted_has_one_part_of_the_new_policy_and_one_of_the_old(make: Maker) -> None:
    new, old = make(0), make(1)
    regions = {name: policy for name, (policy, _) in new.decouple(old).items()}
    np.testing.assert_array_equal(regions["mean"].mode(), new.mode())
    np.testing.assert_array_equal(regions["cov"].mode(), old.mode())
    for s in range(STATES):
        np.testing.assert_array_equal(covariance(regions["mean"], s), covariance(old, s))
        np.testing.assert_array_equal(covariance(regions["cov"], s), covariance(new, s))


def test_a_discrete_policy_is_fitted_as_it_is() -> None:
    new, old = categorical(0), categorical(1)
    np.testing.assert_array_equal(new.decouple(old)["policy"][0].mode(), new.mode())


@every_kind
def test_kl_is_never_negative_and_zero_of_itself(make: Maker) -> None:
    for seed in range(5):
        for _, kl in make(seed).decouple(make(seed + 1)).values():
            assert np.all(kl > 0)
        for _, kl in make(seed).decouple(make(seed)).values():
            np.testing.assert_allclose(kl, 0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "columns"), [(diagonal, SIZE), (full, 1), (categorical, 1)], ids=lambda x: str(x)[:15]
)
def test_a_diagonal_policy_has_a_constraint_a_dimension(make: Maker, columns: int) -> None:
    for _, kl in make(0).decouple(make(1)).values():
        assert kl.shape == (STATES, columns)


@every_kind
def test_the_weights_of_atoms_sum_to_one(make: Maker) -> None:
    actions, log_w = make(0).atoms(jax.random.key(0), 7)
    assert actions.shape == (*log_w.shape, SIZE)
    np.testing.assert_allclose(jnp.exp(log_w).sum(axis=0), 1.0, rtol=1e-6)


@gaussians
def test_atoms_have_the_moments_of_the_policy(make: Maker) -> None:
    policy = make(0)
    actions, _ = policy.atoms(jax.random.key(0), DRAWS)
    check_moments(policy, actions)


@gaussians
def test_standard_normal_noise_becomes_a_sample_of_the_policy(make: Maker) -> None:
    noise = jax.random.normal(jax.random.key(0), (DRAWS, STATES, SIZE))
    policy = make(0)
    check_moments(policy, jax.vmap(policy.sample)(noise))
    np.testing.assert_array_equal(policy.sample(jnp.zeros((STATES, SIZE))), policy.mode())


def check_moments(policy: Distribution, actions: Array) -> None:
    """Compare mean and covariance of actions [N S D] with the policy's, to five standard errors."""
    for s in range(STATES):
        exact = covariance(policy, s)
        error = 5 * np.sqrt(np.outer(np.diag(exact), np.diag(exact)) / DRAWS)
        mean, cov = np.mean(actions[:, s], axis=0), np.cov(np.asarray(actions[:, s]).T)
        assert np.all(np.abs(mean - policy.mode()[s]) < np.sqrt(25 * np.diag(exact) / DRAWS))
        assert np.all(np.abs(cov - exact) < np.sqrt(2) * error)


def test_atoms_of_different_states_and_dimensions_are_independent() -> None:
    policy = DiagonalGaussian(jnp.zeros((2, 2)), jnp.ones((2, 2)))
    actions, _ = policy.atoms(jax.random.key(0), DRAWS)
    correlation = np.corrcoef(np.asarray(actions).reshape(DRAWS, 4).T)
    assert np.all(np.abs(correlation - np.eye(4)) < 5 / np.sqrt(DRAWS))


@gaussians
def test_atoms_depend_on_their_key_alone(make: Maker) -> None:
    draw = lambda seed: make(0).atoms(jax.random.key(seed), 3)[0]  # noqa: E731
    np.testing.assert_array_equal(draw(0), draw(0))
    assert not np.any(draw(0) == draw(1))


def test_atoms_of_a_discrete_policy_are_all_its_actions() -> None:
    actions, log_w = categorical(0).atoms(jax.random.key(0), 1)
    np.testing.assert_array_equal(
        actions.argmax(axis=-1), np.arange(SIZE)[:, None] + [[0] * STATES]
    )
    np.testing.assert_array_equal(actions.sum(axis=-1), 1.0)
    np.testing.assert_array_equal(log_w, categorical(0).log_p.T)


def test_standard_normal_noise_becomes_a_discrete_action_with_its_probability() -> None:
    policy = categorical(0)
    noise = jax.random.normal(jax.random.key(0), (DRAWS, STATES, SIZE))
    actions = np.asarray(jax.vmap(policy.sample)(noise))
    np.testing.assert_array_equal(np.sort(actions, axis=-1), np.eye(SIZE)[-1] + 0 * actions)
    p = np.exp(policy.log_p)
    assert np.all(np.abs(actions.mean(axis=0) - p) < 5 * np.sqrt(p * (1 - p) / DRAWS))


def test_extreme_noise_still_gives_a_discrete_action() -> None:
    # At 8 standard deviations the float32 quantile is exactly 1.
    policy = Categorical(jnp.log(jnp.array([[0.5, 0.5]])))
    for noise, best in (([8.0, -8.0], 0), ([-8.0, 8.0], 1), ([-30.0, 0.0], 1)):
        np.testing.assert_array_equal(policy.sample(jnp.array([noise])), np.eye(2)[[best]])


def test_the_mode_of_a_discrete_policy_is_its_most_probable_action() -> None:
    policy = Categorical(jnp.log(jnp.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])))
    np.testing.assert_array_equal(policy.mode(), [[0, 1, 0], [1, 0, 0]])


def test_spread_is_the_marginal_standard_deviation_or_the_entropy() -> None:
    policy = full(0)
    marginal = [np.sqrt(np.diag(covariance(policy, s))) for s in range(STATES)]
    np.testing.assert_allclose(policy.spread()["sigma"], marginal, rtol=1e-5)
    np.testing.assert_array_equal(diagonal(0).spread()["sigma"], diagonal(0).std)
    entropy = stats.entropy(np.exp(categorical(0).log_p), axis=-1)
    np.testing.assert_allclose(categorical(0).spread()["entropy"][:, 0], entropy, rtol=1e-5)
