"""The report: its data are the run's, and one file holds all of it."""

import base64
import json
import math
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reporting import make_run, make_study

from posteriori.runs.report.page import payload, render, report
from posteriori.runs.report.run import command, curves, describe
from posteriori.runs.report.thinning import kept


def data_of(page: Path) -> dict[str, Any]:
    """Return the data that a page holds."""
    (text,) = re.findall(
        r'<script id="data" type="application/json">(.*?)</script>', page.read_text()
    )
    return json.loads(text)


def series(run: dict[str, Any], metric: str) -> tuple[list, list]:
    axis, values = run["series"][metric]
    return run["axes"][axis], values


def test_a_report_holds_the_rows_of_its_runs(tmp_path: Path) -> None:
    out = report([make_run(tmp_path / "a", level=100.0)], tmp_path / "new" / "r.html")
    (run,) = data_of(out)["runs"]
    assert series(run, "evaluation/mean") == ([10_000, 20_000], [100, 150])
    steps, values = series(run, "sigma/1")
    assert steps == list(range(1000, 20_001, 1000))
    assert set(values) == {0.5}
    assert (run["step"], run["total"], run["seconds"]) == (20_000, 20_000, 80)
    assert len(run["final"]["returns"]) == 11
    assert (run["state"], run["seed"]) == ("finished", 0)


def test_metrics_of_the_same_rows_share_their_steps(tmp_path: Path) -> None:
    run = describe(make_run(tmp_path / "a"), None)
    assert len(run["axes"]) == 2  # of reports and of evaluations


def test_seeds_are_one_group_and_settings_tell_groups_apart(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"s{seed}", seed=seed) for seed in range(2)]
    runs.append(make_run(tmp_path / "n", n_step=5, evaluate_episodes=7))
    groups = payload([describe(run, None) for run in runs], live=False)["groups"]
    assert groups == [{"label": "n_step=3", "runs": [0, 1]}, {"label": "n_step=5", "runs": [2]}]


def test_a_study_is_shown_from_its_record_alone(tmp_path: Path) -> None:
    make_study(tmp_path / "s")
    data = data_of(report([tmp_path / "s"], tmp_path / "r.html"))
    (study,) = data["studies"]
    assert data["runs"] == []
    assert (study["best"], study["defaults"]) == (3, 0)
    assert (
        "trial 3: 100.0, the mean of 2 seeds after 1,000 steps; the defaults had 10.0"
        in (study["sentence"])
    )
    assert study["command"] == (
        "posteriori train Walker-v0 --steps 1000 --n-step 4 --policy-learning-rate 0.001 "
        "--widths 64 64 --seed 0"
    )


def test_of_a_study_the_runs_of_the_best_and_of_the_defaults_are_shown(tmp_path: Path) -> None:
    make_study(tmp_path / "s")
    for trial in range(4):
        for seed in range(2):
            make_run(tmp_path / "s" / "trials" / str(trial) / f"seed{seed}", n_step=1 + trial)
    data = data_of(report([tmp_path / "s"], tmp_path / "r.html"))
    shown = [Path(run["path"]).relative_to(tmp_path / "s" / "trials") for run in data["runs"]]
    assert list(map(str, shown)) == ["3/seed0", "3/seed1", "0/seed0", "0/seed1"]


def test_a_run_given_twice_is_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    assert len(data_of(report([run, run], tmp_path / "r.html"))["runs"]) == 1


def test_what_is_no_number_is_null_and_numbers_are_short() -> None:
    made = curves([{"step": 1, "a": math.nan, "b": 1 / 3}, {"step": 2, "a": 2.0, "b": 1e-9 / 3}])
    assert made["series"]["a"][1] == [None, 2]
    assert made["series"]["b"][1] == [0.33333, 3.3333e-10]


def test_thinning_keeps_the_ends_and_the_extremes() -> None:
    values = np.sin(np.arange(100_000) / 500)
    values[34_567], values[77_777] = 9.0, -9.0
    chosen = kept(values.tolist(), 500)
    assert len(chosen) <= 500
    assert {0, 34_567, 77_777, 99_999} <= set(chosen.tolist())
    assert kept([1.0, 2.0, 3.0], 500).tolist() == [0, 1, 2]


def test_thinning_passes_over_nan() -> None:
    values = np.full(1000, np.nan)
    values[123] = 1.0
    assert 123 in kept(values.tolist(), 10)


def test_videos_are_embedded_or_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    (run / "videos").mkdir()
    (run / "videos" / "0000010000.mp4").write_bytes(b"on the way")
    (run / "videos" / ".0000010000.tmp.mp4").write_bytes(b"draft")
    (run / "video.mp4").write_bytes(b"at the end")
    videos = data_of(report([run], tmp_path / "r.html"))["runs"][0]["videos"]
    assert [video["step"] for video in videos] == [10_000, None]
    head, _, code = videos[1]["src"].partition(",")
    assert (head, base64.b64decode(code)) == ("data:video/mp4;base64", b"at the end")
    small = report([run], tmp_path / "small.html", embed_videos=False)
    assert data_of(small)["runs"][0]["videos"] == []


def test_warnings_are_taken_from_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    assert describe(run, None)["checked"] is False
    warning = {"step": 5000, "name": "kl", "text": "The KL is far above its bound."}
    (run / "warnings.jsonl").write_text(json.dumps(warning) + '\n{"step": 60')
    described = describe(run, None)
    assert (described["warnings"], described["checked"]) == ([warning], True)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["posteriori", "train", "W", "--run-dir", "x", "--seed", "3"],
            "posteriori train W --seed 3",
        ),
        (
            ["-c", "train", "W", "--run-dir=x", "--preset", "a b"],
            "posteriori train W --preset 'a b'",
        ),
        (
            ["script.py"],
            "posteriori train W --widths 8 8 --no-pictures --scale-rewards --epsilon 0.1",
        ),
    ],
)
def test_the_command_repeats_the_run_elsewhere(words: list[str], text: str) -> None:
    settings = {
        "widths": [8, 8],
        "pictures": False,
        "scale_rewards": True,
        "mpo": {"epsilon": 0.1},
    }
    assert command({"env": "W", "settings": settings, "command": words}) == text


def test_text_of_a_run_cannot_end_the_script_or_take_a_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    text = "</script><script>alert(1)</script> {{js}}"
    record = json.loads((run / "config.json").read_text()) | {"env": text}
    (run / "config.json").write_text(json.dumps(record))
    out = report([run], tmp_path / "r.html")
    assert data_of(out)["runs"][0]["env"] == text
    assert "<script>alert" not in out.read_text()


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    page = render(None)
    links = set(re.findall(r"""(?:src|href)=["']?([^"' >]+)""", page))
    assert links <= {"data:,"}
    assert not re.search(r"@import|url\(", page)


def test_a_run_without_rows_can_be_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", done=False)
    (run / "metrics.jsonl").unlink()
    described = describe(run, None)
    assert (described["step"], described["series"], described["seconds"]) == (0, {}, None)


def test_bad_input_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--out must end in .html, but it is .*r.pdf. Name it"):
        report([tmp_path], tmp_path / "r.pdf")
    with pytest.raises(ValueError, match=r"run to report, but none was given. Name a run's"):
        report([], tmp_path / "r.html")
    with pytest.raises(FileNotFoundError, match="must be the folder of a run, but it has no"):
        report([tmp_path], tmp_path / "r.html")


def test_a_report_needs_neither_jax_nor_matplotlib() -> None:
    program = (
        "import sys; import posteriori.runs.report.server\n"
        "assert not {'jax', 'matplotlib', 'gymnasium'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
def test_the_wheel_has_the_page(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    uv = shutil.which("uv", path=str(root / ".uv" / "bin")) or shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv, which `make install-dev` sets up")
    subprocess.run(
        [uv, "build", "--wheel", "--quiet", "--out-dir", str(tmp_path)], cwd=root, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assets = root / "src" / "posteriori" / "runs" / "report" / "assets"
    files = {f"posteriori/runs/report/assets/{p.relative_to(assets)}" for p in assets.rglob("*.*")}
    assert files | {"posteriori/runs/tuning/space.toml"} <= names
