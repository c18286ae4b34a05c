"""Agents and batches small enough to compile in a second, one of each kind, shared among tests."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from posteriori.algorithms.mpo import Metrics, Mpo, Networks, State
from posteriori.algorithms.trajectory import Trajectory
from posteriori.models.actions import Actions, BoxActions, DiscreteActions
from posteriori.models.networks import (
    CategoricalHead,
    CategoricalValueHead,
    Critic,
    DiagonalHead,
    Ensemble,
    FullHead,
    Mlp,
    Policy,
    ScalarHead,
)
from posteriori.models.scaling import Scaling

POLICIES, CRITICS = ("diagonal", "full", "categorical"), ("scalar", "categorical", "ensemble")
OBS, ACTIONS, ROWS, WINDOWS = 4, 3, 4, 16


class Agent(NamedTuple):
    """An algorithm with its first state, and its update, compiled once: a second trace raises."""

    mpo: Mpo
    state: State
    scaling: Scaling
    actions: Actions
    update: Callable[..., tuple[State, Metrics]]


def networks(
    policy: str, critic: str, obs: int, actions: int, widths: tuple[int, ...] = (8, 8)
) -> Networks:
    """Return a policy and a critic of some kind; a distributional critic's support is [-3, 3].

    An ensemble is of two scalar critics, and no more than half pessimistic.
    """
    keys = jax.random.split(jax.random.key(0), 6)
    torsos = [
        Mlp(size, widths, key=key) for size, key in zip((obs, obs + actions), keys[:2], strict=True)
    ]
    head = {
        "diagonal": lambda: DiagonalHead(widths[-1], actions, 0.5, key=keys[2]),
        "full": lambda: FullHead(widths[-1], actions, 0.5, key=keys[2]),
        "categorical": lambda: CategoricalHead(widths[-1], actions, key=keys[2]),
    }[policy]()
    value = {
        "scalar": lambda: ScalarHead(widths[-1], key=keys[3]),
        "categorical": lambda: CategoricalValueHead(widths[-1], 31, -3.0, 3.0, key=keys[3]),
        "ensemble": lambda: ScalarHead(widths[-1], key=keys[3]),
    }[critic]()
    one = Critic(torsos[1], value)
    if critic != "ensemble":
        return Networks(Policy(torsos[0], head), one)
    other = Critic(Mlp(obs + actions, widths, key=keys[4]), ScalarHead(widths[-1], key=keys[5]))
    return Networks(Policy(torsos[0], head), Ensemble((one, other), 0.5))


@functools.cache
def agent(policy: str = "diagonal", critic: str = "scalar", **settings: float) -> Agent:
    """Return an agent with observations and rewards in units of their own."""
    # In so short a target period the usual bounds would allow next to no distance.
    wide = Mpo(epsilon_mean=2.5, epsilon_cov=0.01, epsilon_policy=10.0)
    usual = {"target_period": 3, "samples": 6, "discount": 0.9}
    mpo = dataclasses.replace(wide, **usual | settings)
    state = mpo.init(jax.random.key(1), networks(policy, critic, OBS, ACTIONS), jnp.zeros(OBS))
    scaling = Scaling(jnp.full(OBS, 0.1), jnp.full(OBS, 2.0), jnp.asarray(0.5))
    box = BoxActions(jnp.array([-1.0, -2.0, 0.0]), jnp.array([1.0, 3.0, 0.5]))
    actions = DiscreteActions(ACTIONS) if policy == "categorical" else box
    traced = eqx.filter_jit(eqx.debug.assert_max_traces(mpo.update, max_traces=1))

    def update(state: State, batch: Trajectory) -> tuple[State, Metrics]:
        # Tests start from one state many times, which would count as a reuse of its key.
        state = state._replace(key=jax.random.clone(state.key))
        return traced(state, batch, scaling, actions)

    return Agent(mpo, state, scaling, actions, update)


def batch(policy: str = "diagonal", seed: int = 0) -> Trajectory:
    """Return windows, a quarter each whole, truncated, terminated at once, and terminated later."""
    rng = np.random.default_rng(seed)
    valid, discount = np.ones((ROWS, WINDOWS), bool), np.ones((ROWS, WINDOWS), np.float32)
    valid[2, 1::4], valid[1, 2::4], valid[3, 3::4] = False, False, False
    discount[0, 2::4], discount[2, 3::4] = 0.0, 0.0
    action = rng.uniform(-1, 1, (ROWS, WINDOWS, ACTIONS))
    if policy == "categorical":
        action = np.eye(ACTIONS)[rng.integers(ACTIONS, size=(ROWS, WINDOWS))]
    return Trajectory(
        obs=rng.normal(size=(ROWS, WINDOWS, OBS)).astype(np.float32),
        action=action.astype(np.float32),
        reward=np.where(valid, rng.normal(size=(ROWS, WINDOWS)), 0.0).astype(np.float32),
        discount=discount,
        valid=valid,
    )
