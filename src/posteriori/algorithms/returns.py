"""Returns over windows of rows, which never cross an episode's end."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from numpy import ndarray


class NStep(NamedTuple):
    """G = reward + discount * V(obs[end]), for the first row of each window."""

    reward: Float[Array, " B"]
    discount: Float[Array, " B"]
    end: Int[Array, " B"]


def n_step(
    reward: Float[Array | ndarray, " T B"],
    discount: Float[Array | ndarray, " T B"],
    valid: Bool[Array | ndarray, " T B"],
) -> NStep:
    """Sum the rewards of up to T-1 transitions, fewer where the episode ends.

    R = sum_k (prod_{i<k} discount_i) reward_k over the leading valid rows, and prod_i discount_i to
    bootstrap with at the row after them: the last observation of a shortened window is the
    episode's own, never the next one's.

    Args:
        reward: Of each row's transition.
        discount: gamma, or 0 where the transition terminated.
        valid: Whether the row carries a transition; the last row's is not used.
    """
    alive = jnp.cumprod(valid[:-1], axis=0).astype(reward.dtype)
    factors = jnp.where(alive > 0, discount[:-1], 1.0)
    after = jnp.cumprod(factors, axis=0)
    before = jnp.concatenate([jnp.ones_like(after[:1]), after[:-1]])
    return NStep(
        reward=jnp.sum(alive * before * reward[:-1], axis=0),
        discount=after[-1],
        end=jnp.sum(alive, axis=0).astype(jnp.int32),
    )
