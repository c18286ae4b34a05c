"""Numbers that are none: found on the device where they arise, named on the host."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


def first_bad(tree: PyTree) -> Float[Array, ""]:
    """Return which of a tree's leaves is the first that is not finite, from 1 on; 0 if all are.

    It asks for the sum of squares, as the norm of a gradient does, which XLA then computes once. A
    number whose square overflows counts as none: no norm can shorten it.
    """
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    bad = ~jnp.isfinite(jnp.stack([jnp.sum(x**2) for x in leaves]))
    return jnp.where(bad.any(), 1.0 + jnp.argmax(bad), 0.0)


def leaf_name(tree: PyTree, number: int) -> str:
    """Return the path in such a tree to the leaf of a number, like `critic.members.0.weight`."""
    paths, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_inexact_array))
    return jax.tree_util.keystr(paths[number - 1][0], simple=True, separator=".")
