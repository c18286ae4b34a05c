"""What a critic says of one state and action: a value that policy evaluation can back up.

Shapes: `N` atoms, `*S` any state axes, `L` support points.
"""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@runtime_checkable
class Value(Protocol):
    """A critic's answer for states and actions `*S`, in units of scaled return."""

    def mean(self) -> Float[Array, "*S"]:
        """Q, the expected return."""
        ...

    def mix(self, log_w: Float[Array, " N *S"]) -> "Value":
        """Of N weighted values `[N *S]`, that of drawing one: the expectation over actions."""
        ...

    def backup(self, reward: Float[Array, "*S"], discount: Float[Array, "*S"]) -> "Value":
        """The value of reward + discount * return."""
        ...

    def loss(self, goal: "Value") -> Float[Array, "*S"]:
        """How far this prediction is from a goal; its minimum is at the goal."""
        ...


class ScalarValue(eqx.Module):
    """The expected return alone, fitted by squared error."""

    v: Float[Array, "*S"]

    def mean(self) -> Float[Array, "*S"]:
        """Return v."""
        return self.v

    def mix(self, log_w: Float[Array, " N *S"]) -> "ScalarValue":
        """Return the weighted mean."""
        return ScalarValue(jnp.sum(jnp.exp(log_w) * self.v, axis=0))

    def backup(self, reward: Float[Array, "*S"], discount: Float[Array, "*S"]) -> "ScalarValue":
        """Return reward + discount * v."""
        return ScalarValue(reward + discount * self.v)

    def loss(self, goal: "ScalarValue") -> Float[Array, "*S"]:
        """Return half the squared error."""
        return 0.5 * (goal.v - self.v) ** 2


class CategoricalValue(eqx.Module):
    """The distribution of the return on a fixed support, fitted by cross-entropy.

    C51, arXiv 1707.06887. The logits need not be normalised.
    """

    logits: Float[Array, "*S L"]
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    @property
    def support(self) -> Float[Array, " L"]:
        """Evenly spaced returns, from low to high."""
        return jnp.linspace(self.low, self.high, self.logits.shape[-1])

    @property
    def p(self) -> Float[Array, "*S L"]:
        """Probabilities of the support's points."""
        return jax.nn.softmax(self.logits)

    def mean(self) -> Float[Array, "*S"]:
        """Return the expectation over the support."""
        return self.p @ self.support

    def mix(self, log_w: Float[Array, " N *S"]) -> "CategoricalValue":
        """Return the mixture of the N distributions."""
        return self._with(jnp.einsum("n...,n...l->...l", jnp.exp(log_w), self.p))

    def backup(
        self, reward: Float[Array, "*S"], discount: Float[Array, "*S"]
    ) -> "CategoricalValue":
        """Return the distribution shifted, shrunk and projected on the support (Algorithm 1)."""
        z = self.support

        def project(p: Array, reward: Array, discount: Array) -> Array:
            moved = jnp.clip(reward + discount * z, self.low, self.high)
            b = (moved - self.low) / (self.high - self.low) * (z.size - 1)
            below = jnp.clip(jnp.floor(b), 0, z.size - 2)
            # Each point's mass is shared by its two neighbours.
            i, above = below.astype(int), b - below
            return jnp.zeros_like(p).at[i].add((1 - above) * p).at[i + 1].add(above * p)

        rows = self.p.reshape(-1, z.size), reward.ravel(), discount.ravel()
        return self._with(jax.vmap(project)(*rows).reshape(self.p.shape))

    def loss(self, goal: "CategoricalValue") -> Float[Array, "*S"]:
        """Return KL(goal || this), in nats: the cross-entropy less the goal's own entropy."""
        log_p, log_goal = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(goal.logits)
        return jnp.sum(jnp.exp(log_goal) * (log_goal - log_p), axis=-1)

    def _with(self, p: Float[Array, "*S L"]) -> "CategoricalValue":
        tiny = jnp.finfo(p.dtype).tiny  # log 0 would make 0 * log 0 a NaN
        return CategoricalValue(jnp.log(jnp.maximum(p, tiny)), self.low, self.high)


class EnsembleValue(eqx.Module):
    """What several critics say, each of them fitted to the same goal: what `mix` gives, backed up.

    The critics must differ in nothing but their parameters.

    Args:
        members: A value of each critic.
        pessimism: From 0 to 1, how far `mix` goes from their average to the one of lowest mean.
    """

    members: tuple[Value, ...]
    pessimism: float = eqx.field(static=True)

    def mean(self) -> Float[Array, "*S"]:
        """Return the average of the means."""
        return jnp.mean(jnp.stack([member.mean() for member in self.members]), axis=0)

    def mix(self, log_w: Float[Array, " N *S"]) -> Value:
        """Return one value: of the members' mixtures, the weighted mixture.

        With pessimism 1 the one of lowest mean (TD3's clipped double Q, arXiv 1802.09477, of
        distributions).
        """
        mixtures = [member.mix(log_w) for member in self.members]
        means = jnp.stack([mixture.mean() for mixture in mixtures])
        lowest = jax.nn.one_hot(jnp.argmin(means, axis=0), len(mixtures), axis=0)
        weights = self.pessimism * lowest + (1 - self.pessimism) / len(mixtures)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *mixtures).mix(jnp.log(weights))

    def loss(self, goal: Value) -> Float[Array, "*S"]:
        """Return the sum of the members' losses."""
        return jnp.sum(jnp.stack([member.loss(goal) for member in self.members]), axis=0)
