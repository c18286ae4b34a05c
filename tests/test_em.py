"""The E-step and the M-step: against SciPy, against rlax, and the properties that MPO rests on."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import rlax
from jaxtyping import Array
from numpy.typing import NDArray

from posteriori.algorithms.em import MStep, e_step, m_step, temperature
from posteriori.models.distributions import (
    Categorical,
    DiagonalGaussian,
    Distribution,
    FullGaussian,
)

ATOMS, STATES, ACTIONS = 10, 32, 3
LOG_N = np.log(ATOMS)

solve = jax.jit(temperature, static_argnames="epsilon")
reweight = jax.jit(e_step)


def values(scale: float = 1.0, offset: float = 0.0, seed: int = 0) -> NDArray:
    """Return q [N S], whose spread is `scale` about `scale * offset`, in float32."""
    noise = np.random.default_rng(seed).normal(size=(ATOMS, STATES))
    return (scale * (noise + offset)).astype(np.float32)


def uniform(q: NDArray) -> NDArray:
    """Return the log-weights of sampled atoms."""
    return np.full(q.shape, -LOG_N, q.dtype)


@pytest.mark.parametrize("offset", [0.0, 10.0, -1000.0])
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0, 2.0])
def test_temperature_minimises_the_dual(epsilon: float, scale: float, offset: float) -> None:
    q = values(scale, offset)
    eta = float(solve(q, uniform(q), epsilon))
    exact = oracles.minimise_dual(q, uniform(q), epsilon)
    # KL = 0.001 is a difference of two float32 numbers: their rounding is about 1e-4 of it.
    assert eta == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("epsilon", [1e-4, 0.1, 2.0])
def test_temperature_minimises_the_dual_in_float64(epsilon: float, scale: float) -> None:
    q = values(scale, 10.0).astype(np.float64)
    exact = oracles.minimise_dual(q, uniform(q), epsilon)
    with jax.enable_x64(True):
        assert float(solve(q, uniform(q), epsilon)) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0])
def test_temperature_serves_states_of_very_different_spread(epsilon: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = values(seed=seed) * np.exp(seed * rng.normal(size=STATES)).astype(np.float32)
    eta = float(solve(q, uniform(q), epsilon))
    assert oracles.mean_kl(q, uniform(q), eta) == pytest.approx(epsilon, rel=1e-3)


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_temperature_serves_the_prior_of_a_discrete_policy(epsilon: float) -> None:
    q = values(seed=1)
    log_w = np.asarray(jax.nn.log_softmax(2 * values(seed=2), axis=0))
    eta = float(solve(q, log_w, epsilon))
    assert eta == pytest.approx(oracles.minimise_dual(q, log_w, epsilon), rel=1e-3)


def test_e_step_meets_its_bound_at_the_optimal_temperature() -> None:
    q = values()
    log_q, _ = reweight(q, uniform(q), solve(q, uniform(q), 0.1), 0.1)
    kl = np.sum(np.exp(log_q) * (log_q - uniform(q)), axis=0)
    assert np.mean(kl) == pytest.approx(0.1, rel=1e-3)


def test_e_step_agrees_with_the_oracle_on_weights_and_dual() -> None:
    q = values()
    log_w = np.asarray(jax.nn.log_softmax(values(seed=2), axis=0))
    log_q, dual = reweight(q, log_w, jnp.asarray(0.7), 0.1)
    np.testing.assert_allclose(np.exp(log_q), oracles.improved(q, log_w, 0.7), rtol=1e-5)
    assert float(dual) == pytest.approx(oracles.dual(q, log_w, 0.7, 0.1), rel=1e-5)


def test_the_dual_of_sampled_atoms_carries_log_n() -> None:
    # Where every sample has value 3, log (1/N) sum exp(q/eta) = 3/eta: g = 2 * 0.1 + 3. Without
    # -log N it were 2 * (0.1 + log 10) + 3 = 7.8.
    q = np.full((ATOMS, STATES), 3.0, np.float32)
    _, dual = reweight(q, uniform(q), jnp.asarray(2.0), 0.1)
    assert float(dual) == pytest.approx(3.2, rel=1e-6)


@pytest.mark.parametrize(("eta", "falling"), [(0.1, True), (20.0, False)])
def test_the_dual_has_a_minimum(eta: float, falling: bool) -> None:
    # Without -log N the slope is positive everywhere, and a temperature could only fall.
    q = values()
    slope = jax.grad(lambda x: reweight(q, uniform(q), x, 0.1)[1])(jnp.asarray(eta))
    assert (float(slope) < 0) == falling


def test_the_slope_of_the_dual_is_how_far_kl_is_below_its_bound() -> None:
    q = values()
    slope = jax.grad(lambda x: reweight(q, uniform(q), x, 0.1)[1])(jnp.asarray(0.7))
    step = 1e-5
    duals = [oracles.dual(q, uniform(q), 0.7 + x, 0.1) for x in (-step, step)]
    assert float(slope) == pytest.approx((duals[1] - duals[0]) / (2 * step), rel=1e-4)
    assert float(slope) == pytest.approx(0.1 - oracles.mean_kl(q, uniform(q), 0.7), rel=1e-4)


@pytest.mark.parametrize("value", [0.0, 5.0, -3.3, 1e6])
def test_equal_values_leave_the_old_policy_as_it_is(value: float) -> None:
    q = np.full((ATOMS, STATES), value, np.float32)
    log_w = np.asarray(jax.nn.log_softmax(values(seed=2), axis=0))
    eta = solve(q, log_w, 0.1)
    log_q, _ = reweight(q, log_w, eta, 0.1)
    assert float(eta) == 1.0
    np.testing.assert_allclose(np.exp(log_q), np.exp(log_w), rtol=1e-5)


def test_a_bound_out_of_reach_puts_all_weight_on_the_best_atom() -> None:
    # KL cannot exceed log N, that of one atom taken for sure.
    q = values()
    epsilon = float(LOG_N) + 0.5
    eta = solve(q, uniform(q), epsilon)
    log_q, dual = reweight(q, uniform(q), eta, epsilon)
    np.testing.assert_allclose(np.exp(log_q), np.eye(ATOMS)[q.argmax(axis=0)].T, atol=1e-6)
    assert float(eta) > 0
    assert np.isfinite(dual)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("eta", [1e-6, 1.0, 1e6])
def test_weights_of_each_state_sum_to_one(eta: float, offset: float) -> None:
    q = values(offset=offset)
    log_q, _ = reweight(q, uniform(q), jnp.asarray(eta), 0.1)
    np.testing.assert_allclose(np.exp(log_q).sum(axis=0), 1.0, rtol=1e-5)


def test_shifting_q_shifts_only_the_dual() -> None:
    # 8 and multiples of 1/1024 add up without rounding.
    q = np.round(values() * 1024) / 1024
    eta = solve(q, uniform(q), 0.1)
    shifted = solve(q + 8, uniform(q), 0.1)
    log_q, dual = reweight(q, uniform(q), eta, 0.1)
    log_q_shifted, dual_shifted = reweight(q + 8, uniform(q), eta, 0.1)
    assert float(shifted) == float(eta)
    np.testing.assert_array_equal(log_q_shifted, log_q)
    assert float(dual_shifted - dual) == pytest.approx(8.0, rel=1e-6)


def test_scaling_q_scales_the_temperature() -> None:
    q = values()
    eta, scaled = (float(solve(c * q, uniform(q), 0.1)) for c in (1.0, 1000.0))
    assert scaled == pytest.approx(1000 * eta, rel=1e-4)


def gaussians(dtype: type = np.float32, seed: int = 3) -> tuple[DiagonalGaussian, DiagonalGaussian]:
    """Return a policy and an old one, that differ in mean and spread."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(4, STATES, ACTIONS))
    means, stds = (0.1 * noise[:2]).astype(dtype), np.exp(0.3 * noise[2:]).astype(dtype)
    new, old = (DiagonalGaussian(*map(jnp.asarray, x)) for x in zip(means, stds, strict=True))
    return new, old


def fitted(dtype: type = np.float32, seed: int = 4) -> tuple[Array, Array]:
    """Return atoms [N S D] and their weights [N S]."""
    rng = np.random.default_rng(seed)
    actions = rng.normal(size=(ATOMS, STATES, ACTIONS)).astype(dtype)
    weights = rng.dirichlet(np.ones(ATOMS), STATES).T.astype(dtype)
    return jnp.asarray(actions), jnp.asarray(weights)


ALPHA = {"mean": np.array([3.0, 5.0, 7.0]), "cov": np.array([20.0, 40.0, 60.0])}
BOUNDS = {"mean": 0.01, "cov": 0.001}


@jax.jit
def gaussian_m_step(policy: DiagonalGaussian, alpha: dict[str, Array]) -> MStep:
    """Fit to the atoms of `fitted`, from the old policy of `gaussians`, in float32."""
    alpha = {name: jnp.asarray(x, policy.mean.dtype) for name, x in alpha.items()}
    return m_step(policy, gaussians()[1], *fitted(), alpha, BOUNDS)


def test_the_policy_loss_holds_alpha_fixed() -> None:
    policy, _ = gaussians()
    alpha = {name: jnp.asarray(x, jnp.float32) for name, x in ALPHA.items()}
    gradient = jax.grad(lambda a: gaussian_m_step(policy, a).policy_loss)(alpha)
    assert all(not np.any(x) for x in jax.tree.leaves(gradient))


def test_the_alpha_loss_holds_the_policy_fixed() -> None:
    gradient = jax.grad(lambda p: gaussian_m_step(p, ALPHA).alpha_loss)(gaussians()[0])
    assert all(not np.any(x) for x in jax.tree.leaves(gradient))


def test_the_alpha_loss_raises_alpha_where_kl_exceeds_its_bound() -> None:
    policy, _ = gaussians()
    alpha = {name: jnp.asarray(x, jnp.float32) for name, x in ALPHA.items()}
    gradient = jax.grad(lambda a: gaussian_m_step(policy, a).alpha_loss)(alpha)
    for name, kl in gaussian_m_step(policy, ALPHA).kl.items():
        assert kl.shape == (ACTIONS,)
        np.testing.assert_allclose(gradient[name], BOUNDS[name] - kl, rtol=1e-6)


def test_the_mean_is_fitted_at_the_old_spread_and_the_spread_at_the_old_mean() -> None:
    # With the old m, s and v = std^2, over the number of states:
    # d/dmean of -sum_j w_j log N(a_j; mean, s^2) + alpha (mean - m)^2 / (2 s^2), and
    # d/dv of -sum_j w_j log N(a_j; m, v) + alpha (s^2/v - 1 - log(s^2/v)) / 2, times dv/dstd.
    policy, old = gaussians()
    actions, weights = (np.asarray(x, np.float64) for x in fitted())
    gradient = jax.grad(lambda p: gaussian_m_step(p, ALPHA).policy_loss)(policy)
    mean, std, m, s = (np.asarray(x, np.float64) for x in jax.tree.leaves((policy, old)))
    pull = np.einsum("ns,nsd->sd", weights, actions - mean)
    by_mean = (ALPHA["mean"] * (mean - m) - pull) / s**2 / STATES
    square = np.einsum("ns,nsd->sd", weights, (actions - m) ** 2)
    by_var = 0.5 * (1 / std**2 - square / std**4)
    by_var += 0.5 * ALPHA["cov"] * (1 / std**2 - s**2 / std**4)
    np.testing.assert_allclose(gradient.mean, by_mean, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(gradient.std, by_var * 2 * std / STATES, rtol=1e-3, atol=1e-6)


def test_a_discrete_policy_is_fitted_by_the_improved_one() -> None:
    # The cross-entropy's gradient in the logits is p - q over the number of states: zero only at
    # the E-step's answer.
    old = Categorical(jax.nn.log_softmax(values().T))
    actions, log_w = old.atoms(jax.random.key(0), 1)
    weights = jnp.asarray(oracles.improved(values(seed=5), np.asarray(log_w), 0.7), jnp.float32)

    def loss(logits: Array) -> Array:
        policy, zero = Categorical(jax.nn.log_softmax(logits)), {"policy": jnp.zeros(1)}
        return m_step(policy, old, actions, weights, zero, {"policy": 0.1}).policy_loss

    gradient = jax.jit(jax.grad(loss))
    np.testing.assert_allclose(gradient(jnp.log(weights.T)), 0.0, atol=1e-7)
    expected = (jnp.exp(old.log_p) - weights.T) / STATES
    np.testing.assert_allclose(gradient(old.log_p), expected, atol=1e-7)


def test_a_trust_region_without_a_multiplier_is_named() -> None:
    with pytest.raises(KeyError, match="cov"):
        gaussian_m_step(gaussians()[0], {"mean": ALPHA["mean"]})


def gaussian(params: tuple) -> Distribution:
    """Return the Gaussian of a mean and a standard deviation or a Cholesky factor."""
    return (FullGaussian if params[1].ndim == 3 else DiagonalGaussian)(*params)


def ours(
    q: Array, params: tuple, eta: Array, alpha: dict[str, Array], actions: Array, old: tuple
) -> Array:
    """Return the E-step's dual and both losses of the M-step, summed."""
    log_q, dual = e_step(q, jnp.full(q.shape, -LOG_N, q.dtype), eta, 0.1)
    weights = jax.lax.stop_gradient(jnp.exp(log_q))
    fit = m_step(gaussian(params), gaussian(old), actions, weights, alpha, BOUNDS)
    return dual + fit.policy_loss + fit.alpha_loss


def theirs(
    q: Array, params: tuple, eta: Array, alpha: dict[str, Array], actions: Array, old: tuple
) -> Array:
    """Return rlax's MPO loss, a mean over states.

    To align the two: rlax takes one log-probability a sample, so the decoupled policies' are added;
    its projection of the duals is the identity, since here they are projected after the step; its
    losses come per state; and its multipliers carry the states' axis.
    """
    fits = gaussian(params).decouple(gaussian(old))
    log_prob = sum(policy.log_prob(actions) for policy, _ in fits.values())
    penalties = [
        (kl, rlax.LagrangePenalty(alpha[name][None], BOUNDS[name], per_dimension=True))
        for name, (_, kl) in fits.items()
    ]
    loss, _ = rlax.mpo_loss(
        jnp.asarray(log_prob),
        q,
        rlax.LagrangePenalty(eta, 0.1),
        penalties,
        projection_operator=lambda x: x,
    )
    return jnp.mean(loss)


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
def test_losses_and_gradients_agree_with_rlax(full: bool) -> None:
    with jax.enable_x64(True):
        policy, old = gaussians(np.float64)
        params, reference = [(p.mean, p.std) for p in (policy, old)]
        alpha = {name: jnp.asarray(x) for name, x in ALPHA.items()}
        if full:
            tilt = jnp.tril(jnp.full((ACTIONS, ACTIONS), 0.3), -1)
            params, reference = [
                (mean, jax.vmap(jnp.diag)(std) + tilt[None]) for mean, std in (params, reference)
            ]
            alpha = {name: x[:1] for name, x in alpha.items()}
        q, actions = jnp.asarray(values().astype(np.float64)), fitted(np.float64)[0]
        args = (q, params, jnp.asarray(0.7), alpha)
        results = [
            jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2, 3)))(*args, actions, reference)
            for f in (ours, theirs)
        ]
    for mine, other in zip(*map(jax.tree.leaves, results), strict=True):
        assert mine.dtype == np.float64
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)


def test_the_e_step_of_v_mpo_agrees_with_rlax() -> None:
    # V-MPO's atoms are the batch itself, its better half weighted uniformly, as one state.
    with jax.enable_x64(True):
        advantage = jnp.asarray(values()[:, 0].astype(np.float64))
        better = advantage >= jnp.sort(advantage)[ATOMS // 2]
        log_w = jnp.where(better, -jnp.log(ATOMS / 2), -jnp.inf)
        ones = jnp.ones_like(advantage)

        def vmpo(eta: Array) -> tuple[Array, Array]:
            loss, weights, _ = rlax.vmpo_compute_weights_and_temperature_loss(
                advantage,
                ones,
                ones,
                rlax.LagrangePenalty(eta, 0.1),
                projection_operator=lambda x: x,
                top_k_fraction=0.5,
            )
            return jnp.asarray(loss), jnp.asarray(weights)

        def shared(eta: Array) -> tuple[Array, Array]:
            log_q, dual = e_step(advantage, log_w, eta, 0.1)
            return dual, jnp.exp(log_q)

        results = [
            jax.jit(jax.value_and_grad(f, has_aux=True))(jnp.asarray(0.7)) for f in (shared, vmpo)
        ]
        eta = solve(advantage, log_w, 0.1)
        slope = jax.jit(jax.grad(lambda x: vmpo(x)[0]))(eta)
    for mine, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)
    assert abs(float(slope)) < 1e-8
