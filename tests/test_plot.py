"""Learning curves: what is drawn of which runs, without looking at pixels."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posteriori.algorithms.mpo import Mpo
from posteriori.runs.config import Config
from posteriori.runs.history import grouped, read_history
from posteriori.runs.plot import draw, median, plot, smooth


def make_run(path: Path, *, level: float = 0.0, env: str = "Walker-v0", **settings: object) -> Path:
    """Write a run of 20,000 steps whose evaluations are `level`, then `level` + 10."""
    config = replace(Config(), **settings)  # pyright: ignore[reportArgumentType]
    path.mkdir()
    record = {"env": env, "settings": asdict(config)}
    (path / "config.json").write_text(json.dumps(record))
    rows = [
        {"step": step, "rollout/return": level - 5, "sigma": 0.4, "kl/mean": 0.9, "kl/cov": 1.1}
        for step in range(1000, 20_001, 1000)
    ]
    rows += [
        {
            "step": step,
            "evaluation/mean": mean,
            "evaluation/min": mean - 3,
            "evaluation/max": mean + 2,
        }
        for step, mean in ((10_000, level), (20_000, level + 10))
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def drawn(*runs: Path) -> tuple[Figure, dict[str, Axes]]:
    figure = draw(grouped([read_history(run) for run in runs]))
    return figure, {axes.get_title(loc="left"): axes for axes in figure.axes}


def legend(axes: Axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


def test_one_run_shows_its_evaluation_and_the_reach_of_its_episodes(tmp_path: Path) -> None:
    figure, axes = drawn(make_run(tmp_path / "a", level=100))
    top = axes["Return of an episode"]
    assert legend(top) == ["Walker-v0: 110.0 at 20,000"]
    assert any(np.array_equal(line.get_ydata(), [100, 110]) for line in top.lines)
    shade = top.collections[0].get_paths()[0].vertices
    assert {97.0, 107.0, 102.0, 112.0} == set(np.asarray(shade)[:, 1])
    assert legend(axes["Trust regions"]) == ["mean", "cov"]
    assert figure.get_suptitle() == "Walker-v0"


def test_seeds_share_a_label_and_get_a_median(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"{s}", level=[0, 50, 300][s], seed=s) for s in range(3)]
    _, axes = drawn(*runs)
    top = axes["Return of an episode"]
    assert legend(top) == ["Walker-v0, median of 3 runs: 60.0 at 20,000"]
    assert any(np.array_equal(line.get_ydata(), [50, 60]) for line in top.lines)


def test_groups_are_told_apart_by_the_settings_that_differ(tmp_path: Path) -> None:
    slow = Mpo(epsilon_cov=1e-6)
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", mpo=slow, steps=50_000)]
    _, axes = drawn(*runs)
    labels = [label.split(":")[0] for label in legend(axes["Return of an episode"])]
    assert labels == ["epsilon_cov=1e-05", "epsilon_cov=1e-06"]


def test_groups_of_different_environments_are_named_by_them(tmp_path: Path) -> None:
    figure, axes = drawn(make_run(tmp_path / "a"), make_run(tmp_path / "b", env="Pole-v0"))
    labels = [label.split(":")[0] for label in legend(axes["Return of an episode"])]
    assert labels == ["Walker-v0", "Pole-v0"]
    assert figure.get_suptitle() == "Walker-v0, Pole-v0"


def test_a_categorical_policy_shows_its_entropy(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    metrics = run / "metrics.jsonl"
    text = metrics.read_text().replace("sigma", "entropy").replace("kl/mean", "kl/policy")
    metrics.write_text(text)
    _, axes = drawn(run)
    assert axes["Exploration"].get_title(loc="right") == "entropy (dashed), nats"
    assert legend(axes["Trust regions"]) == ["policy", "cov"]


def test_a_run_before_its_first_evaluation_can_be_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    (run / "metrics.jsonl").write_text('{"step": 1000, "rollout/return": null}\n')
    _, axes = drawn(run)
    assert legend(axes["Return of an episode"]) == ["Walker-v0"]


def test_a_single_row_is_drawn_as_a_point(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    row = {"step": 1000, "evaluation/mean": 5.0, "sigma": 0.4, "kl/mean": 0.9}
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    _, axes = drawn(run)
    for title in ("Return of an episode", "Exploration", "Trust regions"):
        lines = [line for line in axes[title].lines if np.size(line.get_xdata()) == 1]
        assert [line.get_marker() for line in lines] == ["o"]


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_suffix_chooses_the_format(tmp_path: Path, suffix: str, magic: bytes) -> None:
    out = plot([make_run(tmp_path / "a")], tmp_path / "new" / f"curve.{suffix}")
    assert out.read_bytes().startswith(magic)


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a format of figures \(.*png.*\), but it is .*curve.xyz"):
        plot([tmp_path], tmp_path / "curve.xyz")


def test_no_run_and_no_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none was given. Name a run's folder"):
        plot([], tmp_path / "curve.png")
    run = make_run(tmp_path / "a")
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(FileNotFoundError, match=r"metrics.jsonl must hold the run's metrics"):
        plot([run], tmp_path / "curve.png")


def test_a_median_is_taken_where_all_curves_have_a_value() -> None:
    curves = [
        (np.array([1.0, 2.0, 3.0]), np.array([0.0, 10.0, 20.0])),
        (np.array([2.0, 3.0]), np.array([30.0, 40.0])),
    ]
    steps, values = median(curves)
    assert steps.tolist() == [2.0, 3.0]
    assert values.tolist() == [20.0, 30.0]


def test_smoothing_keeps_the_mean_and_few_points() -> None:
    steps, values = smooth(np.arange(100.0), np.arange(100.0) ** 2, 10)
    assert len(steps) == len(values) == 10
    # Parts of equal size: the mean of their means is the mean of all, sum(i^2) / 100 = 3283.5.
    assert math.isclose(values.mean(), 3283.5)
