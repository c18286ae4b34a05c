"""The benchmark harness: its page and figures."""

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import candidates
import figures
import numpy as np
import preference
import pytest
import report
import rows
from experiments import OURS, Cell, cells
from protocol import FINAL_EPISODES
from rows import Row
from walks import WALKER, evaluated, walk, written


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


def test_a_run_that_was_stopped_counts_at_its_milestone_if_it_got_there(tmp_path: Path) -> None:
    returns = [float(x) for x in range(FINAL_EPISODES)]
    cell = Cell("long", WALKER, OURS, "wide")
    past = written(tmp_path, cell, evaluated(60, 0.0, returns=returns), evaluated(120, 2.0))
    before = written(tmp_path, replace(cell, seed=1), evaluated(60, 1.0))
    counted = report.at_milestone(list)(past + before)
    assert [(row.seed, row.step, row.final) for row in counted] == [(0, 60, False), (0, 60, True)]


def test_curves_of_methods_are_medians_over_steps_and_minutes(tmp_path: Path) -> None:
    found = [row for seed in range(3) for row in walk(tmp_path, seed, seed, 10 + seed, 0)]
    left, right = figures.compared(found, thresholds=()).axes
    for axes, last in ((left, 120.0), (right, 2.0)):
        (line,) = axes.lines
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert (x[-1], y[0], y[-1]) == (last, 1.0, 11.0)
        assert line.get_label() == "Posteriori, 3 seeds"


def test_minutes_of_several_machines_are_not_drawn(tmp_path: Path) -> None:
    found = walk(tmp_path, 0, 1, 2, 3)
    found += [replace(row, cpu="another") for row in walk(tmp_path, 1, 1, 2, 3)]
    (axes,) = figures.compared(found, thresholds=()).axes
    assert axes.get_xlabel() == "environment steps"


def test_curves_of_variants_have_a_name_and_a_colour_each(tmp_path: Path) -> None:
    found = walk(tmp_path, 0, 1, 2, 3)
    for variant in ("some", "others"):
        found += walk(tmp_path, 0, 1, 2, 3, cell=Cell("updates", WALKER, OURS, variant))
    lines = figures.compared(found, thresholds=()).axes[0].lines
    named = [line.get_label() for line in lines]
    assert named == ["Posteriori, 1 seed", "some, 1 seed", "others, 1 seed"]
    assert len({line.get_color() for line in lines}) == 3


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
