"""How a run stands: its own word, the process behind it, or what its files say."""

import json
import os
import socket
from pathlib import Path

import pytest
from reporting import make_run

from posteriori.runs.folder import RunFolder
from posteriori.runs.lock import held
from posteriori.runs.state import State, read_state, recorded


def test_a_run_says_how_it_ended(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with held(tmp_path), recorded(folder):
        assert read_state(folder) == State("running")
    assert read_state(folder) == State("finished")
    with pytest.raises(KeyboardInterrupt), recorded(folder):
        raise KeyboardInterrupt
    assert read_state(folder) == State("stopped")
    with pytest.raises(RuntimeError), recorded(folder):
        raise RuntimeError("step 7: loss is NaN")
    assert read_state(folder) == State("failed", "step 7: loss is NaN")


def test_the_lock_says_whether_there_is_a_process(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    # This process is there, whatever it does; a run it is not.
    record = {"state": "running", "text": "", "pid": os.getpid(), "host": socket.gethostname()}
    folder.state.write_text(json.dumps(record))
    assert read_state(folder) == State("stopped", "its process is gone")
    folder.state.write_text(json.dumps(record | {"host": "elsewhere"}))
    assert read_state(folder) == State("running")  # nobody here can know better
    for left in ("finished", "stopped", "failed"):  # as it stands while a run is resumed
        folder.state.write_text(json.dumps(record | {"state": left}))
        assert read_state(folder).name == left
        with held(tmp_path):
            assert read_state(folder) == State("running")


def test_without_locks_a_run_s_word_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posteriori.runs.lock.fcntl", None)  # Windows
    with recorded(RunFolder(tmp_path)):
        assert read_state(RunFolder(tmp_path)) == State("running")
    assert read_state(RunFolder(tmp_path)) == State("finished")


@pytest.mark.parametrize("text", ["", "[]", '{"state": "lost", "text": ""}', '{"state": 1}'])
def test_a_state_that_cannot_be_read_is_inferred(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "a")
    (run / "state.json").write_text(text)
    assert read_state(RunFolder(run)).name == "finished"


def test_runs_without_a_state_are_judged_by_their_files(tmp_path: Path) -> None:
    assert read_state(RunFolder(make_run(tmp_path / "a"))).name == "finished"
    open_end = RunFolder(make_run(tmp_path / "b", done=False))
    assert read_state(open_end).name == "stopped"
    with held(open_end.path):
        assert read_state(open_end).name == "running"
