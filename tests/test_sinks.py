"""Sinks: rows on disk survive NaN, crashes and resumption."""

import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from posteriori.runs.notices import RunWarning
from posteriori.runs.sinks import JsonLines, TensorBoard, read_rows

# Generated code, of which type checkers see nothing.
event_pb2: Any = importlib.import_module("tensorboardX.proto.event_pb2")


def write(path: Path, *steps: int, resume_step: int | None = None) -> None:
    sink = JsonLines(path, resume_step=resume_step)
    for step in steps:
        sink(step, {"loss/critic": step / 2})
    sink.close()


def steps_in(path: Path) -> list[int]:
    return [row["step"] for row in read_rows(path)]


def events(folder: Path) -> list[Any]:
    """Read event files by hand: a record is its length (8 bytes), 4 of checksum, data, 4 more."""
    found = []
    for file in sorted(folder.iterdir()):
        data, at = file.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            found.append(event_pb2.Event.FromString(data[at + 12 : at + 12 + size]))
            at += size + 16
    return found


def test_a_row_is_readable_before_the_sink_is_closed(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "metrics.jsonl")
    sink(1000, {"loss/critic": 2.5, "progress/episodes": 3})
    rows = read_rows(tmp_path / "metrics.jsonl")
    sink.close()
    assert rows == [{"step": 1000, "loss/critic": 2.5, "progress/episodes": 3}]


def test_what_is_not_finite_is_null_and_comes_back_as_nan(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)
    sink(1, {"a": math.nan, "b": math.inf, "c": 0.5})
    sink.close()
    assert json.loads(path.read_text()) == {"step": 1, "a": None, "b": None, "c": 0.5}
    assert math.isnan(read_rows(path)[0]["a"])


def test_a_resumed_run_has_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 1000, 2000, 3000)
    text = r"had got to step 3,000; its newest sound checkpoint is of 2,000\. What came after is d"
    with pytest.warns(RunWarning, match=text):
        write(path, 3000, 4000, resume_step=2000)
    assert steps_in(path) == [1000, 2000, 3000, 4000]


def test_what_is_no_row_or_a_row_again_is_left_out_of_a_resumed_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 1000, 2000)
    with path.open("a") as file:
        file.write('{"step": 1000, "loss/critic": 500}\nnoise\n{"step": 3000, "loss": "x"}\n')
    with pytest.warns(RunWarning) as told:
        write(path, 3000, resume_step=2000)
    assert [str(w.message).rpartition("jsonl must ")[2] for w in told] == [
        "be a row, but these are not, and are left out: 4, 5.",
        "have each row once, but 1 came again: left out.",
    ]
    assert steps_in(path) == [1000, 2000, 3000]


def test_a_line_that_a_crash_cut_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 1000, 2000)
    path.write_bytes(path.read_bytes()[:-5])
    assert steps_in(path) == [1000]
    write(path, 2000, resume_step=5000)
    assert steps_in(path) == [1000, 2000]


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"loss": 2}\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"line 2 is b'\{\"loss\": 2\}'. Remove that line"):
        read_rows(path)


def test_a_new_run_does_not_write_over_another(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", 1000)
    with pytest.raises(FileExistsError):
        JsonLines(tmp_path / "metrics.jsonl")


def test_tensorboard_gets_the_finite_scalars(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path)
    sink(1000, {"sigma": 0.5, "value": math.nan})
    sink.close()
    scalars = [(e.step, v.tag, v.simple_value) for e in events(tmp_path) for v in e.summary.value]
    assert scalars == [(1000, "sigma", 0.5)]


def test_tensorboard_keeps_the_step_that_a_run_is_resumed_from(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path, purge_step=2000)
    sink(3000, {"sigma": 0.5})
    sink.close()
    start = event_pb2.SessionLog.START
    starts = [e.step for e in events(tmp_path) if e.session_log.status == start]
    assert starts == [2001]  # TensorBoard forgets this step and what follows it


def test_tensorboard_lists_the_settings_beside_the_final_scores(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path, settings={"epsilon": 0.1, "policy": "auto"})
    sink(1000, {"sigma": 0.5})
    sink(2000, {"final/mean": 297.5})
    sink.close()
    values = [value for event in events(tmp_path) for value in event.summary.value]
    plugin: Any = importlib.import_module("tensorboardX.proto.plugin_hparams_pb2")
    content = {
        value.tag: plugin.HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for value in values
        if value.metadata.plugin_data.plugin_name == "hparams"
    }
    settings = content["_hparams_/session_start_info"].session_start_info.hparams
    assert (settings["epsilon"].number_value, settings["policy"].string_value) == (0.1, "auto")
    (metric,) = content["_hparams_/experiment"].experiment.metric_infos
    assert metric.name.tag == "final/mean"
    assert ("final/mean", 297.5) in [(value.tag, value.simple_value) for value in values]
