"""The benchmark harness: its queue, and what it runs. No peer needs to be installed."""

import json
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import jobs
import ours
import pytest
import rows
import run
from cell import TAKEN, stale
from experiments import EXPERIMENTS, OURS, PEERS, RANDOM, Cell, cells
from protocol import EPISODES, FINAL_EPISODES
from walks import ABOUT, WALKER, evaluated, written

from posteriori import PRESETS, Config, cli

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


def test_the_rows_of_what_was_stopped_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, names = tmp_path / "runs", [f"peers/{WALKER}_sbx-sac_seed{seed}" for seed in (0, 1)]
    cell = next(cell for cell in cells("peers", [0]) if cell.method == "sbx-sac")
    (runs / names[0]).mkdir(parents=True)
    record = {**ABOUT, "cell": cell.to_json(), "settings": cell.described}
    (runs / names[0] / "record.json").write_text(json.dumps(record))
    (runs / names[0] / "evaluations.jsonl").write_text(json.dumps(evaluated(60, 1.0)) + "\n")
    words = ("peers", "--methods", "sbx-sac", "--seeds", "0", "1", "--runs", str(runs))
    assert queued(monkeypatch, tmp_path, *words, "--keep") == []
    (row,) = rows.load("peers", tmp_path)
    assert (row.seed, row.step, row.final) == (0, 60, False)
    assert queued(monkeypatch, tmp_path, *words) == names  # not finished by that


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
