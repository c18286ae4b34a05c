"""The units in which networks see the world: observations centred and scaled, rewards scaled."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpy import ndarray

OBSERVATION_LIMIT = 10.0  # standard deviations; beyond it an observation says no more


class Scaling(eqx.Module):
    """Observation moments and the unit of reward; statistics of the data, never trained."""

    mean: Float[Array, " O"]
    std: Float[Array, " O"]
    reward: Float[Array, ""]

    @classmethod
    def identity(cls, size: int) -> "Scaling":
        """Return the scaling of raw units for observations of `size` entries."""
        return cls(jnp.zeros(size), jnp.ones(size), jnp.ones(()))

    def observation(self, obs: Float[Array | ndarray, "*S O"]) -> Float[Array, "*S O"]:
        """Return (obs - mean) / std, limited to 10 standard deviations."""
        shape = (1,) * (obs.ndim - 1) + self.mean.shape
        z = (obs - self.mean.reshape(shape)) / self.std.reshape(shape)
        return jnp.clip(z, -OBSERVATION_LIMIT, OBSERVATION_LIMIT)
