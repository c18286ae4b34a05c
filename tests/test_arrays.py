"""Arrays: a state comes back from its arrays, or an error names the one that does not fit."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posteriori.runs.arrays import flatten, rng_from_array, rng_to_array, unflatten
from posteriori.runs.checkpoint import CheckpointError


def test_a_tree_comes_back_from_its_arrays() -> None:
    tree = {"w": jnp.arange(3.0), "n": (jnp.asarray(2),), "key": jax.random.key(3)}
    template = {"w": jnp.zeros(3), "n": (jnp.asarray(0),), "key": jax.random.key(0)}
    back = unflatten(template, flatten(tree))
    np.testing.assert_array_equal(back["w"], tree["w"])
    assert int(back["n"][0]) == 2
    # Alike keys draw alike.
    assert jax.random.normal(back["key"]) == jax.random.normal(jax.random.key(3))


@pytest.mark.parametrize(
    ("saved", "text"),
    [
        (np.zeros(4, np.float32), "['w'] must be float32[3], but it is float32[4]. Load"),
        (np.zeros(3, np.float64), "['w'] must be float32[3], but it is float64[3]. Load"),
        (
            None,
            "['w'] must be float32[3], but it is missing. Load the checkpoint with the settings",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(saved: np.ndarray | None, text: str) -> None:
    arrays = {} if saved is None else {"['w']": saved}
    with pytest.raises(CheckpointError, match=re.escape(text)):
        unflatten({"w": jnp.zeros(3)}, arrays)


def test_a_generator_goes_on_where_it_was_saved() -> None:
    rng = np.random.default_rng(5)
    rng.normal(size=3)
    again = rng_from_array(rng_to_array(rng))
    np.testing.assert_array_equal(again.normal(size=10), rng.normal(size=10))
