"""What a policy says of one state: a distribution over actions that MPO can improve.

The four questions that MPO asks of a policy are the methods of `Distribution`. Shapes, for the
whole package: `N` atoms (actions that stand for a distribution), `*S` any state axes, `D` action
dimensions (a discrete action is a one-hot vector of D entries), `C` constraints.
"""

from typing import Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

LOG_2PI = 1.8378770664093453

D = TypeVar("D", bound="Distribution")  # a trust region is of the policy's own kind


@runtime_checkable
class Distribution(Protocol):
    """A policy's answer for states `*S`."""

    def sample(self, noise: Float[Array, "*S D"]) -> Float[Array, "*S D"]:
        """Turn standard normal noise, which may be correlated in time, into an action."""
        ...

    def atoms(self, key: PRNGKeyArray, n: int) -> tuple[Array, Float[Array, " N *S"]]:
        """Actions `[N *S D]` and their log-weights: sum_j w_j f(a_j) is (or estimates) E[f].

        The weights sum to one.
        """
        ...

    def log_prob(self, action: Float[Array, "*#S D"]) -> Float[Array, "*#S"]:
        """Log-density (or log-probability) of an action, in nats."""
        ...

    def mode(self) -> Float[Array, "*S D"]:
        """The greedy action."""
        ...

    def spread(self) -> dict[str, Float[Array, "*S K"]]:
        """How much it explores, by name: standard deviations by dimension, or entropy in nats."""
        ...

    def decouple(self: D, old: D) -> dict[str, tuple[D, Float[Array, "*S C"]]]:
        """By name, the trust regions: a policy to fit and KL(old || it), nats, by constraint."""
        ...


class DiagonalGaussian(eqx.Module):
    """N(mean, diag(std^2)), with one constraint a dimension on the mean and one on the variance."""

    mean: Float[Array, "*S D"]
    std: Float[Array, "*S D"]

    def sample(self, noise: Float[Array, "*S D"]) -> Float[Array, "*S D"]:
        """Return mean + std * noise."""
        return self.mean + self.std * noise

    def atoms(
        self, key: PRNGKeyArray, n: int
    ) -> tuple[Float[Array, " N *S D"], Float[Array, " N *S"]]:
        """Draw n actions of weight 1/n."""
        return _sampled_atoms(self, key, n)

    def log_prob(self, action: Float[Array, "*A D"]) -> Float[Array, "*A"]:
        """Sum over dimensions of the normal log-density."""
        z = (action - _lift(self.mean, action)) / _lift(self.std, action)
        return -jnp.sum(0.5 * z**2 + jnp.log(_lift(self.std, action)) + 0.5 * LOG_2PI, axis=-1)

    def mode(self) -> Float[Array, "*S D"]:
        """Return the mean."""
        return self.mean

    def spread(self) -> dict[str, Float[Array, "*S D"]]:
        """Return the standard deviations, in units of half the action range."""
        return {"sigma": self.std}

    def decouple(
        self, old: "DiagonalGaussian"
    ) -> dict[str, tuple["DiagonalGaussian", Float[Array, "*S D"]]]:
        """Fit the mean at the old variance and conversely (arXiv 1812.02256, *M-step*)."""
        return {
            "mean": (
                DiagonalGaussian(self.mean, old.std),
                0.5 * ((self.mean - old.mean) / old.std) ** 2,
            ),
            "cov": (
                DiagonalGaussian(old.mean, self.std),
                _scale_kl((old.std - self.std) / self.std),
            ),
        }


class FullGaussian(eqx.Module):
    """N(mean, tril tril^T), with one constraint on the mean and one on the covariance."""

    mean: Float[Array, "*S D"]
    tril: Float[Array, "*S D D"]

    def sample(self, noise: Float[Array, "*S D"]) -> Float[Array, "*S D"]:
        """Return mean + tril @ noise."""
        return self.mean + jnp.einsum("...ij,...j->...i", self.tril, noise)

    def atoms(
        self, key: PRNGKeyArray, n: int
    ) -> tuple[Float[Array, " N *S D"], Float[Array, " N *S"]]:
        """Draw n actions of weight 1/n."""
        return _sampled_atoms(self, key, n)

    def log_prob(self, action: Float[Array, "*A D"]) -> Float[Array, "*A"]:
        """Return the multivariate normal log-density."""
        tril = _lift(self.tril, action, core=2)
        z = _solve(tril, action - _lift(self.mean, action))
        return -0.5 * jnp.sum(z**2 + LOG_2PI, axis=-1) - _log_det(tril)

    def mode(self) -> Float[Array, "*S D"]:
        """Return the mean."""
        return self.mean

    def spread(self) -> dict[str, Float[Array, "*S D"]]:
        """Return the marginal standard deviations, in units of half the action range."""
        return {"sigma": jnp.sqrt(jnp.sum(self.tril**2, axis=-1))}

    def decouple(
        self, old: "FullGaussian"
    ) -> dict[str, tuple["FullGaussian", Float[Array, "*S 1"]]]:
        """Fit the mean at the old covariance and conversely (arXiv 1812.02256, *M-step*)."""
        shift = _solve(old.tril, self.mean - old.mean)
        excess = jax.scipy.linalg.solve_triangular(self.tril, old.tril - self.tril, lower=True)
        scales = jnp.diagonal(excess, axis1=-2, axis2=-1)
        kl_cov = jnp.sum(_scale_kl(scales), axis=-1)
        kl_cov += 0.5 * jnp.sum(jnp.tril(excess, -1) ** 2, axis=(-2, -1))
        return {
            "mean": (
                FullGaussian(self.mean, old.tril),
                0.5 * jnp.sum(shift**2, axis=-1, keepdims=True),
            ),
            "cov": (FullGaussian(old.mean, self.tril), kl_cov[..., None]),
        }


class Categorical(eqx.Module):
    """A finite set of actions, each a one-hot vector, with log-probabilities that sum to one."""

    log_p: Float[Array, "*S D"]

    def sample(self, noise: Float[Array, "*S D"]) -> Float[Array, "*S D"]:
        """Return the Gumbel-max sample of the noise's quantiles."""
        gumbel = -jnp.log(-jax.scipy.stats.norm.logcdf(noise))
        return _one_hot(jnp.argmax(self.log_p + gumbel, axis=-1), self.log_p.shape[-1])

    def atoms(
        self,
        key: PRNGKeyArray,  # noqa: ARG002 - every action is enumerated, nothing is drawn
        n: int,  # noqa: ARG002
    ) -> tuple[Float[Array, " N *S D"], Float[Array, " N *S"]]:
        """Return every action with its probability: expectations are exact."""
        *axes, size = self.log_p.shape
        actions = jnp.eye(size).reshape(size, *(1 for _ in axes), size)
        return jnp.broadcast_to(actions, (size, *axes, size)), jnp.moveaxis(self.log_p, -1, 0)

    def log_prob(self, action: Float[Array, "*A D"]) -> Float[Array, "*A"]:
        """Return the log-probability of a one-hot action."""
        return jnp.sum(action * _lift(self.log_p, action), axis=-1)

    def mode(self) -> Float[Array, "*S D"]:
        """Return the most probable action, the first of equals."""
        return _one_hot(jnp.argmax(self.log_p, axis=-1), self.log_p.shape[-1])

    def spread(self) -> dict[str, Float[Array, "*S 1"]]:
        """Return the entropy, in nats."""
        return {"entropy": -jnp.sum(jnp.exp(self.log_p) * self.log_p, axis=-1, keepdims=True)}

    def decouple(self, old: "Categorical") -> dict[str, tuple["Categorical", Float[Array, "*S 1"]]]:
        """One trust region: the policy itself."""
        kl = jnp.sum(jnp.exp(old.log_p) * (old.log_p - self.log_p), axis=-1, keepdims=True)
        return {"policy": (self, kl)}


def _scale_kl(excess: Array) -> Array:
    """KL of standard deviations, nats, of old / new - 1.

    It is r^2 / 2 - 1/2 - log r of r = old / new, without the difference of terms near 1/2, which
    in float32 is off by as much as a settled policy's whole bound.
    """
    return excess + 0.5 * excess**2 - jnp.log1p(excess)


def _sampled_atoms(
    distribution: DiagonalGaussian | FullGaussian, key: PRNGKeyArray, n: int
) -> tuple[Float[Array, " N *S D"], Float[Array, " N *S"]]:
    shape = (n, *distribution.mean.shape)
    actions = jax.vmap(distribution.sample)(jax.random.normal(key, shape))
    return actions, jnp.full(shape[:-1], -jnp.log(float(n)))


def _lift(leaf: Array, action: Array, core: int = 1) -> Array:
    """Give a leaf the leading axes that the action has and it lacks."""
    missing = (action.ndim - 1) - (leaf.ndim - core)
    return leaf.reshape((1,) * missing + leaf.shape)


def _one_hot(index: Array, size: int) -> Array:
    return jax.nn.one_hot(index, size)


def _solve(tril: Float[Array, "*S D D"], x: Float[Array, "*A D"]) -> Float[Array, "*A D"]:
    tril = jnp.broadcast_to(tril, (*x.shape[:-1], *tril.shape[-2:]))
    return jax.scipy.linalg.solve_triangular(tril, x[..., None], lower=True)[..., 0]


def _log_det(tril: Float[Array, "*S D D"]) -> Float[Array, "*S"]:
    return jnp.sum(jnp.log(jnp.diagonal(tril, axis1=-2, axis2=-1)), axis=-1)
