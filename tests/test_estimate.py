"""A state's value: the critic's expectation under the policy, in the environment's units."""

from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from small_runs import Counting, small_run

from posteriori.models.actions import DiscreteActions
from posteriori.models.actor import Actor
from posteriori.models.distributions import Categorical
from posteriori.models.networks import Critic, Policy
from posteriori.models.scaling import Scaling
from posteriori.models.values import ScalarValue
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.estimate import Estimate, load_estimate
from posteriori.runs.folder import RunFolder


class Same(eqx.Module):
    """A torso that gives its input back."""

    size: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, " I"]) -> Float[Array, " I"]:
        """Return the input."""
        return x


def test_the_value_is_the_expectation_over_actions_with_the_scales_undone() -> None:
    # The second of two actions has a probability of 3/4; it is worth 4 more than the first.
    policy = Policy(Same(1), lambda _: Categorical(jnp.log(jnp.array([0.25, 0.75]))))
    critic = Critic(Same(3), lambda x: ScalarValue(x[0] + 4.0 * x[2]))
    scaling = Scaling(jnp.array([1.0]), jnp.array([2.0]), jnp.asarray(10.0))
    values = Estimate(Actor(policy, scaling, DiscreteActions(2)), critic)(np.array([[1.0], [3.0]]))
    # Observations are 0 and 1 in the networks' units; a unit of scaled return is 10.
    np.testing.assert_allclose(values, [10 * (0 + 3), 10 * (1 + 3)], rtol=1e-6)


def test_a_run_s_value_is_read_from_its_checkpoint(tmp_path: Path) -> None:
    run = small_run(Counting, tmp_path / "run")
    policy, value = load_estimate(run.run_dir)
    obs = np.array([[1.0, 0.3, 0.2], [4.0, -1.0, 1.0]], np.float32)
    assert (policy(obs) == run.policy(obs)).all()
    values = value(obs)
    assert values.shape == (2,) and np.isfinite(values).all() and values[0] != values[1]
    # It is the critic that was learnt, not a new one of the same settings.
    untrained = small_run(Counting, tmp_path / "new", learning_starts=1000)
    assert (load_estimate(untrained.run_dir)[1](obs) != values).all()
    (newest,) = RunFolder(run.run_dir).checkpoints.iterdir()
    (newest / "learner.safetensors").unlink()
    with pytest.raises(
        CheckpointError,
        match=r"An overlay's value needs the critic, .* but: .*No "
        r"such file.* Without --overlay the policy alone will do",
    ):
        load_estimate(run.run_dir)
