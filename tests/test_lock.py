"""The lock of a run's folder: one process at a time, and none that is gone."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posteriori.runs.lock import FolderInUse, held, is_held
from posteriori.runs.notices import RunWarning

HOLD = """
import os, subprocess, sys, time
from pathlib import Path
from posteriori.runs.lock import held
with held(Path(sys.argv[1])):
    if "fork" in sys.argv and os.fork():
        time.sleep(30)  # the worker says when it has begun, and outlives this
    print("held", flush=True)
    time.sleep(30)
    os._exit(0)
"""


def holder(folder: Path, *options: str) -> subprocess.Popen:
    """Start a process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(folder), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=os.environ
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen) -> None:
    """Kill a process."""
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()


def test_a_second_process_is_refused_with_the_first_one_s_pid_and_host(tmp_path: Path) -> None:
    process = holder(tmp_path)
    who = rf"process {process.pid} on {socket.gethostname()} \(since 2.*\) is training in it. Wait"
    with pytest.raises(FolderInUse, match=rf"{tmp_path} must be free, but {who}"), held(tmp_path):
        pass
    end(process)


@pytest.mark.parametrize("options", [(), ("fork",)], ids=["alone", "with a worker"])
def test_the_lock_of_a_killed_process_is_taken_over(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    process = holder(tmp_path, *options)
    end(process)
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == process.pid
    with held(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert (tmp_path / ".lock").read_text() == ""
    if options:
        os.killpg(process.pid, signal.SIGKILL)


def test_one_process_does_not_train_twice_in_a_folder(tmp_path: Path) -> None:
    with (
        held(tmp_path),
        pytest.raises(FolderInUse, match=f"process {os.getpid()} on"),
        held(tmp_path),
    ):
        pass
    with held(tmp_path):
        pass


def test_a_lock_that_another_host_left_is_taken_over_with_a_word(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text('{"pid": 7, "host": "elsewhere", "since": "yesterday"}')
    text = r"was left by process 7 on elsewhere \(since yesterday\), which ended without a word"
    with pytest.warns(RunWarning, match=text), held(tmp_path):
        pass


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 4096])
def test_a_lock_file_that_says_nothing_is_no_hindrance(tmp_path: Path, text: bytes) -> None:
    (tmp_path / ".lock").write_bytes(text)
    with held(tmp_path):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / ".lock").symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"), held(tmp_path):
        pass
    assert other.read_text() == "precious"


def test_a_lock_can_be_asked_for(tmp_path: Path) -> None:
    assert is_held(tmp_path) is False
    with held(tmp_path):
        assert is_held(tmp_path) is True
    assert is_held(tmp_path) is False


def test_who_asks_for_the_lock_is_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = os.open(tmp_path / ".lock", os.O_RDONLY | os.O_CREAT)
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: os.close(asking))
    with held(tmp_path):
        pass


def test_a_lock_that_is_a_pipe_makes_nobody_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")  # of a folder that means harm: opening it would wait for ever
    assert is_held(tmp_path) is False
