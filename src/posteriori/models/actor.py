"""What acts: the scaling, the policy and the action space, together.

The collector, the evaluator and an exporter share it, so that none of them can forget a part.
"""

import equinox as eqx
from jaxtyping import Array, Float
from numpy import ndarray

from posteriori.models.actions import Actions
from posteriori.models.networks import Policy
from posteriori.models.scaling import Scaling


class Actor(eqx.Module):
    """A policy with the units of its environment."""

    policy: Policy
    scaling: Scaling
    actions: Actions

    def act(
        self, obs: Float[Array | ndarray, "*S O"], noise: Float[Array, "*S D"]
    ) -> Float[Array, "*S D"]:
        """Return an exploring action in the policy's units, not clipped, for raw observations."""
        return self.policy(self.scaling.observation(obs)).sample(noise)

    def greedy(self, obs: Float[Array | ndarray, "*S O"]) -> Array:
        """Return the greedy action in the environment's units, for raw observations."""
        return self.actions.to_env(self.policy(self.scaling.observation(obs)).mode())
