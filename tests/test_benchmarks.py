"""The benchmark harness: its queue, its rows, its arithmetic. No peer needs to be installed."""

import json
import math
import os
import pickle
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import candidates
import equinox as eqx
import figures
import gymnasium as gym
import jax
import jobs
import numpy as np
import ours
import preference
import protocol
import pytest
import report
import rows
import run
import scores
import speed
import tables
from cell import TAKEN, stale
from experiments import EXPERIMENTS, OURS, PEERS, RANDOM, Cell, cells
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from protocol import EPISODES, FINAL_EPISODES, Ends, Examiner, Progress, Recorder, read
from rows import Row
from scipy.stats import trim_mean

from posteriori import PRESETS, Config, cli
from posteriori.models.networks import Mlp
from posteriori.runs.assemble import assemble
from posteriori.runs.evaluate import Evaluation, run_episodes

WALKER = "BipedalWalker-v3"
ABOUT = {"cpu": "some processor", "cores": 1, "versions": "posteriori 0.1.0 jax 0.10.2"}


def evaluated(step: int, mean: float, *, final: bool = False, **more: Any) -> dict[str, Any]:
    """Return the row of an evaluation of two episodes, 10 above and below the mean."""
    return {
        "step": step,
        "updates": step,
        "episodes": None,
        "seconds": step + 30.0,
        "training_seconds": float(step),
        "final": final,
        "returns": [mean - 10, mean + 10],
        "falls": 0,
        "commit": "0123456789abcdef",
        "dirty": False,
        **more,
    }


def written(results: Path, cell: Cell, *found: dict[str, Any]) -> list[Row]:
    """Write and read the rows of a cell."""
    return rows.read(
        rows.write(cell, found, {**ABOUT, "settings": cell.described}, results=results)
    )


def walk(results: Path, seed: int, *means: float, cell: Cell | None = None) -> list[Row]:
    """Write a run that evaluates to these means every 60 s and 60 steps, the last one final."""
    cell = replace(cell or Cell("walker", WALKER, OURS), seed=seed)
    *way, end = means
    found = [evaluated(60 * (i + 1), mean) for i, mean in enumerate(way)]
    return written(results, cell, *found, evaluated(60 * len(way), end, final=True))


# The queue.


def job(tmp_path: Path, name: str, code: str) -> jobs.Job:
    return jobs.Job(name, [sys.executable, "-c", code], tmp_path / "logs" / f"{name}.log")


def test_a_job_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    told: list[tuple[str, int | None]] = []
    queue = [
        job(tmp_path, "a", "print('a says')"),
        job(tmp_path, "b", "import sys; sys.exit(3)"),
        job(tmp_path, "c", "pass"),
    ]
    codes = jobs.work(queue, 1, lambda job, code: told.append((job.name, code)))
    assert codes == {"a": 0, "b": 3, "c": 0}
    assert told == [(n, c) for n in "abc" for c in (None, codes[n])]
    assert queue[0].log.read_text() == "a says\n"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_jobs_at_the_same_time_have_a_core_and_a_thread_each(tmp_path: Path) -> None:
    code = "import os; print(*os.sched_getaffinity(0), os.environ['OMP_NUM_THREADS'])"
    queue = [job(tmp_path, name, f"{code}; import time; time.sleep(0.5)") for name in "ab"]
    assert set(jobs.work(queue, 2, lambda *_: None).values()) == {0}
    cores = sorted(os.sched_getaffinity(0))[:2]
    said = sorted(j.log.read_text() for j in queue)
    assert said == [f"{core} 1\n" for core in cores]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_an_interrupt_reaches_the_jobs_and_waits_for_them(tmp_path: Path) -> None:
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    patient = job(
        tmp_path,
        "patient",
        "import pathlib, time\n"
        "try:\n"
        f"    pathlib.Path({str(ready)!r}).touch(); time.sleep(60)\n"
        f"except KeyboardInterrupt: time.sleep(0.3); pathlib.Path({str(saved)!r}).touch()",
    )
    quick = job(tmp_path, "quick", "pass")

    def interrupt(job: jobs.Job, code: int | None) -> None:
        if job is quick and code is not None:
            while not ready.exists():
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.work([patient, quick], 2, interrupt)
    assert saved.exists()


def queued(monkeypatch: pytest.MonkeyPatch, results: Path, *words: str) -> list[str]:
    """Return the names of the cells that the command would run."""
    seen: list[str] = []

    def work(queue: list[jobs.Job], *_: object) -> dict[str, int]:
        seen.extend(job.name for job in queue)
        return {}

    monkeypatch.setattr(run, "work", work)
    monkeypatch.setattr(sys, "argv", ["run.py", *words, "--results", str(results)])
    assert run.main() == 0
    return seen


def test_what_is_finished_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("walker", "--seeds", "0", "1")
    names = [f"walker/{WALKER}_posteriori_seed{seed}" for seed in (0, 1)]
    assert queued(monkeypatch, tmp_path, *words) == names
    steps = cells("walker")[0].steps
    written(tmp_path, Cell("walker", WALKER, OURS, seed=1), evaluated(steps, 1.0, final=True))
    assert queued(monkeypatch, tmp_path, *words) == names[:1]
    runs = ("--runs", str(tmp_path / "runs"))
    assert queued(monkeypatch, tmp_path, *words, *runs, "--again") == names


@pytest.mark.parametrize(
    ("change", "rows_", "done"),
    [
        ({}, [evaluated(50, 1.0), evaluated(100, 1.0, final=True)], True),
        ({}, [evaluated(50, 1.0), evaluated(100, 1.0)], False),
        ({"steps": 200}, [evaluated(100, 1.0, final=True)], False),
        ({"settings": ("--n-step", "5")}, [evaluated(100, 1.0, final=True)], False),
    ],
    ids=["whole", "no final row", "longer now", "other settings now"],
)
def test_a_cell_is_finished_by_its_last_row(
    change: dict, rows_: list[dict], done: bool, tmp_path: Path
) -> None:
    cell = Cell("walker", WALKER, OURS, steps=100)
    written(tmp_path, cell, *rows_)
    assert rows.finished(replace(cell, **change), tmp_path) is done


def test_a_folder_of_another_run_is_not_resumed(tmp_path: Path) -> None:
    cell = Cell("walker", WALKER, OURS)
    assert stale(cell, tmp_path)
    (tmp_path / "record.json").write_text(json.dumps({"cell": cell.to_json()}))
    assert not stale(Cell.from_json(cell.to_json()), tmp_path)
    assert stale(replace(cell, settings=("--n-step", "5")), tmp_path)


def test_a_cell_that_runs_already_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "work", lambda *_: {"a": 0, "b": TAKEN})
    monkeypatch.setattr(sys, "argv", ["run.py", "walker", "--results", str(tmp_path)])
    assert run.main() == 0


def test_no_two_cells_share_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "epsilon"])
    args = run.parse()
    logs = [run.job(cell, args).log for cell in cells("epsilon")]  # names with points
    assert len(set(logs)) == len(logs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--jobs", "999"),
            r"--jobs must be from 1 to \d+, the number of cores, but it is 999\. Each cell gets a "
            r"core of its own\.",
        ),
        (("--methods", "a2c"), r"The filters must leave a cell, but they leave none\. See "),
    ],
)
def test_what_the_queue_refuses(
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "walker", *words])
    assert run.main() == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error


# What is run.


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_cells_are_apart_and_of_known_methods(name: str) -> None:
    found = cells(name)
    assert len({cell.name for cell in found}) == len(found)
    assert {cell.method for cell in found} <= {OURS, RANDOM, *PEERS["methods"]}
    assert all("/" not in cell.name and " " not in cell.name for cell in found)
    assert {cell.seed for cell in found} == set(EXPERIMENTS[name][1])


def test_every_variant_is_a_command_of_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Config]] = []
    monkeypatch.setattr(cli, "_train", lambda env, config, *_, **__: seen.append((env, config)))
    mine = [c for name in EXPERIMENTS for c in cells(name, [3]) if c.method == OURS]
    told = {cell.settings: cell for cell in mine if cell.experiment != "epsilon"}
    grid = [cell for cell in mine if cell.experiment == "epsilon"]
    chosen = [*told.values(), *grid[:: len(grid) // 6]]
    for cell in chosen:
        assert cli.main(ours.command(cell, tmp_path)) == 0
    assert [env for env, _ in seen] == [cell.task for cell in chosen]
    for cell, (_, config) in zip(chosen, seen, strict=True):
        assert (config.seed, config.steps) == (3, cell.steps)
        assert config.evaluate_every == cell.evaluate_every
        assert (config.evaluate_episodes, config.final_episodes) == (EPISODES, FINAL_EPISODES)
    assert len({repr(config) for _, config in seen}) == len(chosen)


def test_the_grid_is_in_multiples_of_its_centre() -> None:
    (cell,) = [c for c in cells("epsilon", [0]) if c.variant == "tutorial epsilon_cov*10"]
    own = PRESETS["tutorial"].mpo
    assert cell.settings == (
        "--preset=tutorial",
        "--envs=8",
        f"--epsilon={own.epsilon:g}",
        f"--epsilon-mean={own.epsilon_mean:g}",
        f"--epsilon-cov={own.epsilon_cov * 10:g}",
        f"--target-period={own.target_period}",
    )
    assert {c.variant for c in cells("epsilon", [0])} >= {"default", "default target_period*3"}


def test_tuned_settings_are_of_methods_and_tasks_that_exist() -> None:
    tables_ = set(PEERS) - {"methods"}
    assert tables_ < {method["settings"] for method in PEERS["methods"].values()}
    assert all(gym.spec(task) for table in tables_ for task in PEERS[table])


# The evaluation and its rows.


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


def test_an_ablation_has_a_torso_of_its_own() -> None:
    (cell,) = [c for c in cells("ablations", [0]) if c.torso]
    spaces = Box(-1, 1, (3,)), Box(-1, 1, (2,))
    for name, norm in ((cell.torso, eqx.nn.Identity), ("", eqx.nn.LayerNorm)):
        with ours.torso(name):
            networks = assemble(Config(), *spaces, "an environment").state.online
        parts = jax.tree.leaves(networks, is_leaf=lambda x: isinstance(x, Mlp))
        assert [type(x.norm) for x in parts if isinstance(x, Mlp)] == [norm] * 3  # two critics


# Arithmetic and tables.


def test_the_first_pass_and_what_comes_after_it(tmp_path: Path) -> None:
    found = walk(tmp_path, 0, 100, 285, 250, 290, 270)
    passed = scores.first_pass(found, 280)
    assert passed is not None
    assert (passed.step, scores.minutes(passed)) == (120, 2.0)
    assert scores.worst_after(found, 280) == 250
    assert scores.first_pass(found, 291) is None
    assert math.isnan(scores.worst_after(found, 291))
    # The final evaluation is no evaluation on the way, but a fall in it is one after the pass.
    late = walk(tmp_path, 1, 100, 285, 260)
    assert scores.worst_after(late, 280) == 260
    assert scores.first_pass(walk(tmp_path, 2, 100, 300), 280) is None


def test_a_run_is_compared_at_its_milestone(tmp_path: Path) -> None:
    whole = walk(tmp_path, 0, 100, 310, 290, 300)
    returns = [float(x) for x in range(FINAL_EPISODES)]
    way = [evaluated(60, 1.0), evaluated(120, 0.0, returns=returns), evaluated(180, 2.0)]
    cell = Cell("walker", WALKER, OURS, seed=1)
    longer = written(tmp_path, cell, *way, evaluated(180, 3.0, final=True))
    cut = scores.runs(scores.to_milestone(whole + longer))
    assert cut[0] == whole
    assert [(row.step, row.final) for row in cut[1]] == [(60, False), (120, False), (120, True)]
    assert scores.final(cut[1]).returns == tuple(returns)
    both = tables.per_seed_on_the_way(longer)
    assert both == f"{tables.per_seed(cut[1])}\n\n{tables.per_seed(longer)}"
    assert tables.per_seed_on_the_way(whole) == tables.per_seed(whole)


def test_a_median_counts_what_never_passed_as_late() -> None:
    assert scores.middle([1, None, 2]) == 2
    assert scores.middle([1, None, None]) is None
    assert scores.middle([1, 2]) == 1.5


@pytest.mark.parametrize("n", range(1, 13))
def test_the_interquartile_mean_is_scipys_trimmed_mean(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    assert scores.iqm(list(values)) == pytest.approx(trim_mean(values, 0.25))


def test_the_interval_holds_the_interquartile_mean() -> None:
    pytest.importorskip("rliable")
    values = np.random.default_rng(0).normal(size=(5, 3))
    low, high = scores.interval(values)
    assert low < scores.iqm(list(values.ravel())) < high
    assert (low, high) == scores.interval(values)


def test_a_band_is_over_what_all_curves_have() -> None:
    curves = [(np.array([a, 10.0]), np.array([0.0, 0.0]) + y) for a, y in ((0, 1), (2, 2), (1, 3))]
    grid, low, mid, high = scores.band(curves, points=3)
    assert grid.tolist() == [2.0, 6.0, 10.0]
    assert (low[0], mid[0], high[0]) == (1.5, 2.0, 2.5)


def test_the_table_of_seeds(tmp_path: Path) -> None:
    found = walk(tmp_path, 0, 255, 305, 290, 310) + walk(tmp_path, 1, 100, 252, 281, 280)
    assert tables.per_seed(found).splitlines()[2:] == [
        "| 0 | 310.0 ± 10.0 | 300.0 | 0 | 60 | 120 | 120 | 290.0 | 2.0 | 180 | 3.0 |",
        "| 1 | 280.0 ± 10.0 | 270.0 | 0 | 120 | 180 | - | 280.0 | - | 180 | 3.0 |",
        "| median | 295.0 |  | 0 | 90 | 150 | - |  | - |  | 3.0 |",
    ]


def test_the_table_of_methods_says_how_many_passed(tmp_path: Path) -> None:
    peer = Cell("peers", WALKER, "sbx-sac")
    found = walk(tmp_path, 0, 255, 305, 310)
    for seed, score in enumerate((260, 250, 240)):
        found += walk(tmp_path, seed, 100, score, score, cell=peer)
    assert tables.per_method(found).splitlines()[2:] == [
        "| Posteriori | 1 | 310.0 | 310.0, 310.0 | 0 | 60 | 120 | 120 | 1.0 | 2.0 | 2.0 | 310.0 |",
        "| SAC (SBX) | 3 | 250.0 | 240.0, 260.0 | 0 | 120 (2 of 3) | - | - | 2.0 (2 of 3) | - | - "
        "| - |",
    ]


def test_scores_of_tasks_are_in_units_of_chance_and_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "interval", lambda x: (float(x.min()), float(x.max())))
    found: list[Row] = []
    for task, scale in (("A-v0", 1.0), ("B-v0", 100.0)):
        for method, level in ((RANDOM, 1.0), ("sbx-sac", 3.0), (OURS, 5.0)):
            for seed in range(2):
                cell = Cell("tasks", task, method)
                found += walk(tmp_path, seed, level * scale + seed * scale, cell=cell)
    # Random 1, 2 (mean 1.5); SAC 3, 4; ours 5, 6 (mean 5.5, the best): SAC is at 2/4, 1.5 to 2.5.
    assert tables.per_task(found).splitlines() == [
        "| task | Posteriori | SAC (SBX) | random |",
        "| --- | --- | --- | --- |",
        "| A-v0 | 6 [5, 6] | 4 [3, 4] | 2 |",
        "| B-v0 | 550 [500, 600] | 350 [300, 400] | 150 |",
        "| all, normalised | 1.00 [0.88, 1.12] | 0.50 [0.38, 0.62] | 0 |",
    ]


def test_runs_that_were_stopped_count_as_far_as_they_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "interval", lambda x: (float(x.min()), float(x.max())))
    monkeypatch.setattr(tables, "EARLY", ("A-v0",))
    monkeypatch.setattr(tables, "EARLY_STEP", 100)
    ours, peer = Cell("tasks", "A-v0", OURS), Cell("tasks", "A-v0", "sbx-tqc")
    ended = walk(tmp_path, 0, 10.0, 20.0, 30.0, 40.0, cell=ours)
    stopped = [
        row
        for seed, mean, last in ((0, 7.0, 120), (1, 9.0, 120), (2, 11.0, 90))
        for row in written(tmp_path, replace(peer, seed=seed), evaluated(last, mean))
    ]
    found = [*ended, *stopped, *walk(tmp_path, 0, 1.0, 1.0, cell=replace(ours, task="B-v0"))]
    assert scores.whole(found) == [*ended, *found[-2:]]
    cut = scores.runs(scores.to_step(ended, 100))
    assert [[(r.step, r.final) for r in run] for run in cut] == [
        [(60, False), (120, False), (120, True)]
    ]
    assert tables.per_task_early(found).splitlines() == [
        "| task, 100 steps | Posteriori | TQC (SBX) |",
        "| --- | --- | --- |",
        "| A-v0 | 20 (one seed) | 8 [7, 9] of 2 |",
    ]
    assert "TQC" not in tables.per_task(found)
    legend = figures.each_task(found).axes[0].get_legend()
    assert legend is not None
    assert [x.get_text() for x in legend.get_texts()] == [
        "Posteriori, 1 seed",
        "TQC (SBX), 3 seeds",
    ]
    assert tables.per_seed(stopped) == ""
    lines = figures.seeds([*ended, *stopped[:1]]).axes[0].get_lines()
    assert [line.get_label() for line in lines] == [
        "seed 0, 40.0 at the end",
        "seed 0, stopped at 120",
    ]
    assert report.kept("tasks", found) == found
    assert report.kept("walker", found) == scores.whole(found)


def test_the_default_stands_beside_other_noises_after_as_many_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "interval", lambda x: (float(x.min()), float(x.max())))
    monkeypatch.setattr(tables, "EXPLORATION", {WALKER: (120, 60)})
    white = Cell("exploration", WALKER, OURS, "white", settings=("--noise-exponent", "0"))
    car = "MountainCarContinuous-v0"
    found = walk(tmp_path, 0, 255, 305, 1, 2)  # until 180 steps, of which 120 count
    found += walk(tmp_path, 0, 90, 94, cell=Cell("tasks", car, OURS))
    found += walk(tmp_path, 0, 250, 260, 270, cell=white)
    for seed, mean in ((0, 0), (1, 4)):
        found += walk(tmp_path, seed, 0, mean, cell=replace(white, task=car))
    walked, drove = tables.per_noise(found).split("\n\n")
    assert walked.splitlines()[2:] == [
        "| the default | 1 | 305.0 | 305.0, 305.0 | 0 | 60 | 120 | 120 | 1.0 | 2.0 | 2.0 | 305.0 |",
        "| white | 1 | 270.0 | 270.0, 270.0 | 0 | 60 | - | - | 1.0 | - | - | - |",
    ]
    assert drove.splitlines()[2:] == [
        "| the default | 1 | 94.0 (one seed) |",
        "| white | 2 | 2.0 [0.0, 4.0] |",
    ]


def test_the_table_of_speeds_is_of_medians_and_ratios() -> None:
    found = [
        {"method": m, "steps_per_second": s, "updates_per_second": u}
        for m, s, u in (
            (OURS, "100", "90"),
            (OURS, "300", "250"),
            (OURS, "200", "190"),
            ("sb3-ppo", "50", ""),
        )
    ]
    assert speed.table(found).splitlines()[2:] == [
        "| Posteriori | 200 | 190 | 1.00 |",
        "| PPO (SB3) | 50 | - | 4.00 |",
    ]


# The page.


def test_a_section_replaces_what_stood_between_its_marks() -> None:
    page = "a\n<!-- report: x -->\nold\n<!-- end of x -->\nb\n"
    once = report.filled(page, {"x": r"new \1"})
    assert once == "a\n<!-- report: x -->\n\nnew \\1\n\n<!-- end of x -->\nb\n"
    assert report.filled(once, {"x": r"new \1"}) == once


def test_a_section_must_have_a_place() -> None:
    message = (
        r"The page must have one `<!-- report: x -->` and its `<!-- end of x -->`, but it has 0\. "
        r"Write them where the section belongs\."
    )
    with pytest.raises(ValueError, match=message):
        report.filled("", {"x": ""})


def test_the_page_has_a_place_for_every_section() -> None:
    names = [*report.SECTIONS, *report.MODULES, *report.COMPARISONS]
    report.filled(report.PAGE.read_text(), dict.fromkeys(names, ""))


def test_the_report_is_of_the_runs_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk(tmp_path, 0, 255, 305, 290, 310)
    written(tmp_path, Cell("walker", WALKER, OURS, seed=1), evaluated(60, 1.0))
    page = tmp_path / "page.md"
    names = [*report.SECTIONS, *report.MODULES, *report.COMPARISONS]
    page.write_text("".join(f"<!-- report: {n} -->\n<!-- end of {n} -->\n" for n in names))
    words = ["--results", str(tmp_path), "--page", str(page), "--figures", str(tmp_path / "f")]
    monkeypatch.setattr(sys, "argv", ["report.py", *words])
    monkeypatch.setattr(report, "SECTIONS", {n: report.SECTIONS[n] for n in ("walker", "tasks")})
    assert report.main() == 0
    text = page.read_text()
    assert "| 0 | 310.0 ± 10.0 |" in text
    assert "| 1 |" not in text
    assert "Not measured yet: `python benchmarks/run.py tasks`." in text
    assert "some processor, 1 core each. Commit 0123456789ab. jax 0.10.2, posteriori 0.1.0." in text
    first = (tmp_path / "f" / "walker.svg").read_bytes()
    assert report.main() == 0
    assert (tmp_path / "f" / "walker.svg").read_bytes() == first


def test_curves_of_methods_are_medians_over_steps_and_minutes(tmp_path: Path) -> None:
    found = [row for seed in range(3) for row in walk(tmp_path, seed, seed, 10 + seed, 0)]
    left, right = figures.compared(found, thresholds=()).axes
    for axes, last in ((left, 120.0), (right, 2.0)):
        (line,) = axes.lines
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert (x[-1], y[0], y[-1]) == (last, 1.0, 11.0)
        assert line.get_label() == "Posteriori, 3 seeds"


def test_each_task_names_its_own_methods_and_seeds(tmp_path: Path) -> None:
    cells = [("A-v0", OURS, 0), ("B-v0", OURS, 0), ("B-v0", OURS, 1), ("B-v0", "sbx-sac", 0)]
    found = [
        row
        for task, method, seed in cells
        for row in walk(tmp_path, seed, 0.0, 1.0, cell=Cell("tasks", task, method))
    ]
    legends = [axes.get_legend() for axes in figures.each_task(found).axes]
    named = [[text.get_text() for text in legend.get_texts()] for legend in legends if legend]
    assert named == [["Posteriori, 1 seed"], ["Posteriori, 2 seeds", "SAC (SBX), 1 seed"]]


def test_the_heat_map_puts_each_cell_in_its_place(tmp_path: Path) -> None:
    found: list[Row] = []
    for i, cell in enumerate(cells("epsilon", [0])):
        found += walk(tmp_path, 0, 0.0, float(i), cell=cell)
    value = {row.variant: row.mean for row in found if row.final}
    panels = {axes.get_title(loc="left"): axes for axes in figures.epsilon(found).axes}
    framed = {title: len(axes.patches) for title, axes in panels.items()}
    assert framed["tutorial: epsilon_mean"] == 1  # the preset itself
    grid = np.asarray(panels["tutorial: epsilon_mean"].images[0].get_array())
    assert grid.shape == (3, 5)
    assert grid[2, 0] == value["tutorial epsilon_mean*0.1 target_period*3"]
    assert grid[1, 2] == value["tutorial"]


def test_the_table_of_preferences_is_of_medians_and_ranges() -> None:
    found = [
        {"epsilon": epsilon, "mean": mean, "effort": effort}
        for epsilon, mean, effort in (
            ("0.0", "-150.4", "0.5"),
            ("0.05", "-140", "0.1"),
            ("0.05", "-200", "0.3"),
            ("0.05", "-160", "0.2"),
        )
    ]
    assert preference.table(found).splitlines()[2:] == [
        "| none | 1 | -150 (-150 to -150) | 0.50 (0.50 to 0.50) |",
        "| 0.05 | 3 | -160 (-200 to -140) | 0.20 (0.10 to 0.30) |",
    ]


def test_candidates_are_counted_by_seed_and_their_last_policies_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(seed: int, step: int, explored: list[float], **more: Any) -> dict[str, Any]:
        named = {"variant": "decay half pessimism", "seed": seed, "step": step}
        return {**named, "explored": explored, "sigma": [0.1, 0.3], **more}

    done = [
        line(seed, step, [100.0 * seed, 300.0], returns=[greedy], falls=seed)
        for seed, greedy in ((0, 280.0), (1, 240.0))
        for step in (50_000, 75_000, 100_000, 125_000)
    ]
    left = [
        (line(0, 150_000, [250.0]), b""),
        (line(1, 150_000, [150.0]), b""),
        (line(0, 151_000, [-90.0]), pickle.dumps([310.0, 290.0])),
        (line(1, 151_000, [-90.0]), pickle.dumps([300.0, -60.0])),
    ]
    out = tmp_path / "1"
    out.mkdir()
    (out / "about.json").write_text(json.dumps({"cpu": "some device", "commit": "0123456789ab"}))
    (out / "rows.jsonl").write_text("".join(json.dumps(x) + "\n" for x in done))
    (out / "left.pkl").write_bytes(pickle.dumps(left))
    played = lambda returns: {"returns": returns, "falls": sum(x < 200 for x in returns)}  # noqa: E731
    monkeypatch.setattr(candidates, "play", played)
    rows.write_table(path := tmp_path / "c.csv", candidates.FIELDS, candidates.collected(tmp_path))
    found = rows.read_table(path)
    assert len(found) == 12
    assert {row["sigma"] for row in found} == {"0.200"}
    comparison = candidates.COMPARISONS["candidates"]
    cells_ = comparison.table(found).splitlines()[2].strip("| ").split(" | ")
    assert cells_[:2] == ["decay half pessimism", "2"]
    # After 100k: 0, 300, 250 and -90 of seed 0, and 100, 300, 150 and -90 of seed 1.
    assert cells_[2:6] == ["175 (150)"] * 3 + ["115 (115)"]
    assert cells_[6:8] == ["288 (275)", "62.5%"]
    assert cells_[8:10] == ["260 (240)"] * 2
    assert cells_[10:] == ["210 (120)", "25.0%"]
    assert comparison.origin(found) == "some device. Commit 0123456789ab."


def test_a_seed_without_an_upright_episode_has_no_mean_of_them() -> None:
    means = [candidates.upright(returns) for returns in ([-90.0, 150.0], [250.0, 150.0])]
    assert candidates.spread(means) == "250 (250)"
    assert candidates.spread(means[:1]) == "-"
