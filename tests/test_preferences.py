"""Preferences of one's own: objectives of the action beside the return."""

from pathlib import Path
from typing import Any

import agents
import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from small_runs import Counting, small_run

from posteriori import Config, Preference, load_policy, resume
from posteriori.algorithms.mpo import Mpo
from posteriori.models.actions import BoxActions, DiscreteActions
from posteriori.models.scaling import Scaling
from posteriori.runs.assemble import assemble
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.sinks import read_rows

SIZE = agents.ACTIONS
LOW, HIGH = -jnp.ones(SIZE), jnp.ones(SIZE)


def near_half(action: Array) -> Array:
    """Prefer 0.5 in every entry."""
    return -jnp.sum((action - 0.5) ** 2, axis=-1)


def second(action: Array) -> Array:
    """Prefer the second of discrete actions."""
    return action[..., 1]


@pytest.mark.parametrize("policy", ["diagonal", "categorical"])
@pytest.mark.parametrize("epsilon", [0.1, 1e-6])
def test_the_policy_follows_a_preference_as_far_as_its_bound_allows(
    policy: str, epsilon: float
) -> None:
    discrete = policy == "categorical"
    wanted = (("wanted", Preference(second if discrete else near_half, epsilon)),)
    actions: Any = (
        DiscreteActions(SIZE, own=wanted) if discrete else BoxActions(LOW, HIGH, own=wanted)
    )
    # The return pulls a hundred thousand times less than the stronger preference.
    mpo = Mpo(
        epsilon=1e-6,
        epsilon_mean=1.0,
        epsilon_policy=1.0,
        target_period=5,
        policy_learning_rate=3e-3,
    )
    networks = agents.networks(policy, "scalar", agents.OBS, SIZE)
    state = mpo.init(jax.random.key(0), networks, jnp.zeros(agents.OBS))
    batch, scaling = agents.batch(policy), Scaling.identity(agents.OBS)
    update = eqx.filter_jit(mpo.update)
    metrics: Any = {}
    for _ in range(150):
        state, metrics = update(state, batch, scaling, actions)

    def distance(policy: Any) -> float:
        """Return how far its expected action, or its mean, is from the best."""
        found = policy(jnp.asarray(batch.obs[0]))
        if not discrete:
            return float(-jnp.mean(near_half(found.mode())))
        atoms, log_w = found.atoms(jax.random.key(0), SIZE)
        return float(1.0 - jnp.mean(jnp.sum(jnp.exp(log_w) * second(atoms), axis=0)))

    assert np.isfinite(metrics["temperature/wanted"])
    before, after = distance(networks.policy), distance(state.online.policy)
    assert after < 0.3 * before if epsilon == 0.1 else after > 0.7 * before


def test_a_run_goes_on_with_its_own_preferences_alone(tmp_path: Path) -> None:
    wanted = {"wanted": Preference(near_half, 0.05)}
    small_run(Counting, tmp_path / "run", preferences=wanted, steps=60)
    row = read_rows(tmp_path / "run" / "metrics.jsonl")[-1]
    assert {"temperature/wanted", "ess/wanted"} <= row.keys()
    others = {"wanted": Preference(near_half, 0.1)}
    for given in (None, others):
        with pytest.raises(CheckpointError, match=r"own preferences .*'wanted': 0\.05.*Pass them"):
            resume(tmp_path / "run", env=Counting, preferences=given, steps=80)
    run = resume(tmp_path / "run", env=Counting, preferences=wanted, steps=80)
    assert run.steps == 80
    obs = np.zeros((1, 3), np.float32)
    np.testing.assert_array_equal(load_policy(run.run_dir)(obs), run.policy(obs))


@pytest.mark.parametrize(
    ("preferences", "text"),
    [
        ({"bounds": Preference(near_half, 0.1)}, r"name must be a word other than"),
        ({"a b": Preference(near_half, 0.1)}, r"but it is 'a b'"),
        ({"a": Preference(near_half, 0.0)}, r"epsilon of the preference a must be ab"),
        ({"a": Preference(near_half, float("nan"))}, r"must be above 0, but it is nan"),
        ({"a": Preference(jnp.sum, 0.1)}, r"into \[\*S\], but it makes \[\] of \[3, 2"),
    ],
)
def test_a_preference_that_cannot_be_used_is_refused(preferences: Any, text: str) -> None:
    box = gym.spaces.Box(-1, 1, (2,))
    with pytest.raises(ValueError, match=text):
        assemble(Config(widths=(8,)), box, box, "Test-v0", preferences=preferences)
