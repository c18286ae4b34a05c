"""Multipliers of the trust regions: how they follow their constraints, and what they do to a step.

Both rules differ from the papers, which take Adam steps on alpha and on the policy. Adam's step is
as long for a stiff loss as for a soft one. Once a step exceeds the bound, alpha rises, the penalty
outweighs the likelihood, Adam turns it into steps of full length, and they exceed the bound again:
alpha runs away to 1e7 and the policy drifts (measured: docs/tried.md).
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

MAX_EXCESS = 3.0  # a KL beyond 4 times its bound tightens its multiplier no faster
LOG_ALPHA_LIMITS = (-7.0, 18.0)  # so that no multiplier takes long to come back

LogAlpha = Mapping[str, Float[Array, " C"]]


def needed(epsilon: float | Float[Array, ""], bound: Float[Array, ""]) -> Float[Array, ""]:
    """Return log alpha at which a penalty, at its bound, pulls as hard as an E-step's weights.

    No optimum needs more than alpha = sqrt(epsilon / bound); multipliers start there.

    Args:
        epsilon: Bound of the E-step, nats.
        bound: Of the trust region, nats.
    """
    return 0.5 * jnp.log(epsilon / bound)


def tighten(
    log_alpha: LogAlpha, slack: Mapping[str, Float[Array, " C"]], rate: float
) -> dict[str, Float[Array, " C"]]:
    """Follow the dual in log alpha, by each constraint's slack 1 - KL/epsilon.

    So a multiplier comes back as fast as it rose, whatever its size.
    """

    def follow(x: Float[Array, " C"], slack: Float[Array, " C"]) -> Float[Array, " C"]:
        return jnp.clip(x - rate * jnp.maximum(slack, -MAX_EXCESS), *LOG_ALPHA_LIMITS)

    return {name: follow(x, slack[name]) for name, x in log_alpha.items()}


def stiffness(
    log_alpha: LogAlpha,
    epsilon: float | Float[Array, ""],
    bounds: Mapping[str, Float[Array, ""]],
) -> Float[Array, ""]:
    """Return by what factor the largest multiplier exceeds all that is `needed`; at least 1.

    The policy's step is divided by it.
    """
    excess = [jnp.max(x - needed(epsilon, bounds[name])) for name, x in log_alpha.items()]
    return jnp.exp(jnp.maximum(jnp.max(jnp.stack(excess)), 0.0))
