"""Learning: MPO finds the known optimum of a bandit, with every policy head.

Each episode is one step. The state is a sign, and the best action depends on it; the reward falls
with the squared distance, in the environment's own units, from an optimum inside bounds that are
not symmetric. Actions are drawn uniformly: the critic alone decides where the policy goes.
"""

from collections.abc import Callable

import agents
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from posteriori.algorithms.mpo import Metrics, Mpo
from posteriori.algorithms.trajectory import Trajectory
from posteriori.models.actions import Actions, BoxActions, DiscreteActions
from posteriori.models.actor import Actor
from posteriori.models.scaling import Scaling

LOW, HIGH = np.array([[-1.0, 2.0], [3.0, 10.0]], np.float32)
BOX = BoxActions(jnp.asarray(LOW), jnp.asarray(HIGH))
WINDOWS = 64
MPO = Mpo(
    epsilon_bounds=0.01,
    epsilon_mean=1.0,
    epsilon_cov=0.1,
    epsilon_policy=1.0,
    discount=0.2,
    policy_learning_rate=1e-2,
    critic_learning_rate=1e-2,
    critic_weight_decay=0.0,
    dual_learning_rate=1e-3,
    target_period=10,
    settle_after=300,
)
Reward = Callable[[NDArray, NDArray], NDArray]
OPTIMA = {-1: [0.0, 4.0], 1: [2.0, 8.0]}  # of each state, in the environment's units
CHOICES = {-1: 7, 1: 4}  # likewise, of the actions 3 to 7


def distance_reward(state: NDArray, command: NDArray) -> NDArray:
    """Return minus the squared distance to the optimum, in units of the range of the action."""
    best = np.where(state[:, None] > 0, OPTIMA[1], OPTIMA[-1])
    return -np.sum(((command - best) / (HIGH - LOW)) ** 2, axis=-1) * 4


def choice_reward(state: NDArray, command: NDArray) -> NDArray:
    """Return 1 for the best action, 0 for any other."""
    return (command == np.where(state > 0, CHOICES[1], CHOICES[-1])).astype(float)


def outward_reward(_: NDArray, command: NDArray) -> NDArray:
    """Return more the larger the action: the best one is at the bounds."""
    return np.sum((command - LOW) / (HIGH - LOW), axis=-1)


def episodes(n: int, actions: Actions, reward: Reward, *, terminates: bool = False) -> Trajectory:
    """Return n one-step episodes: a transition, and the row of their last observation."""
    rng = np.random.default_rng(0)
    state = rng.choice([-1.0, 1.0], size=(2, n)).astype(np.float32)
    if isinstance(actions, DiscreteActions):
        action = np.eye(actions.size)[rng.integers(actions.size, size=n)]
    else:
        action = rng.uniform(-1, 1, size=(n, actions.size))
    action = action.astype(np.float32)
    earned = reward(state[0], np.asarray(actions.to_env(jnp.asarray(action)))).astype(np.float32)
    return Trajectory(
        obs=state[..., None],
        action=np.stack([action, 0 * action]),
        reward=np.stack([earned, 0 * earned]),
        discount=np.stack([np.full(n, 1.0 - terminates), np.ones(n)]).astype(np.float32),
        valid=np.stack([np.ones(n, bool), np.zeros(n, bool)]),
    )


def learn(
    policy: str, actions: Actions, reward: Reward, updates: int, *, terminates: bool = False
) -> tuple[Actor, Metrics]:
    """Return the actor after some updates, and the last metrics."""
    networks = agents.networks(policy, "scalar", 1, actions.size, (32, 32))
    state = MPO.init(jax.random.key(0), networks, jnp.zeros(1))
    scaling = Scaling.identity(1)
    update = eqx.filter_jit(MPO.update)
    data, metrics = episodes(updates * WINDOWS, actions, reward, terminates=terminates), {}
    for k in range(updates):
        batch = Trajectory(*(x[:, k * WINDOWS : (k + 1) * WINDOWS] for x in data))
        state, metrics = update(state, batch, scaling, actions)
    return Actor(state.online.policy, scaling, actions), metrics


STATES = jnp.array([[-1.0], [1.0]])


@pytest.mark.parametrize("policy", ["diagonal", "full"])
def test_a_gaussian_finds_the_best_action_of_each_state(policy: str) -> None:
    actor, metrics = learn(policy, BOX, distance_reward, updates=1000)
    found = (np.asarray(actor.greedy(STATES)) - LOW) / (HIGH - LOW)
    expected = (np.array([OPTIMA[-1], OPTIMA[1]]) - LOW) / (HIGH - LOW)
    np.testing.assert_allclose(found, expected, atol=0.06)
    assert float(metrics["sigma"]) < 0.5  # where it started


def test_a_policy_drawn_outwards_stays_at_the_bounds() -> None:
    actor, _ = learn("diagonal", BOX, outward_reward, updates=2000)
    np.testing.assert_allclose(actor.greedy(STATES), np.stack([HIGH, HIGH]), rtol=0.02)
    assert np.all(np.asarray(actor.policy(STATES).mode()) < 1.3)


def test_a_discrete_policy_finds_the_best_action_of_each_state() -> None:
    actor, metrics = learn("categorical", DiscreteActions(5, start=3), choice_reward, updates=300)
    np.testing.assert_array_equal(actor.greedy(STATES), [CHOICES[-1], CHOICES[1]])
    assert float(metrics["entropy"]) < np.log(5) / 2  # it started near log 5


def test_episodes_that_terminate_at_once_are_learned_from() -> None:
    actor, _ = learn(
        "categorical", DiscreteActions(5, start=3), choice_reward, updates=300, terminates=True
    )
    np.testing.assert_array_equal(actor.greedy(STATES), [CHOICES[-1], CHOICES[1]])
