"""The learner: an algorithm's update, compiled, and what it has changed so far."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from posteriori.algorithms.finite import leaf_name
from posteriori.algorithms.mpo import BAD, Metrics
from posteriori.algorithms.trajectory import Trajectory
from posteriori.models.actor import Actor
from posteriori.models.networks import Critic, Ensemble
from posteriori.models.scaling import Scaling
from posteriori.runs.assemble import Agent


class Learner:
    """Runs updates on the device; `update` returns before they are done.

    An update whose gradient or metrics are not finite is not made, nor is any after it: the state
    stays as it was, until `metrics` says what happened.
    """

    def __init__(self, agent: Agent):
        self.actions = agent.actions
        arrays, self._static = eqx.partition(agent.state, eqx.is_array)
        self._arrays = jax.tree.map(_own, arrays)
        static, actions, algorithm = self._static, agent.actions, agent.algorithm

        def step(arrays: PyTree, batch: Trajectory, scaling: Scaling) -> tuple[PyTree, Metrics]:
            state = eqx.combine(arrays, static)
            state, metrics = algorithm.update(state, batch, scaling, actions)
            return eqx.filter(state, eqx.is_array), metrics

        def step_and_sum(
            arrays: PyTree, sums: Metrics, batch: Trajectory, scaling: Scaling
        ) -> tuple[PyTree, Metrics]:
            new, metrics = step(arrays, batch, scaling)
            going = _sound(sums)
            sums = jax.tree.map(lambda sum, x: jnp.where(going, sum + x, sum), sums, metrics)
            sound = _sound(sums)
            return jax.tree.map(partial(_unless, ~sound), new, arrays), sums

        self._step = step
        self._jitted = jax.jit(step_and_sum, donate_argnums=(0, 1))
        self._sums: Metrics = {}
        self._count = 0

    def update(self, batch: Trajectory, scaling: Scaling) -> None:
        """Do one update on a batch."""
        if not self._sums:
            self._sums = self._zeros(batch, scaling)
        self._arrays, self._sums = self._jitted(self._arrays, self._sums, batch, scaling)
        self._count += 1

    def actor(self, scaling: Scaling) -> Actor:
        """Return the current policy, in copies that later updates leave alone."""
        policy = _copy(self._arrays.online.policy)
        policy = eqx.combine(policy, self._static.online.policy)
        return Actor(policy, scaling, self.actions)

    def critic(self) -> Critic | Ensemble:
        """Return the current critic, likewise."""
        return eqx.combine(_copy(self._arrays.online.critic), self._static.online.critic)

    def metrics(self) -> dict[str, float]:
        """Return the means since the last call; empty if there was no update.

        Raises:
            FloatingPointError: An update's gradient or metrics were not finite; the message names
                the update, the first such leaf of the gradient, and the metrics.
        """
        if self._count == 0:
            return {}
        sums = {name: float(value) for name, value in jax.device_get(self._sums).items()}
        leaf = int(sums.pop(BAD))
        bad = {name: value for name, value in sums.items() if not np.isfinite(value)}
        if leaf or bad:
            raise FloatingPointError(self._describe(leaf, bad))
        means = {name: value / self._count for name, value in sums.items()}
        self._sums, self._count = jax.tree.map(jnp.zeros_like, self._sums), 0
        return means

    @property
    def updates(self) -> int:
        """Updates done so far."""
        return int(self._arrays.updates)

    @property
    def state(self) -> PyTree:
        """The arrays of the algorithm's state."""
        return self._arrays

    def restore(self, arrays: PyTree) -> None:
        """Go on from the arrays of a state."""
        self._arrays = arrays

    def _describe(self, leaf: int, bad: dict[str, float]) -> str:
        found = []
        if leaf:
            learned = (self._arrays.online, {"log_alpha": self._arrays.log_alpha})
            name = leaf_name(learned, leaf).partition(".")[2]
            found.append(f"the gradient of {name} was not")
        found += [f"{name} was {value}" for name, value in sorted(bad.items())]
        return (
            "every gradient and metric of an update must be finite, but in update "
            f"{self.updates + 1} {', '.join(found)}. That update was not made. Lower "
            "the learning rates, or look for absurd rewards or observations."
        )

    def _zeros(self, batch: Trajectory, scaling: Scaling) -> Metrics:
        _, shapes = jax.eval_shape(self._step, self._arrays, batch, scaling)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def _unless(bad: Bool[Array, ""], new: Array, old: Array) -> Array:
    """Keep the old array if something is bad; a random key goes on, since it has been used."""
    is_key = jnp.issubdtype(new.dtype, jax.dtypes.prng_key)
    return new if is_key else jnp.where(bad, old, new)


def _sound(metrics: Metrics) -> Bool[Array, ""]:
    """Whether all is finite: what is not stays so in a sum."""
    return jnp.isfinite(jnp.stack(list(metrics.values()))).all() & (metrics[BAD] == 0)


@jax.jit
def _copy(arrays: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, arrays)


def _own(x: jax.Array) -> jax.Array:
    """Return a copy, since updates overwrite it, of a type that they keep.

    A torso of one's own may share arrays, or hold weakly typed ones: a second compilation.
    """
    return jnp.array(x, x.dtype) if eqx.is_inexact_array(x) else jnp.copy(x)
