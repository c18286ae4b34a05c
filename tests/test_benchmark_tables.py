"""The benchmark harness: its arithmetic and its tables."""

import math
from dataclasses import replace
from pathlib import Path

import figures
import numpy as np
import pytest
import report
import scores
import speed
import tables
from experiments import OURS, RANDOM, Cell
from protocol import FINAL_EPISODES
from rows import Row
from scipy.stats import trim_mean
from walks import WALKER, evaluated, walk, written


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
    other = walk(tmp_path, 2, 100, 50, cell=Cell("long", WALKER, OURS, "wide"))
    assert tables.per_seed(other).splitlines()[2].startswith("| wide, 2 | 50.0 ± 10.0 |")


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
        "| A-v0 | 5.5 [5.0, 6.0] | 3.5 [3.0, 4.0] | 1.5 |",
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


def test_ablations_are_compared_after_as_many_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ABLATION_STEPS", 120)
    cell = Cell("ablations", WALKER, OURS, "one critic", settings=("--critics", "1"))
    found = walk(tmp_path, 0, 255, 305, 1, 2) + walk(tmp_path, 1, 0, 285, 1, 2)
    found += walk(tmp_path, 0, 0, 250, 240, cell=cell)  # 250 at its last step, not 240 at its end
    found[0] = replace(found[0], cpu="another")  # so that minutes are not compared
    assert tables.per_ablation(found).splitlines()[2:] == [
        "| the default | 2 | 295.0 | 285.0, 305.0 | 0 | 90 | 120 | - (1 of 2) | 285.0 |",
        "| one critic | 1 | 250.0 | 250.0, 250.0 | 0 | 120 | - | - | - |",
    ]


def test_a_stopped_run_counts_for_the_clock(tmp_path: Path) -> None:
    found = walk(tmp_path, 0, 255, 305, 300, cell=Cell("clock", WALKER, OURS))
    stopped = walk(tmp_path, 0, 0, 0, 260, 0, cell=Cell("clock", WALKER, "sbx-tqc"))[:-1]
    assert tables.per_clock(found + stopped).splitlines() == [
        "| method | seeds | steps/s | minutes to 250 | minutes to 280 | minutes to 300 |",
        "| --- | --- | --- | --- | --- | --- |",
        "| Posteriori | 1 | 1 | 1.0 | 2.0 | 2.0 |",
        "| TQC (SBX) | 1 | 1 | 3.0 | - | - |",
    ]
