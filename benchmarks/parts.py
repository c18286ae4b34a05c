"""Ingredients of ablations for which the library has no flags."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from posteriori.algorithms import mpo
from posteriori.algorithms.em import e_step
from posteriori.algorithms.mpo import Metrics, Mpo, Networks, State
from posteriori.models.networks import Mlp

# Acme's `MPOLoss` and its experiments' dual learning rate.
LOG_TEMPERATURE, DUAL_RATE = 10.0, 1e-2
FOLLOWED = "temperature"  # where a state keeps what Adam has of it


def instead(name: str) -> AbstractContextManager:
    """Assemble agents, and train them, with an ingredient of `experiments.PARTS`; "" is none."""
    return PARTS[name]() if name else nullcontext()


def no_layer_norm() -> AbstractContextManager:
    """Assemble networks without it, everywhere."""

    def make(in_size: int, widths: Sequence[int], *, key: PRNGKeyArray) -> Mlp:
        mlp = Mlp(in_size, widths, key=key)
        return eqx.tree_at(lambda mlp: mlp.norm, mlp, eqx.nn.Identity())

    return patch("posteriori.runs.assemble.Mlp", make)


@contextmanager
def temperature_by_adam() -> Iterator[None]:
    """Take a step of Adam on the E-step's duals in each update, as the papers and Acme do.

    On an inverse softplus of each temperature, which begins at `LOG_TEMPERATURE`.
    """
    adam, init, update = optax.adam(DUAL_RATE), Mpo.init, Mpo.update

    def begin(self: Mpo, key: PRNGKeyArray, networks: Networks, example: Array) -> State:
        state = init(self, key, networks, example)
        start = {name: jnp.asarray(LOG_TEMPERATURE, jnp.float32) for name in ("return", "bounds")}
        return state._replace(log_alpha=state.log_alpha | {FOLLOWED: (start, adam.init(start))})

    def follow(self: Mpo, state: State, *data: Any) -> tuple[State, Metrics]:
        others = dict(state.log_alpha)
        variables, moments = others.pop(FOLLOWED)
        names, gradient = iter(variables), {}  # `Mpo._improve` asks for one after the other

        def temperature(q: Array, log_w: Array, epsilon: float) -> Float[Array, ""]:
            def dual(x: Array) -> Array:
                return e_step(q, log_w, jax.nn.softplus(x), epsilon)[1]

            name = next(names)
            gradient[name] = jax.grad(dual)(variables[name])
            return jax.nn.softplus(variables[name])

        with patch.object(mpo, "temperature", temperature):
            new, metrics = update(self, state._replace(log_alpha=others), *data)
        step, moments = adam.update(gradient, moments)
        followed = (optax.apply_updates(variables, step), moments)
        return new._replace(log_alpha=new.log_alpha | {FOLLOWED: followed}), metrics

    with patch.multiple(Mpo, init=begin, update=follow):
        yield


PARTS = {"no layer norm": no_layer_norm, "temperature by Adam": temperature_by_adam}
