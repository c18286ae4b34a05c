"""The benchmark harness: its evaluations and their rows."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import agents
import equinox as eqx
import gymnasium as gym
import jax
import numpy as np
import ours
import parts
import protocol
import pytest
import rows
from experiments import OURS, Cell, cells
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from protocol import EPISODES, FINAL_EPISODES, Ends, Examiner, Progress, Recorder, read
from rows import Row
from walks import WALKER, evaluated, walk, written

from posteriori import Config
from posteriori.models.networks import Mlp
from posteriori.runs.assemble import assemble
from posteriori.runs.evaluate import Evaluation, run_episodes


class Stumbling(gym.Env):
    """Two steps; the first action decides whether the second ends in a fall."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        super().reset(seed=seed, options=options)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple:
        self.t += 1
        self.falls = action[0] < 0 if self.t == 1 else self.falls
        over = self.t == 2
        return np.zeros(1, np.float32), -100.0 if over and self.falls else 1.0, over, False, {}


def test_falls_are_those_of_the_episodes_that_count() -> None:
    envs = SyncVectorEnv([Stumbling] * 3, autoreset_mode=AutoresetMode.NEXT_STEP)
    ends = Ends(envs)

    def policy(obs: np.ndarray) -> np.ndarray:
        return np.array([[-1.0], [1.0], [-1.0]], np.float32)[: len(obs)]

    # Four episodes: two of the first environment, which falls, two of the second, which does not.
    result = run_episodes(policy, ends, env="Stumbling", episodes=4, seed=0)
    assert result.returns == [-99.0, -99.0, 2.0, 2.0]
    assert ends.falls(4) == 2


def test_rows_name_the_accelerator_of_what_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = ["gpu: Card 9", "gpu: Card 9"]
    hardware = {"cpu": "Chip 7", "devices": devices}
    monkeypatch.setattr(protocol, "provenance", lambda: {"hardware": hardware})
    assert protocol.processor(True) == "Chip 7, Card 9"
    assert protocol.processor(False) == "Chip 7"
    devices[:] = ["cpu: cpu"]
    assert protocol.processor(True) == "Chip 7"


def constant(mean: float, took: float) -> Any:
    """Return an evaluation that takes so many seconds."""

    def evaluate(_: object) -> Evaluation:
        time.sleep(took)
        return Evaluation("", 1, mean, 0.0, mean, mean, [mean], [1], 1)

    return evaluate


def test_seconds_of_training_leave_evaluations_out(tmp_path: Path) -> None:
    envs = SyncVectorEnv([Stumbling])
    recorder = Recorder(tmp_path, "Stumbling")
    for step, seconds in ((10, 1.0), (20, 3.0)):
        recorder.keep(constant(0.0, 0.05), envs, Progress(step, 0, None, seconds), final=False)
    first, second = read(recorder.path)
    assert (first["training_seconds"], first["seconds"], second["seconds"]) == (1.0, 1.0, 3.0)
    assert second["training_seconds"] == pytest.approx(3.0 - first["evaluation_seconds"])
    assert first["evaluation_seconds"] > 0.05
    assert first["falls"] is None


def test_what_comes_again_after_a_resumption_is_kept_once(tmp_path: Path) -> None:
    envs = SyncVectorEnv([Stumbling])
    recorder = Recorder(tmp_path, "Stumbling")
    for step, final in ((10, False), (20, False), (30, False), (30, True)):
        recorder.keep(constant(float(step), 0.0), envs, Progress(step, 0, None, 1.0), final=final)
    with recorder.path.open("a") as file:
        file.write('{"step": 40, "ret')  # a crash
    again = Recorder(tmp_path, "Stumbling", resumed_at=20)
    again.keep(constant(31.0, 0.0), envs, Progress(31, 0, None, 1.0), final=False)
    assert [row["step"] for row in read(recorder.path)] == [10, 20, 31]
    assert [row["step"] for row in read(Recorder(tmp_path, "Stumbling").path)] == []


def test_a_peer_is_evaluated_when_its_steps_pass_a_multiple(tmp_path: Path) -> None:
    cell = Cell("peers", "Pendulum-v1", "sb3-sac", evaluate_every=100)
    examiner = Examiner(cell, Recorder(tmp_path, cell.task), lambda obs: np.zeros((len(obs), 1)))
    for step in (60, 99, 120, 180, 199, 260):
        examiner.at(step, 2 * step)
    examiner.finish(520)
    found = read(tmp_path / "evaluations.jsonl")
    assert [(r["step"], r["updates"], r["final"]) for r in found] == [
        (120, 240, False),
        (260, 520, False),
        (260, 520, True),
    ]
    assert [len(r["returns"]) for r in found] == [EPISODES, EPISODES, FINAL_EPISODES]
    # Pendulum's starts differ, and are the same at every evaluation.
    assert found[0]["returns"] == found[1]["returns"]
    assert len(set(found[0]["returns"])) == EPISODES


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    cell = Cell("ablations", WALKER, OURS, "1-step", seed=7, settings=("--n-step", "1"))
    more = {"sigma": [0.5, 0.25], "falls": 3, "dirty": True}
    (row,) = written(tmp_path, cell, evaluated(12_345, 290.0, final=True, **more))
    assert rows.path_of(cell, tmp_path).name == "BipedalWalker-v3_posteriori_1-step_seed7.csv"
    assert row == Row(
        experiment="ablations",
        task=WALKER,
        method=OURS,
        variant="1-step",
        seed=7,
        step=12_345,
        updates=12_345,
        seconds=12_375.0,
        training_seconds=12_345.0,
        final=True,
        mean=290.0,
        std=10.0,
        returns=(280.0, 300.0),
        falls=3,
        sigma=(0.5, 0.25),
        commit="0123456789ab+",
        cpu="some processor",
        cores=1,
        versions="posteriori 0.1.0 jax 0.10.2",
        settings="--n-step 1",
    )


def test_a_cell_has_a_file_of_its_own(tmp_path: Path) -> None:
    walk(tmp_path, 0, 1.0, 2.0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.csv")}
    walk(tmp_path, 1, 3.0, 4.0)
    assert all(path.read_bytes() == text for path, text in before.items())
    assert [row.seed for row in rows.load("walker", tmp_path)] == [0, 0, 1, 1]
    assert rows.load("peers", tmp_path) == []


def test_the_spread_is_that_of_the_last_report_before_an_evaluation(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    metrics = [{"step": s, **{f"sigma/{i}": s + i for i in range(11)}} for s in (10, 20)]
    lines = [{"step": 5, "loss": 1.0}, *metrics]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "run" / "metrics.jsonl").write_text(text)
    found = [{"step": step} for step in (5, 19, 20)]
    (tmp_path / "evaluations.jsonl").write_text("".join(json.dumps(r) + "\n" for r in found))
    spreads = [row["sigma"] for row in ours.rows(tmp_path)]
    assert spreads == [[], [10 + i for i in range(11)], [20 + i for i in range(11)]]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Flags of a cell that hardly trains; evaluations have one episode, those at the end two."""
    monkeypatch.setattr(ours, "EPISODES", 1)
    monkeypatch.setattr(ours, "FINAL_EPISODES", 2)
    return ("--learning-starts", "1000", "--widths", "8", "--envs", "2")


def test_a_cell_of_ours_trains_and_goes_on_from_its_checkpoint(
    tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    cell = Cell("tasks", "Pendulum-v1", OURS, "", 0, 400, 200, milestone=200, settings=tiny)
    steps = []
    for _ in range(2):  # the second time nothing is left to train
        assert ours.train(cell, tmp_path) == 0
        found = read(tmp_path / "evaluations.jsonl")
        steps.append([(row["step"], row["final"], len(row["returns"])) for row in found])
    assert steps[0] == [(200, False, 2), (400, False, 1), (400, True, 2)]
    assert steps[1][:3] == steps[0]


def test_a_cell_goes_on_with_the_finished_run_of_another(
    tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    walker = Cell("walker", "Pendulum-v1", OURS, "", 0, 400, 200, settings=tiny)
    longer = replace(walker, experiment="long", steps=600, begins="walker")
    early, late = (tmp_path / cell.experiment / cell.name for cell in (walker, longer))
    early.mkdir(parents=True)
    late.mkdir(parents=True)
    assert ours.train(walker, early) == 0
    began = read(early / "evaluations.jsonl")
    assert ours.train(longer, late) == 0
    found = read(late / "evaluations.jsonl")
    assert found[:2] == began[:2]  # minutes and returns, so that nothing was trained anew
    assert [(row["step"], row["final"]) for row in found[2:]] == [(600, False), (600, True)]
    assert read(early / "evaluations.jsonl") == began


def test_a_cell_does_not_go_on_with_a_run_that_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "evaluations.jsonl").write_text(json.dumps({"step": 200, "final": False}) + "\n")
    ours.begin(tmp_path / "long", tmp_path)
    assert not (tmp_path / "long").exists()


def test_an_ablation_has_networks_of_its_own() -> None:
    spaces = Box(-1, 1, (3,)), Box(-1, 1, (2,))
    for name, norm in (("no layer norm", eqx.nn.Identity), ("", eqx.nn.LayerNorm)):
        with parts.instead(name):
            networks = assemble(Config(), *spaces, "an environment").state.online
        found = jax.tree.leaves(networks, is_leaf=lambda x: isinstance(x, Mlp))
        assert [type(x.norm) for x in found if isinstance(x, Mlp)] == [norm] * 3  # two critics


def test_an_ablation_follows_the_temperature_by_adam() -> None:
    found: list[float] = []
    with parts.instead("temperature by Adam"):
        agent = agents.agent.__wrapped__()
        state = agent.state
        for _ in range(3):
            state, metrics = agent.update(state, agents.batch())
            found.append(float(metrics["temperature/return"]))
    # An inverse softplus of 10, whose first steps of Adam are of 0.01: the dual wants it lower.
    assert found == pytest.approx([10.0, 9.99, 9.98], abs=1e-3)
    assert set(state.log_alpha) == {"mean", "cov", "temperature"}


def test_every_part_of_an_ablation_is_there() -> None:
    assert {cell.part for cell in cells("ablations", [0])} - {""} == set(parts.PARTS)
