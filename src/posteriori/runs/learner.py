"""The learner: an algorithm's update, compiled, and what it has changed so far."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from posteriori.algorithms.mpo import Metrics
from posteriori.algorithms.trajectory import Trajectory
from posteriori.models.actor import Actor
from posteriori.models.scaling import Scaling
from posteriori.runs.assemble import Agent


class Learner:
    """Runs updates on the device; `update` returns before they are done."""

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
            arrays, metrics = step(arrays, batch, scaling)
            return arrays, jax.tree.map(jnp.add, sums, metrics)

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

    def metrics(self) -> dict[str, float]:
        """Return the means since the last call; empty if there was no update.

        Raises:
            FloatingPointError: If a mean is not finite; the message names the metrics.
        """
        if self._count == 0:
            return {}
        means = {k: float(v) / self._count for k, v in jax.device_get(self._sums).items()}
        self._sums, self._count = jax.tree.map(jnp.zeros_like, self._sums), 0
        bad = [name for name, value in means.items() if not np.isfinite(value)]
        if bad:
            raise FloatingPointError(
                f"every metric of an update must be finite, but {', '.join(sorted(bad))} "
                f"{'is' if len(bad) == 1 else 'are'} not."
            )
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

    def _zeros(self, batch: Trajectory, scaling: Scaling) -> Metrics:
        _, shapes = jax.eval_shape(self._step, self._arrays, batch, scaling)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


@jax.jit
def _copy(arrays: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, arrays)


def _own(x: jax.Array) -> jax.Array:
    """Return a copy, since updates overwrite it, of a type that they keep.

    A torso of one's own may share arrays, or hold weakly typed ones: a second compilation.
    """
    return jnp.array(x, x.dtype) if eqx.is_inexact_array(x) else jnp.copy(x)
