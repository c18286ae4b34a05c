"""Expectation-maximisation for policies: the E-step and the M-step of MPO.

| symbol      | here    | shape  | meaning                                        | unit          |
| ----------- | ------- | ------ | ---------------------------------------------- | ------------- |
| pi_old(a|s) | log_w   | [N *S] | log-weights of the old policy's atoms          | nats          |
| Q(s, a)     | q       | [N *S] | an objective's value of each atom              | scaled return |
| q(a|s)      | log_q   | [N *S] | log-weights of the improved policy, same atoms | nats          |
| eta         | eta     | []     | temperature                                    | scaled return |
| epsilon     | epsilon | []     | bound on mean_s KL(q || pi_old)                | nats          |
| g(eta)      | dual    | []     | dual of the E-step                             | scaled return |
| alpha       | alpha   | [C]    | multipliers of a trust region's constraints    | 1             |
| epsilon_M   | epsilon | []     | bound on each mean_s KL(pi_old || pi)          | nats          |

`N` atoms, `*S` states, `C` constraints. Sources: MPO, arXiv 1806.06920; the decoupled trust
regions, arXiv 1812.02256.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from posteriori.models.distributions import Distribution

NEWTON_STEPS = 12  # enough for float32; a bisection where Newton's step would leave the bracket
LOG_LAMBDA_LIMIT = 12.0  # 1/eta stays within e^-12 and e^12 of the inverse spread of q


def e_step(
    q: Float[Array, " N *S"],
    log_w: Float[Array, " N *S"],
    eta: Float[Array, ""],
    epsilon: float | Float[Array, ""],
) -> tuple[Float[Array, " N *S"], Float[Array, ""]]:
    """Reweight the old policy's atoms: q(a|s) proportional to pi_old(a|s) exp(Q(s,a)/eta).

    The dual g(eta) = eta epsilon + eta mean_s log sum_j w_j exp(q_j/eta) is minimal where
    mean_s KL(q || pi_old) = epsilon. With sampled atoms w_j = 1/N, so the paper's average over
    samples is in `log_w`.

    Returns:
        log q(a_j|s), and the dual.
    """
    # Taken out first: q may be large beside eta, and log_w would drown in it.
    best = jnp.max(q, axis=0)
    tilted = (q - best[None]) / eta + log_w
    log_z = logsumexp(tilted, axis=0)
    dual = eta * (epsilon + jnp.mean(log_z)) + jnp.mean(best)
    return tilted - log_z[None], dual


def temperature(
    q: Float[Array, " N *S"],
    log_w: Float[Array, " N *S"],
    epsilon: float | Float[Array, ""],
) -> Float[Array, ""]:
    """Solve the E-step's dual: the eta at which mean_s KL(q || pi_old) = epsilon.

    Newton's method on log KL as a function of log 1/eta, nearly a line of slope 2, within a
    bracket. Where no temperature reaches the bound (it exceeds the KL of the best atoms), eta is
    the smallest of the bracket; where all atoms are equal, it is 1 and the weights are the old
    policy's.
    """
    w = jnp.exp(log_w)
    centred = q - jnp.max(q, axis=0, keepdims=True)  # exact where all are equal
    centred = centred - jnp.sum(w * centred, axis=0, keepdims=True)
    spread = jnp.sqrt(jnp.mean(jnp.sum(w * centred**2, axis=0)))
    unit = centred / jnp.where(spread > 0, spread, 1.0)

    def newton(_: Array, bracket: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, x, high = bracket
        scaled = jnp.exp(x) * unit
        log_z = logsumexp(scaled + log_w, axis=0)
        p = jnp.exp(scaled + log_w - log_z[None])
        mean = jnp.sum(p * scaled, axis=0)
        kl = jnp.mean(mean - log_z)
        slope = jnp.mean(jnp.sum(p * (scaled - mean[None]) ** 2, axis=0))
        low, high = jnp.where(kl < epsilon, x, low), jnp.where(kl < epsilon, high, x)
        step = x + (jnp.log(epsilon) - jnp.log(kl)) * kl / slope
        inside = (step >= low) & (step <= high)
        return low, jnp.where(inside, step, 0.5 * (low + high)), high

    limit = jnp.asarray(LOG_LAMBDA_LIMIT, q.dtype)
    # At first order KL is lambda^2 Var(q) / 2.
    start = jnp.asarray(0.5 * jnp.log(2.0 * epsilon), q.dtype)
    _, log_lambda, _ = jax.lax.fori_loop(0, NEWTON_STEPS, newton, (-limit, start, limit))
    return jnp.where(spread > 0, spread * jnp.exp(-log_lambda), 1.0)


class MStep(NamedTuple):
    """Losses to minimise, in the policy and in the multipliers, and the KLs by trust region."""

    policy_loss: Float[Array, ""]
    alpha_loss: Float[Array, ""]
    kl: dict[str, Float[Array, " C"]]


def m_step(
    policy: Distribution,
    old: Distribution,
    actions: Float[Array, " N *S D"],
    weights: Float[Array, " N *S"],
    alpha: Mapping[str, Float[Array, " C"]],
    epsilon: Mapping[str, float | Float[Array, ""]],
) -> MStep:
    """Fit the policy to the weighted atoms within its trust regions.

    For each region: -mean_s sum_j q_j log pi(a_j|s) + sum_c alpha_c mean_s KL_c(pi_old || pi), and
    for alpha sum_c alpha_c (epsilon - mean_s KL_c). Two separate losses: alpha is held fixed in the
    first, the KL in the second.

    Raises:
        KeyError: If `alpha` or `epsilon` lacks a trust region of the policy.
    """
    policy_loss, alpha_loss, kls = jnp.zeros(()), jnp.zeros(()), {}
    for name, (fit, kl) in policy.decouple(old).items():
        likelihood = jnp.sum(weights * fit.log_prob(actions), axis=0)
        kls[name] = kl_c = jnp.mean(kl, axis=range(kl.ndim - 1))
        penalty = jnp.sum(jax.lax.stop_gradient(alpha[name]) * kl_c)
        policy_loss += penalty - jnp.mean(likelihood)
        alpha_loss += jnp.sum(alpha[name] * (epsilon[name] - jax.lax.stop_gradient(kl_c)))
    return MStep(policy_loss, alpha_loss, kls)
