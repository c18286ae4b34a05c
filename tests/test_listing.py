"""The list of runs: found where they are, newest first, in one line each."""

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from reporting import make_run

from posteriori import cli
from posteriori.runs.folder import RunFolder
from posteriori.runs.listing import find_runs, read_final, seconds_since, summarise, table


def test_runs_are_found_in_folders_and_the_newest_is_first(tmp_path: Path) -> None:
    old, new = make_run(tmp_path / "a" / "b"), make_run(tmp_path / "c")
    os.utime(old / "config.json", (1, 1))
    (new / "checkpoints").mkdir()
    (tmp_path / "a" / "no run").mkdir()
    assert find_runs(tmp_path) == [new, old]
    assert find_runs(new) == [new]


def test_a_summary_has_progress_and_scores(tmp_path: Path) -> None:
    run = summarise(make_run(tmp_path / "a", level=100.0, steps=40_000, seed=3))
    assert (run.env, run.seed, run.state, run.step, run.total) == (
        "Walker-v0",
        3,
        "finished",
        20_000,
        40_000,
    )
    assert (run.last, run.best, run.final) == (150.0, 150.0, 150.0)


def test_a_final_score_is_none_once_the_run_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(make_run(tmp_path / "a"))
    assert read_final(folder, [{"step": 1, "final/mean": 50.0}])["mean"] == 50.0
    assert read_final(folder, [{"step": 1, "final/mean": 50.0}, {"step": 2}]) == {}


def test_the_table_names_every_run_in_a_line(tmp_path: Path) -> None:
    runs = [summarise(make_run(tmp_path / "a")), summarise(make_run(tmp_path / "b", done=False))]
    head, first, second = table(runs).splitlines()
    assert head.split() == ["RUN", "ENV", "STATE", "PROGRESS", "LAST", "BEST", "FINAL", "AGE"]
    assert first.split()[2:-2] == ["finished", "100%", "of", "20,000", "50.0", "50.0", "50.0"]
    assert second.split()[2:-2] == ["stopped", "100%", "of", "20,000", "50.0", "50.0", "–"]


def test_an_age_is_counted_from_the_start_in_any_zone() -> None:
    then = datetime.now(timezone(timedelta(hours=9))) - timedelta(seconds=90)
    age = seconds_since(then.strftime("%Y-%m-%dT%H:%M:%S%z"))
    assert age is not None
    assert 89 <= age <= 95
    assert seconds_since(None) is None


@pytest.mark.parametrize("forged", ["{", '{"env": "x", "settings": {"steps": "many"}}'])
def test_the_command_lists_what_can_be_read(
    forged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "a")
    (make_run(tmp_path / "b") / "config.json").write_text(forged)
    assert cli.main(["runs", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    assert [run["path"] for run in json.loads(captured.out)] == [str(tmp_path / "a")]
    assert captured.err.startswith("left out: ")
    assert cli.main(["runs", str(tmp_path)]) == 0
    assert "Walker-v0" in capsys.readouterr().out


def test_no_folder_and_no_run_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", str(tmp_path)]) == 0
    assert "There are no runs in" in capsys.readouterr().out
    assert cli.main(["runs", str(tmp_path / "none")]) == 2
    assert "RUNS_DIR must be a folder with runs in it, but" in capsys.readouterr().err
