"""Networks: a torso turns a vector into features, a head features into a policy or a value.

Torsos and heads are written for one state; `Policy` and `Critic` map them over any state axes, so
that a torso of one's own needs to know nothing of batches. `O` observation entries, `D` action
dimensions.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from posteriori.models.distributions import (
    Categorical,
    DiagonalGaussian,
    Distribution,
    FullGaussian,
)
from posteriori.models.values import CategoricalValue, EnsembleValue, ScalarValue, Value

T = TypeVar("T")

# A new policy hardly depends on the state (arXiv 2006.05990, *Networks architecture*).
POLICY_HEAD_SCALE = 0.01


@runtime_checkable
class Torso(Protocol):
    """From an input vector to `size` features."""

    @property
    def size(self) -> int:
        """Number of features."""
        ...

    def __call__(self, x: Float[Array, " I"], /) -> Float[Array, " F"]:
        """Return the features of one input vector."""
        ...


class Mlp(eqx.Module):
    """Linear, layer norm and tanh, then ELU layers: Acme's LayerNormMLP (arXiv 2006.00979)."""

    layers: list[eqx.nn.Linear]
    norm: eqx.nn.LayerNorm
    size: int = eqx.field(static=True)

    def __init__(self, in_size: int, widths: Sequence[int], *, key: PRNGKeyArray):
        keys = jax.random.split(key, len(widths))
        sizes = [in_size, *widths]
        self.layers = [
            eqx.nn.Linear(i, o, key=k) for i, o, k in zip(sizes[:-1], sizes[1:], keys, strict=True)
        ]
        self.norm = eqx.nn.LayerNorm(widths[0])
        self.size = sizes[-1]

    def __call__(self, x: Float[Array, " I"]) -> Float[Array, " F"]:
        """Return the features of one input vector."""
        first, *rest = self.layers
        x = jnp.tanh(self.norm(first(x)))
        for layer in rest:
            x = elu(layer(x))
        return x


def elu(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Return x, or e^x - 1 below 0 (arXiv 1511.07289).

    JAX's own takes `expm1`, whose last digits near 0 cost a tenth of an update on a CPU.
    """
    return jnp.where(x > 0, x, jnp.exp(jnp.where(x > 0, 0.0, x)) - 1.0)


class DiagonalHead(eqx.Module):
    """Features to a diagonal Gaussian, whose standard deviation, a softplus, starts near `std`."""

    mean: eqx.nn.Linear
    std: eqx.nn.Linear

    def __init__(self, in_size: int, actions: int, std: float, *, key: PRNGKeyArray):
        mean_key, std_key = jax.random.split(key)
        self.mean = _small_linear(in_size, actions, jnp.zeros(actions), key=mean_key)
        self.std = _small_linear(
            in_size, actions, jnp.full(actions, _inverse_softplus(std), float), key=std_key
        )

    def __call__(self, features: Float[Array, " F"]) -> DiagonalGaussian:
        """Return the policy's answer for one state."""
        return DiagonalGaussian(self.mean(features), jax.nn.softplus(self.std(features)))


class FullHead(eqx.Module):
    """Features to a Gaussian with full covariance, by its Cholesky factor."""

    mean: eqx.nn.Linear
    tril: eqx.nn.Linear

    def __init__(self, in_size: int, actions: int, std: float, *, key: PRNGKeyArray):
        mean_key, tril_key = jax.random.split(key)
        self.mean = _small_linear(in_size, actions, jnp.zeros(actions), key=mean_key)
        start = jnp.diag(jnp.full(actions, _inverse_softplus(std), float))
        start = start[jnp.tril_indices(actions)]
        self.tril = _small_linear(in_size, start.size, start, key=tril_key)

    def __call__(self, features: Float[Array, " F"]) -> FullGaussian:
        """Return the policy's answer for one state."""
        mean = self.mean(features)
        entries = jnp.zeros((mean.size, mean.size))
        entries = entries.at[jnp.tril_indices(mean.size)].set(self.tril(features))
        diagonal = jnp.diag(jax.nn.softplus(jnp.diag(entries)))
        return FullGaussian(mean, jnp.tril(entries, -1) + diagonal)


class CategoricalHead(eqx.Module):
    """Features to the log-probabilities of a finite set of actions."""

    logits: eqx.nn.Linear

    def __init__(self, in_size: int, actions: int, *, key: PRNGKeyArray):
        self.logits = _small_linear(in_size, actions, jnp.zeros(actions), key=key)

    def __call__(self, features: Float[Array, " F"]) -> Categorical:
        """Return the policy's answer for one state."""
        return Categorical(jax.nn.log_softmax(self.logits(features)))


class ScalarHead(eqx.Module):
    """Features to an expected return."""

    v: eqx.nn.Linear

    def __init__(self, in_size: int, *, key: PRNGKeyArray):
        self.v = eqx.nn.Linear(in_size, "scalar", key=key)

    def __call__(self, features: Float[Array, " F"]) -> ScalarValue:
        """Return the critic's answer for one state and action."""
        return ScalarValue(self.v(features))


class CategoricalValueHead(eqx.Module):
    """Features to a distribution of the return over evenly spaced points of [low, high]."""

    logits: eqx.nn.Linear
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __init__(self, in_size: int, points: int, low: float, high: float, *, key: PRNGKeyArray):
        self.logits = eqx.nn.Linear(in_size, points, key=key)
        self.low, self.high = low, high

    def __call__(self, features: Float[Array, " F"]) -> CategoricalValue:
        """Return the critic's answer for one state and action."""
        return CategoricalValue(self.logits(features), self.low, self.high)


class Policy(eqx.Module):
    """pi(a|s): from normalised observations to a distribution in the policy's units."""

    torso: Torso
    head: Callable[[Float[Array, " F"]], Distribution]

    def __call__(self, obs: Float[Array, "*S O"]) -> Distribution:
        """Return the distributions of states `*S`."""
        return _map(lambda x: self.head(self.torso(x)), obs)


class Critic(eqx.Module):
    """Z(s, a): from normalised observations and executed actions (policy's units) to a value."""

    torso: Torso
    head: Callable[[Float[Array, " F"]], Value]

    def __call__(self, obs: Float[Array, "*S O"], action: Float[Array, "*A D"]) -> Value:
        """Return the values of actions `*A`, whose last axes are the states' `*S`."""
        missing = (1,) * (action.ndim - obs.ndim)
        obs = jnp.broadcast_to(
            obs.reshape(missing + obs.shape), (*action.shape[:-1], obs.shape[-1])
        )
        inputs = jnp.concatenate([obs, action], axis=-1)
        return _map(lambda x: self.head(self.torso(x)), inputs)


class Ensemble(eqx.Module):
    """Several critics, and how far they go to the lowest of them (`EnsembleValue`)."""

    members: tuple[Critic, ...]
    pessimism: float = eqx.field(static=True)

    def __call__(self, obs: Float[Array, "*S O"], action: Float[Array, "*A D"]) -> EnsembleValue:
        """Return the values of actions `*A`, whose last axes are the states' `*S`."""
        # One after the other: one more vmap would lose the fast products, as in `_map`.
        return EnsembleValue(tuple(one(obs, action) for one in self.members), self.pessimism)


def _map(answer: Callable[[Float[Array, " I"]], T], inputs: Float[Array, "*A I"]) -> T:
    """Answer for each vector; one vmap over all axes, since nested ones lose the fast products."""
    axes = inputs.shape[:-1]
    answers = jax.vmap(answer)(inputs.reshape(-1, inputs.shape[-1]))
    return jax.tree.map(lambda x: x.reshape(*axes, *x.shape[1:]), answers)


def _small_linear(
    in_size: int, out_size: int, bias: Float[Array, " F"], *, key: PRNGKeyArray
) -> eqx.nn.Linear:
    linear = eqx.nn.Linear(in_size, out_size, key=key)
    where = lambda m: (m.weight, m.bias)  # noqa: E731
    return eqx.tree_at(where, linear, (POLICY_HEAD_SCALE * linear.weight, bias))


def _inverse_softplus(x: float) -> float:
    return math.log(math.expm1(x))
