"""Whether a run is running, and how the last process that trained it ended."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from posteriori.runs.folder import RunFolder, write_atomically

Name = Literal["running", "stopped", "failed", "finished"]
SLACK = 60.0  # seconds: a copied folder may have its files in another order
FRESH = 120.0  # seconds: a run without `state.json` counts as running after its last row


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
    """Return how a run stands; a process that is gone without a word has stopped."""
    try:
        record = json.loads(folder.state.read_bytes())
        state = State(record["state"], str(record["text"]))
    except (OSError, ValueError, KeyError, TypeError):
        return _inferred(folder)
    if state.name not in get_args(Name):
        return _inferred(folder)
    if state.name == "running" and not _alive(record):
        return State("stopped", "its process is gone")
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


def _alive(record: dict[str, Any]) -> bool:
    """Whether the process that wrote a record is there; one of another machine cannot be asked."""
    if record.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(record["pid"]), 0)
    except (ProcessLookupError, ValueError, KeyError, TypeError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _inferred(folder: RunFolder) -> State:
    """Judge by the files alone: a run of a version that kept no `state.json`."""
    rows = _modified(folder.metrics)
    if folder.final.exists() and rows < _modified(folder.final) + SLACK:
        return State("finished")
    return State("running" if time.time() - rows < FRESH else "stopped")


def _modified(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0
