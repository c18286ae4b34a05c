"""Multipliers of the trust regions: how they follow their constraints, and what they do to a step.

Both rules differ from the papers, which take Adam steps on alpha and on the policy. Adam's step is
as long for a stiff loss as for a soft one. Once a step exceeds the bound, alpha rises, the penalty
outweighs the likelihood, Adam turns it into steps of full length, and they exceed the bound again:
alpha runs away to 1e7 and the policy drifts (measured: docs/benchmarks.md).
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

MAX_EXCESS = 3.0  # a KL beyond 4 times its bound tightens its multiplier no faster
LOG_ALPHA_LIMITS = (-7.0, 18.0)  # so that no multiplier takes long to come back

LogAlpha = Mapping[str, Float[Array, " C"]]


def tighten(
    log_alpha: LogAlpha, slack: Mapping[str, Float[Array, " C"]], rate: float
) -> dict[str, Float[Array, " C"]]:
    """Follow the dual in log alpha, by each constraint's slack 1 - KL/epsilon.

    So a multiplier comes back as fast as it rose, whatever its size.
    """

    def follow(x: Float[Array, " C"], slack: Float[Array, " C"]) -> Float[Array, " C"]:
        return jnp.clip(x - rate * jnp.maximum(slack, -MAX_EXCESS), *LOG_ALPHA_LIMITS)

    return {name: follow(x, slack[name]) for name, x in log_alpha.items()}


def stiffness(log_alpha: LogAlpha, epsilon: float, bounds: Mapping[str, float]) -> Float[Array, ""]:
    """Return how far the largest multiplier exceeds all that an optimum can need; at least 1.

    At alpha = sqrt(epsilon / bound) the penalty, at its bound, pulls as hard as the weights of an
    E-step of `epsilon` nats can. The policy's step is divided by what exceeds that.

    Args:
        log_alpha: By trust region.
        epsilon: Bound of the E-step, nats.
        bounds: Of each trust region, nats.
    """
    needed = {name: 0.5 * jnp.log(epsilon / bounds[name]) for name in log_alpha}
    excess = [jnp.max(x - needed[name]) for name, x in log_alpha.items()]
    return jnp.exp(jnp.maximum(jnp.max(jnp.stack(excess)), 0.0))
