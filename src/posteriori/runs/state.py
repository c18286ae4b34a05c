"""Whether a run is running, and how the last process that trained it ended."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from posteriori.runs.folder import RunFolder, write_atomically
from posteriori.runs.lock import is_held

Name = Literal["running", "stopped", "failed", "finished"]
SLACK = 60.0  # seconds: a copied folder may have its files in another order


@dataclass(frozen=True)
class State:
    """How a run stands, and in words why, where it failed."""

    name: Name
    text: str = ""


@contextmanager
def recorded(folder: RunFolder) -> Iterator[None]:
    """Keep `state.json` true while a run is trained, and say there how it ended."""
    _write(folder, State("running"))
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
        _write(folder, State("stopped"))
        raise
    except BaseException as error:
        _write(folder, State("failed", str(error) or type(error).__name__))
        raise
    _write(folder, State("finished"))


def read_state(folder: RunFolder) -> State:
    """Return how a run stands; a process that is gone without a word has stopped.

    Whether there is one, the folder's lock says; of one on another machine it may not know.
    """
    if is_held(folder.path):
        return State("running")
    try:
        record = json.loads(folder.state.read_bytes())
        state = State(record["state"], str(record["text"]))
    except (OSError, ValueError, KeyError, TypeError):
        return _inferred(folder)
    if state.name not in get_args(Name):
        return _inferred(folder)
    if state.name == "running" and record.get("host") == socket.gethostname():
        held = is_held(folder.path)  # asked again: it may have begun since
        return State("stopped", "its process is gone") if held is False else state
    return state


def _write(folder: RunFolder, state: State) -> None:
    record = {
        "state": state.name,
        "text": state.text,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    with suppress(OSError):  # a full disk ends no run
        write_atomically(folder.state, (json.dumps(record, indent=2) + "\n").encode())


def _inferred(folder: RunFolder) -> State:
    """Judge by the files alone: a run whose `state.json` is missing or damaged."""
    rows = _modified(folder.metrics)
    ended = folder.final.exists() and rows < _modified(folder.final) + SLACK
    return State("finished" if ended else "stopped")


def _modified(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0
