"""How a run stands: its own word, the process behind it, or what its files say."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from reporting import make_run

from posteriori.runs.folder import RunFolder
from posteriori.runs.state import FRESH, State, read_state, recorded


def test_a_run_says_how_it_ended(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with recorded(folder):
        assert read_state(folder) == State("running")
    assert read_state(folder) == State("finished")
    with pytest.raises(KeyboardInterrupt), recorded(folder):
        raise KeyboardInterrupt
    assert read_state(folder) == State("stopped")
    with pytest.raises(RuntimeError), recorded(folder):
        raise RuntimeError("step 7: loss is NaN")
    assert read_state(folder) == State("failed", "step 7: loss is NaN")


def test_a_process_that_is_gone_has_stopped(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = RunFolder(tmp_path)
    record = {"state": "running", "text": "", "pid": gone.pid, "host": socket.gethostname()}
    folder.state.write_text(json.dumps(record))
    assert read_state(folder) == State("stopped", "its process is gone")
    folder.state.write_text(json.dumps(record | {"host": "elsewhere"}))
    assert read_state(folder) == State("running")  # nobody here can know better


@pytest.mark.parametrize("text", ["", "[]", '{"state": "lost", "text": ""}', '{"state": 1}'])
def test_a_state_that_cannot_be_read_is_inferred(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "a")
    (run / "state.json").write_text(text)
    assert read_state(RunFolder(run)).name == "finished"


def test_older_runs_are_judged_by_their_files(tmp_path: Path) -> None:
    assert read_state(RunFolder(make_run(tmp_path / "a"))).name == "finished"
    open_end = RunFolder(make_run(tmp_path / "b", done=False))
    assert read_state(open_end).name == "running"
    old = time.time() - FRESH - 10
    os.utime(open_end.metrics, (old, old))
    assert read_state(open_end).name == "stopped"
