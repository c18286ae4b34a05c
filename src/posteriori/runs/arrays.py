"""States as arrays with names, as files hold them, and back."""

import json

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree
from numpy.typing import NDArray

from posteriori.runs.checkpoint import Arrays, CheckpointError


def flatten(tree: PyTree) -> Arrays:
    """Return a pytree's arrays by their paths; PRNG keys as their data."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))
    return {jax.tree_util.keystr(path): np.asarray(_data(leaf)) for path, leaf in leaves}


def unflatten(template: PyTree, arrays: Arrays) -> PyTree:
    """Return the template with its arrays replaced.

    Raises:
        CheckpointError: If an array is missing or has another shape or dtype; the message names it.
    """

    def pick(path: tuple, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path)
        want = _data(leaf)
        have = arrays.get(name)
        if have is None or have.shape != want.shape or have.dtype != want.dtype:
            given = "it is missing" if have is None else f"it is {have.dtype}{list(have.shape)}"
            raise CheckpointError(
                f"{name} must be {want.dtype}{list(want.shape)}, but {given}. "
                "Load the checkpoint with the settings that it was trained with."
            )
        value = jax.numpy.array(have)  # a copy: updates overwrite it
        is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.wrap_key_data(value) if is_key else value

    return jax.tree_util.tree_map_with_path(pick, template)


def fill(template: PyTree, arrays: Arrays) -> PyTree:
    """Return the template with its arrays replaced and all else kept; raises as `unflatten`."""
    dynamic, static = eqx.partition(template, eqx.is_array)
    return eqx.combine(unflatten(dynamic, arrays), static)


def rng_to_array(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a NumPy generator's state as bytes (JSON, since its integers have 128 bits)."""
    return np.frombuffer(json.dumps(rng.bit_generator.state).encode(), np.uint8)


def rng_from_array(array: NDArray[np.uint8]) -> np.random.Generator:
    """Return the generator of a state.

    Raises:
        CheckpointError: If it is none.
    """
    rng = np.random.default_rng()
    try:
        rng.bit_generator.state = json.loads(array.tobytes())
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"a generator must have the state of one, but {error!r:.200}. Use another checkpoint."
        ) from error
    return rng


def _data(leaf: jax.Array) -> jax.Array:
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf
