"""The learner: updates that can be stopped and continued, and are compiled once."""

from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, PyTree

from posteriori import Config, Mpo
from posteriori.algorithms.trajectory import Trajectory
from posteriori.models.networks import Torso
from posteriori.models.scaling import Scaling
from posteriori.runs import checkpoint
from posteriori.runs.arrays import flatten, unflatten
from posteriori.runs.assemble import assemble
from posteriori.runs.learner import Learner

OBS = gym.spaces.Box(-1, 1, (3,))
ACTION = gym.spaces.Box(np.array([-1, -2], np.float32), np.array([1, 0], np.float32))
MPO = Mpo(samples=3, target_period=2)
SCALING = Scaling.identity(3)


class Counted(eqx.Module):
    """A torso that counts how often it is traced or run, and whose weights are weakly typed."""

    weight: Array
    calls: list[int] = eqx.field(static=True)
    size: int = eqx.field(static=True, default=3)

    def __call__(self, x: Float[Array, " I"]) -> Float[Array, " F"]:
        """Return three numbers."""
        self.calls.append(1)
        return jnp.sum(x) * self.weight


class Cusp(eqx.Module):
    """A torso whose features are finite, and whose derivative by its weight, 0 / 0, is not."""

    weight: Array
    size: int = eqx.field(static=True, default=3)

    def __call__(self, x: Float[Array, " I"]) -> Float[Array, " F"]:
        """Return three numbers."""
        return x[:3] + jnp.sqrt(self.weight**2)


def new_learner(torso: Torso | None = None, mpo: Mpo = MPO) -> Learner:
    """Return a learner for three observations and two actions."""
    config = Config(widths=(8,), support_points=11, mpo=mpo)
    make = None if torso is None else lambda _, __: torso
    return Learner(assemble(config, OBS, ACTION, "Test-v0", make))


def batch(seed: int, reward: float = 0.0) -> Trajectory:
    """Return windows of two steps, within episodes, with rewards about a mean."""
    rng = np.random.default_rng(seed)
    shape = (3, 8)
    return Trajectory(
        obs=rng.normal(size=(*shape, 3)).astype(np.float32),
        action=rng.uniform(-1, 1, size=(*shape, 2)).astype(np.float32),
        reward=(reward + rng.normal(size=shape)).astype(np.float32),
        discount=np.ones(shape, np.float32),
        valid=np.ones(shape, np.bool_),
    )


def learn(learner: Learner, seeds: range) -> Learner:
    """Update on a batch of each seed."""
    for seed in seeds:
        learner.update(batch(seed), SCALING)
    return learner


def numbers(tree: PyTree) -> dict[str, np.ndarray]:
    """Return a tree's arrays in copies."""
    return {name: np.array(x) for name, x in flatten(tree).items()}


def without_key(learner: Learner) -> dict[str, np.ndarray]:
    """Return what learning changes, apart from the random key."""
    return {name: x for name, x in numbers(learner.state).items() if "key" not in name}


def test_learning_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path: Path) -> None:
    through = learn(new_learner(), range(6))
    saved = flatten(learn(new_learner(), range(3)).state)
    checkpoint.write(tmp_path / "0000000003", {"learner": saved}, {"steps": 3})
    resumed = new_learner()
    parts, _ = checkpoint.read(tmp_path / "0000000003")
    resumed.restore(unflatten(resumed.state, parts["learner"]))
    learn(resumed, range(3, 6))
    want, have = numbers(through.state), numbers(resumed.state)
    assert want.keys() == have.keys()
    for name in want:
        np.testing.assert_array_equal(want[name], have[name], err_msg=name)
    assert resumed.updates == 6
    # Parameters, target networks, optimiser, multipliers, count and random key are among them.
    for field in (".online", ".target", ".log_alpha", ".optimiser", ".updates", ".key"):
        assert any(name.startswith(field) for name in want), field


def test_another_order_of_batches_learns_something_else() -> None:
    forth, back = learn(new_learner(), range(3)), new_learner()
    for seed in (2, 1, 0):
        back.update(batch(seed), SCALING)
    one, other = numbers(forth.state), numbers(back.state)
    assert any((one[name] != other[name]).any() for name in one)


def test_an_update_is_compiled_once() -> None:
    calls: list[int] = []
    learner = new_learner(Counted(jnp.full(3, 0.5), calls))
    learn(learner, range(1))
    traced = len(calls)
    assert traced > 0
    learn(learner, range(1, 4))
    learner.metrics()
    learn(learner, range(4, 6))
    learner.restore(unflatten(learner.state, flatten(learner.state)))
    learn(learner, range(6, 8))
    assert len(calls) == traced


def test_metrics_are_means_since_they_were_asked_for() -> None:
    learner, alone = new_learner(), []
    for seed in range(4):
        learn(learner, range(seed, seed + 1))
        alone.append(learner.metrics())
    together = learn(new_learner(), range(4)).metrics()
    assert together.keys() == alone[0].keys() >= {"loss/critic", "loss/policy", "kl/mean"}
    for name, value in together.items():
        mean = np.mean([metrics[name] for metrics in alone])
        assert value == pytest.approx(mean, rel=1e-5, abs=1e-6)


def test_without_an_update_there_are_no_metrics() -> None:
    learner = new_learner()
    assert learner.metrics() == {}
    learn(learner, range(1))
    assert learner.metrics()
    assert learner.metrics() == {}


def test_an_update_that_is_no_number_is_not_made_and_is_named() -> None:
    learner = learn(new_learner(), range(2))
    before = without_key(learner)
    learner.update(batch(2, reward=np.nan), SCALING)
    learn(learner, range(3, 5))  # nor are those after it, until somebody has looked
    after = without_key(learner)
    for name in before:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    leaf = r"the gradient of critic\.members\.0\.torso\.layers\.0\.weight was not"
    told = (
        rf"must be finite, but in update 3 {leaf}, loss/critic was nan\. That update was not made"
    )
    with pytest.raises(FloatingPointError, match=told):
        learner.metrics()


def test_a_gradient_that_is_none_is_found_where_the_losses_are_finite() -> None:
    def broken(size: int, key: Any) -> Torso:  # noqa: ARG001 - the signature of a torso's maker
        return Cusp(jnp.zeros(()))

    config = Config(widths=(8,), support_points=11, mpo=MPO)
    learner = Learner(assemble(config, OBS, ACTION, "Test-v0", broken))
    before = without_key(learner)
    learn(learner, range(1))
    after = without_key(learner)
    for name in before:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    told = r"in update 1 the gradient of policy\.torso\.weight was not\. That"
    with pytest.raises(FloatingPointError, match=told):
        learner.metrics()


def test_an_actor_stays_as_it_was_when_learning_goes_on() -> None:
    learner = learn(new_learner(), range(1))
    obs = batch(9).obs[0]
    actor = learner.actor(SCALING)
    before = np.array(actor.greedy(obs))
    learn(learner, range(1, 4))
    np.testing.assert_array_equal(actor.greedy(obs), before)
    assert (np.array(learner.actor(SCALING).greedy(obs)) != before).all()


def test_updates_start_from_copies() -> None:
    agent = assemble(Config(widths=(8,), support_points=11, mpo=MPO), OBS, ACTION, "Test-v0")
    before = numbers(agent.state)
    learn(Learner(agent), range(2))
    assert not any(x.is_deleted() for x in jax.tree.leaves(eqx.filter(agent.state, eqx.is_array)))
    after = numbers(agent.state)
    assert all((before[name] == after[name]).all() for name in before)
