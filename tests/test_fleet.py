"""Many learners at once: each learns as one alone would, and keeps what is its own."""

import json
import pickle
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import fleet as fleets
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rows
import sweep
from experiments import OURS, Cell
from fleet import Fleet, Units, windows
from jaxtyping import PyTree

from posteriori import Config, Mpo
from posteriori.algorithms.trajectory import Trajectory
from posteriori.experience.noise import ColouredNoise
from posteriori.experience.replay import Rows
from posteriori.experience.statistics import ReturnUnit
from posteriori.runs.assemble import assemble

pytest.importorskip("envpool")

TASK = "Pendulum-v1"
SMALL = Config(
    envs=2,
    widths=(8, 8),
    critics=1,
    support_points=11,
    batch_size=4,
    learning_starts=12,
    replay_size=1_000,
    mpo=Mpo(samples=3, target_period=2),
)
PAIR = [
    replace(SMALL, seed=5),
    replace(
        SMALL,
        seed=6,
        noise_exponent=0.0,
        normalise_observations=False,
        scale_rewards=False,
        mpo=replace(SMALL.mpo, discount=0.9, settle_after=0, target_period=3),
    ),
]


def first_windows(stored: Trajectory, *_: object) -> Trajectory:
    """Return the oldest windows of the first environment, instead of drawing any."""
    time = np.arange(4) + np.arange(SMALL.n_step + 1)[:, None]
    return Trajectory(*(x[0, time] for x in stored))


def of(tree: PyTree, run: int) -> PyTree:
    return jax.tree.map(lambda x: x[run], tree)


def test_each_run_of_a_fleet_learns_as_it_would_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(TASK, PAIR, 100)
    monkeypatch.setattr(fleets, "windows", first_windows)
    agents = [assemble(config, *fleet_spaces(fleet), TASK) for config in PAIR]
    states = [agent.state for agent in agents]
    while fleet.updates < 3:
        scaling, stored, updates = fleet.scaling(), fleet.stored, fleet.updates
        kept = jax.tree.map(np.asarray, stored.rows)  # `step` gives the arrays away
        fleet.step()
        for r, agent in enumerate(agents):
            for _ in range(fleet.updates - updates):
                # The same key: what is drawn is drawn within the update.
                batch = first_windows(of(kept, r))
                states[r], _ = eqx.filter_jit(agent.algorithm.update)(
                    states[r], batch, of(scaling, r), agent.actions
                )
    for r, state in enumerate(states):
        together = jax.tree.leaves(of(fleet.state, r))
        for one, other in zip(
            together, jax.tree.leaves(eqx.filter(state, eqx.is_array)), strict=True
        ):
            if not jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
                np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def fleet_spaces(fleet: Fleet) -> tuple[gym.Space, gym.Space]:
    envs = fleet.collector.envs
    return envs.single_observation_space, envs.single_action_space


def test_each_run_of_a_fleet_has_its_own_noise_and_units() -> None:
    fleet = Fleet(TASK, PAIR, 100)
    alone = [ColouredNoise(config.noise_exponent, (2, 1), config.seed) for config in PAIR]
    for _ in range(3):
        fleet.step()
        for noise in alone:
            noise.sample()
    np.testing.assert_array_equal(fleet.collector.noise.sample()[2:], alone[1].sample())
    assert fleet.collector.noise.shape == (4, 1)
    scaling = fleet.scaling()
    assert scaling.reward[0] != 1.0 == scaling.reward[1]
    assert scaling.mean[0].any()
    assert not scaling.mean[1].any()
    assert (scaling.std[0] != 1.0).all()
    assert (scaling.std[1] == 1.0).all()


def test_a_fleet_acts_and_reports_for_each_of_its_runs() -> None:
    fleet = Fleet(TASK, PAIR, 100)
    while fleet.updates < 3:
        fleet.step()
    metrics = fleet.metrics()
    assert metrics["pace"].tolist() == [1.0, 1.0]
    assert np.isfinite(metrics["loss/critic"]).all()
    assert fleet.metrics() == {}
    rng = np.random.default_rng(0)
    obs, noise = (rng.standard_normal((4, n), np.float32) for n in (3, 1))
    together = fleet.crew(fleet.scaling()).act(obs, jnp.asarray(noise))
    for r, actor in enumerate(fleet.actors()):
        mine = slice(2 * r, 2 * r + 2)
        np.testing.assert_allclose(
            together[mine], actor.act(obs[mine], jnp.asarray(noise[mine])), rtol=1e-5, atol=1e-6
        )
    assert not np.allclose(together[:2], together[2:])


@pytest.mark.parametrize(
    "other", [replace(SMALL, batch_size=5), replace(SMALL, mpo=replace(SMALL.mpo, samples=4))]
)
def test_a_fleet_refuses_runs_of_other_sizes(other: Config) -> None:
    with pytest.raises(ValueError, match="must differ in numbers of mpo and in seed, noise"):
        Fleet(TASK, [SMALL, other], 100)


def test_units_are_those_of_each_run() -> None:
    rng = np.random.default_rng(3)
    discounts = np.asarray([0.99, 0.5])
    units = Units(discounts, 5.0, 3)
    alone = [ReturnUnit(3, discount, 5.0) for discount in discounts]
    assert units.value().tolist() == [1.0, 1.0]
    for _ in range(50):
        reward = rng.normal(1.0, 2.0, (2, 3)).astype(np.float32)
        valid = rng.random((2, 3)) < 0.9
        reward = np.where(valid, reward, 0.0).astype(np.float32)
        discount = (rng.random((2, 3)) < 0.9).astype(np.float32)
        units.add(reward, discount, valid)
        for r, unit in enumerate(alone):
            nothing = np.zeros((3, 0), np.float32)
            unit.add(Rows(np.arange(3), nothing, nothing, reward[r], discount[r], valid[r]))
    np.testing.assert_allclose(units.value(), [unit.value() for unit in alone], rtol=1e-5)


def test_exploring_episodes_are_counted_for_each_run() -> None:
    fleet = Fleet(TASK, [replace(x, learning_starts=10_000) for x in PAIR], 1_000)
    for _ in range(199):
        fleet.step()
    assert fleet.explored == [[], []]
    fleet.step()  # of 200
    totals = np.asarray(fleet.stored.rows.reward)[:, :, :200].sum(axis=2)
    np.testing.assert_allclose(fleet.explored, totals, rtol=1e-5)
    assert len(np.unique(totals)) == 4


@pytest.mark.parametrize("added", [6, 8, 13])
def test_windows_are_consecutive_rows_that_begin_with_a_transition(added: int) -> None:
    share, length = 8, 4
    time = np.zeros((2, share))
    for t in range(added):
        time[:, t % share] = t
    stored = Trajectory(time[..., None], time[..., None], time, time, time != 4)
    stored = jax.tree.map(jnp.asarray, stored)
    seen = set()
    for key in jax.random.split(jax.random.key(0), 40):
        batch = windows(stored, jnp.asarray(added), key, length, 5)
        assert np.asarray(batch.valid[0]).all()
        first = np.asarray(batch.reward[:1])
        np.testing.assert_array_equal(batch.reward, first + np.arange(length)[:, None])
        np.testing.assert_array_equal(batch.obs[..., 0], batch.reward)
        seen |= set(first.astype(int).ravel().tolist())
    assert seen == set(range(max(0, added - share), added - length + 1)) - {4}


# The sweep.


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAX_PLATFORMS", "XLA_FLAGS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that they are as before, in the end


def cell(seed: int, *flags: str) -> Cell:
    return Cell(
        "epsilon", TASK, OURS, f"default {seed}", seed, 40, 10, ("--preset=default", *flags)
    )


def test_a_sweep_leaves_the_rows_of_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [cell(0), cell(1, "--epsilon=0.5", "--target-period=7")]
    monkeypatch.setattr(sweep, "PRESETS", {"default": SMALL})
    monkeypatch.setattr(sweep, "cells", lambda *_: chosen)
    words = ["epsilon", "--out", str(tmp_path / "out"), "--workers", "1"]
    words += ["--evaluate-every", "20", "--results", str(tmp_path)]
    for more in (["--fleet", "0"], ["--rows"]):
        monkeypatch.setattr(sys, "argv", ["sweep.py", *words, *more])
        assert sweep.main() == 0
    for one in chosen:
        assert rows.finished(one, tmp_path)
        found = rows.read(rows.path_of(one, tmp_path))
        assert [(row.step, row.updates) for row in found] == [(20, 6), (40, 26)]
        assert all(len(row.returns) == 20 for row in found)
        assert len(found[-1].sigma) == 1
        assert found[-1].commit
    lines = (tmp_path / "out" / "0" / "rows.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["metrics"]["kl/mean"] >= 0


def test_policies_that_were_left_are_evaluated_later(tmp_path: Path) -> None:
    examiners = sweep.Examiners(TASK, tmp_path / "rows.jsonl", 1)
    actors = Fleet(TASK, PAIR, 100).actors()
    try:
        examiners.enter(actors, [{"variant": "a", "seed": seed} for seed in (5, 6)])
    finally:
        examiners.close()
    assert (tmp_path / "rows.jsonl").read_text() == ""
    sweep.finish(TASK, tmp_path, 1)
    lines = [json.loads(x) for x in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert sorted(line["seed"] for line in lines) == [5, 6]
    assert all(len(line["returns"]) == 20 for line in lines)
    assert not (tmp_path / sweep.LEFT).exists()
    sweep.finish(TASK, tmp_path, 1)  # nothing is left


def test_a_sweep_that_is_stopped_leaves_what_it_has_not_written(tmp_path: Path) -> None:
    done, stopped = Future(), Future()
    done.set_result({"returns": []})
    stopped.set_exception(KeyboardInterrupt())
    examiners = sweep.Examiners(TASK, tmp_path / "rows.jsonl", 1)
    examiners.waiting = [({"seed": 1}, b"first", done), ({"seed": 2}, b"second", stopped)]
    with pytest.raises(KeyboardInterrupt):
        examiners.collect(None)
    examiners.close()
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == {"seed": 1, "returns": []}
    assert pickle.loads((tmp_path / sweep.LEFT).read_bytes()) == [({"seed": 2}, b"second")]


def test_fleets_run_in_processes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], env: dict[str, str]):
            asked.append(command)
            assert env["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"

        def wait(self) -> int:
            return len(asked) - 1

    monkeypatch.setattr(sweep.subprocess, "Popen", Process)
    monkeypatch.setattr(sweep, "cells", lambda *_: [cell(0), cell(0, "--n-step", "5"), cell(1)])
    words = ["epsilon", "--out", str(tmp_path), "--workers", "9"]
    monkeypatch.setattr(sys, "argv", ["sweep.py", *words])
    assert sweep.main() == 1  # the second failed
    tails = [command[2:] for command in asked]
    assert tails == [[*words, "--workers", "4", "--fleet", number] for number in "01"]


def test_a_sweep_cut_short_leaves_the_rows_of_whole_cells_alone(tmp_path: Path) -> None:
    line = {"updates": 1, "seconds": 2.0, "sigma": [], "returns": [1.0, 3.0], "falls": None}
    lines = [
        {"variant": f"default {seed}", "seed": seed, "step": step, **line}
        for seed, step in ((0, 40), (0, 20), (1, 20), (0, 60))
    ]
    about = {"cpu": "a card", "cores": 2, "versions": "", "commit": "12", "dirty": False}
    (path,) = sweep.write([cell(0), cell(1)], lines, about, tmp_path)
    assert [(row.step, row.final) for row in rows.read(path)] == [(20, False), (40, True)]


def test_the_settings_of_a_cell_are_those_that_its_flags_name() -> None:
    one = cell(3, "--epsilon-cov=3.2e-05", "--target-period=30", "--n-step", "5")
    config = sweep.config_of(one)
    assert (config.seed, config.n_step) == (3, 5)
    assert (config.mpo.epsilon_cov, config.mpo.target_period) == (3.2e-5, 30)
    assert sweep.config_of(replace(one, settings=("--preset=tutorial",))).envs == 1


def test_what_may_differ_within_a_fleet_is_one_fleet() -> None:
    changes = (), ("--epsilon=0.5", "--settle-after=0"), ("--no-scale-rewards",)
    alike = [cell(0), cell(1), *(cell(2, *change) for change in changes)]
    others = [cell(0, "--n-step=5"), cell(0, "--samples=20"), replace(cell(0), steps=50)]
    groups = list(sweep.grouped([*alike, *others]).values())
    assert groups == [alike, *([other] for other in others)]
