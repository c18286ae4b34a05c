"""Trackers: each tool finds rows, settings and final scores where it looks for them."""

import csv
import math
import sys
from pathlib import Path

import pytest

from posteriori.runs.config import Config
from posteriori.runs.folder import RunFolder
from posteriori.runs.trackers import CsvRows, tracked


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_column_for_each_metric_that_ever_came(tmp_path: Path) -> None:
    sink = CsvRows(tmp_path / "m.csv")
    sink(1000, {"sigma": 0.5})
    sink(2000, {"sigma": math.nan, "value": 1.5})
    assert rows(tmp_path / "m.csv") == [
        {"step": "1000", "sigma": "0.5", "value": ""},
        {"step": "2000", "sigma": "", "value": "1.5"},
    ]


def test_csv_of_a_resumed_run_has_each_row_once(tmp_path: Path) -> None:
    for steps in ((1000, 2000, 3000), (2000, 3000, 4000)):
        sink = CsvRows(tmp_path / "m.csv")
        for step in steps:
            sink(step, {"sigma": 0.5})
    assert [row["step"] for row in rows(tmp_path / "m.csv")] == ["1000", "2000", "3000", "4000"]


def test_trackers_write_nothing_before_the_first_row(tmp_path: Path) -> None:
    with tracked(["csv"], RunFolder(tmp_path), "Walker-v0", Config()):
        assert list(tmp_path.iterdir()) == []  # a new run needs an empty folder


@pytest.mark.slow
def test_wandb_gets_settings_rows_and_scores_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with tracked(["wandb"], RunFolder(tmp_path), "Walker-v0", Config(seed=7)) as (sink,):
        sink(1000, {"sigma": 0.5, "value": math.nan})
        sink(2000, {"final/mean": 297.5})
        run = sink._run  # pyright: ignore[reportAttributeAccessIssue]
        assert run.config["env"] == "Walker-v0"
        assert run.config["seed"] == 7
        assert run.config["epsilon"] == 0.1
        assert run.summary["final/mean"] == 297.5
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    written = log.read_bytes()
    assert b"final/mean" in written
    assert b"epsilon_mean" in written


def test_wandb_that_is_not_installed_is_an_error_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with (
        pytest.raises(ImportError, match=r"--log wandb needs the package wandb, but .* Install it"),
        tracked(["wandb"], RunFolder(tmp_path), "Walker-v0", Config()),
    ):
        pass
