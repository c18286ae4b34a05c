"""Evaluation: whole episodes, as many of each environment, and policies that act as trained."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from numpy.typing import NDArray
from small_runs import HIGH, LENGTH, LOW, RETURN, UNLEARNED, Counting, small_run

from posteriori import GreedyPolicy, Run, evaluate, load_policy
from posteriori.experience.collect import NonFinite
from posteriori.experience.envs import make_reference
from posteriori.models.distributions import DiagonalGaussian
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.evaluate import run_episodes
from posteriori.runs.folder import RunFolder
from posteriori.runs.sinks import read_rows


class Lengths(gym.Env):
    """Episodes as long as the action says, with reward 1 a step; the odd ones terminate."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Box(np.float32(0), np.float32(100), (1,))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        super().reset(seed=seed, options=options)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: NDArray) -> tuple:
        self.t += 1
        over = self.t >= action[0]
        return np.zeros(1, np.float32), 1.0, over and self.t % 2 == 1, over and self.t % 2 == 0, {}


def short_and_long(obs: NDArray) -> NDArray:
    """Make the episodes of environment e last 2, 5, 8, ... steps."""
    return 2.0 + 3.0 * np.arange(len(obs), dtype=np.float32)[:, None]


@pytest.mark.parametrize(
    ("episodes", "num_envs", "lengths"),
    [
        (1, 1, [2]),
        (3, 1, [2, 2, 2]),
        (3, 3, [2, 5, 8]),
        (6, 3, [2, 2, 5, 5, 8, 8]),
        (4, 3, [2, 2, 5, 5]),
    ],
)
def test_every_environment_has_as_many_episodes_whatever_they_last(
    episodes: int, num_envs: int, lengths: list[int]
) -> None:
    envs = make_reference(Lengths, num_envs=num_envs)
    result = run_episodes(short_and_long, envs, env="Lengths", episodes=episodes, seed=0)
    envs.close()
    assert result.lengths == lengths
    assert result.returns == [float(n) for n in lengths]  # reward 1 a step, undiscounted
    assert result.episodes == episodes
    assert result.steps == sum(lengths)
    assert (result.min, result.max) == (min(lengths), max(lengths))
    assert result.mean == pytest.approx(np.mean(lengths))
    assert result.std == pytest.approx(np.std(lengths))


def zeros(obs: NDArray) -> NDArray:
    """Act with zero, which lies within the bounds of `Counting`."""
    return np.zeros((len(obs), 2), np.float32)


def test_a_callable_is_evaluated_in_a_given_environment() -> None:
    result = evaluate(zeros, Counting, episodes=3)
    assert result.returns == [RETURN] * 3
    assert result.lengths == [LENGTH] * 3
    assert result.env == "Counting"


def test_the_seed_decides_where_episodes_begin() -> None:
    def draws(seed: int) -> list[float]:
        seen = []
        evaluate(lambda obs: seen.append(obs[:, 1]) or zeros(obs), Counting, episodes=2, seed=seed)
        return seen[0].tolist()

    assert draws(4) == draws(4)
    assert draws(4) != draws(5)
    # The first environment's seed is given; the others count on from it.
    assert draws(4)[1] == draws(5)[0]


@pytest.mark.parametrize(
    ("given", "arguments", "error", "text"),
    [
        (zeros, {"episodes": 0}, ValueError, "episodes must be at least 1, but it is 0. Use 100."),
        (zeros, {}, ValueError, "env must be given with a policy that is no run. Give a Gym"),
        (
            zeros,
            {"env": Counting, "best": True},
            ValueError,
            "best must be asked of a run's folder",
        ),
        ("nowhere", {}, FileNotFoundError, "nowhere must be the folder of a run"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    given: Any, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        evaluate(given, **arguments)


@pytest.mark.parametrize("field", ["observation", "reward"])
def test_a_number_that_is_none_is_refused(field: str) -> None:
    with pytest.raises(
        NonFinite, match=f"every {field} must be finite, .* gave nan.*, of Broken in an evaluation"
    ):
        evaluate(zeros, broken(field), episodes=1)


def broken(field: str) -> Callable[[], gym.Env]:
    """Make environments that give NaN at their third step."""

    def make() -> Counting:
        return Counting({3: (field, np.nan)})

    make.__name__ = "Broken"
    return make


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run of `Counting` whose last policy differs from its best.

    Every policy has the same return, so that the first evaluation, at step 50, is the best.
    """
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    return small_run(Counting, folder, evaluate_every=50, steps=140, final_episodes=2)


class Constant(eqx.Module):
    """A head whose mean is the same everywhere."""

    mean: float

    def __call__(self, features: Float[Array, " F"]) -> DiagonalGaussian:  # noqa: ARG002
        """Return the policy."""
        return DiagonalGaussian(jnp.full(2, self.mean), jnp.ones(2))


OBSERVATIONS = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)


def test_a_loaded_policy_acts_as_the_actor_that_was_trained(run: Run) -> None:
    policy = load_policy(run.run_dir)
    actions = policy(OBSERVATIONS)
    np.testing.assert_array_equal(actions, run.policy(OBSERVATIONS))
    want = run.actor.greedy(OBSERVATIONS)
    # Compiled as a whole, it may round otherwise.
    np.testing.assert_allclose(actions, want, atol=1e-6)
    assert policy(OBSERVATIONS[3]).shape == (2,)
    np.testing.assert_allclose(policy(OBSERVATIONS[3]), want[3], atol=1e-6)


def test_actions_are_in_the_units_of_the_environment(run: Run) -> None:
    # The policy's own units reach from -1 to 1; beyond them its actions are clipped.
    for mean, want in ((-1.0, LOW), (0.0, (LOW + HIGH) / 2), (1.0, HIGH), (9.0, HIGH)):
        actor = eqx.tree_at(lambda a: a.policy.head, run.actor, Constant(mean))
        np.testing.assert_allclose(GreedyPolicy(actor)(OBSERVATIONS), [want] * 64, atol=1e-6)


def test_the_best_policy_is_the_one_of_the_best_evaluation(run: Run) -> None:
    best, last = load_policy(run.run_dir, best=True), load_policy(run.run_dir)
    rows = [row for row in read_rows(run.run_dir / "metrics.jsonl") if "evaluation/mean" in row]
    assert [row["evaluation/mean"] for row in rows] == [RETURN] * len(rows)  # the first is best
    assert 50 <= rows[0]["step"] < 60 < run.steps
    assert (best(OBSERVATIONS) != last(OBSERVATIONS)).any()


def test_a_policy_is_loaded_without_its_simulator(run: Run) -> None:
    assert RunFolder.open(run.run_dir).read_config()[0] == "Counting"
    assert "Counting" not in gym.registry
    assert load_policy(run.run_dir)(OBSERVATIONS).shape == (64, 2)


def test_runs_and_their_folders_are_evaluated_alike(run: Run) -> None:
    one, other = (evaluate(given, Counting, episodes=2) for given in (run, run.run_dir))
    assert one == other
    assert one.returns == [RETURN] * 2
    assert run.final == one
    assert evaluate(run.run_dir, Counting, episodes=2, best=True).returns == [RETURN] * 2


def test_a_run_is_evaluated_in_its_own_environment(tmp_path: Path) -> None:
    run = small_run("Pendulum-v1", tmp_path / "run", **(UNLEARNED | {"steps": 4}))
    result = evaluate(tmp_path / "run", episodes=2)
    assert (result.env, result.lengths) == ("Pendulum-v1", [200, 200])
    assert evaluate(run, episodes=2) == result


@pytest.mark.parametrize(
    ("obs", "text"),
    [
        (np.zeros((4, 2)), "obs must have shape [3] or [B, 3], but it has [4, 2]. Flatten it"),
        (np.zeros((2, 4, 3)), "obs must have shape [3] or [B, 3], but it has [2, 4, 3]."),
        (np.array([0, np.nan, 0]), "obs must be finite, but it holds NaN or infinity."),
    ],
)
def test_a_policy_refuses_what_is_no_observation(run: Run, obs: NDArray, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        run.policy(obs)


def test_a_best_policy_that_was_not_saved_is_refused(tmp_path: Path) -> None:
    small_run(Counting, tmp_path / "run", **(UNLEARNED | {"steps": 4}))
    with pytest.raises(CheckpointError, match=r"an evaluation on the way .* without --best"):
        load_policy(tmp_path / "run", best=True)


def test_a_checkpoint_of_other_widths_is_refused(tmp_path: Path) -> None:
    run = small_run(Counting, tmp_path / "run", **(UNLEARNED | {"steps": 4}))
    other = dataclasses.replace(run.config, widths=(9,))
    RunFolder.open(run.run_dir).write_config("Counting", other)
    text = ".policy.torso.layers[0].weight must be float32[9, 3], but it is float32[8, 3]. Load the"
    with pytest.raises(CheckpointError, match=re.escape(text)):
        load_policy(run.run_dir)
