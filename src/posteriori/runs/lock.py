"""One process at a time on a run's folder.

The lock is flock's: the kernel drops it when its process ends, however it ends, so that what a
killed process leaves is a file that nobody holds. The file's text says who does, for the message.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posteriori.runs.notices import warn

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None


class FolderInUse(ValueError):
    """A run's folder in which another process is training."""


_files: set[int] = set()  # that hold locks


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Within, this process alone trains in a folder.

    Raises:
        FolderInUse: If another does; the message names its pid and host.
    """
    if fcntl is None:
        yield
        return
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    _files.add(file)
    try:
        if not _locked(file):
            raise FolderInUse(_in_use(folder, _read(file)))
        _take_over(folder, file)
        try:
            yield
        finally:
            os.ftruncate(file, 0)
    finally:
        _files.discard(file)
        os.close(file)


def is_held(folder: Path) -> bool | None:
    """Whether a process trains in a folder; None where locks cannot tell."""
    if fcntl is None:
        return None
    try:
        file = os.open(folder / ".lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # until the file is closed
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(file)
    return False


def _locked(file: int) -> bool:
    """Take the lock; return whether it could be had."""
    assert fcntl is not None
    for wait in (0.1, 0.1, 0.0):  # `is_held` of others has it for a moment
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(wait)
        else:
            return True
    return False


def _take_over(folder: Path, file: int) -> None:
    """Write who holds the lock; what a process of this host left needs no word."""
    left = _read(file)
    if left and left.get("host") != socket.gethostname():
        warn(f"{folder} was left by {_who(left)}, which ended without a word: it is taken over.")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(holder).encode(), 0)


def _read(file: int) -> dict[str, Any]:
    try:
        text = json.loads(os.pread(file, 4096, 0))
    except (ValueError, RecursionError):
        return {}
    return text if isinstance(text, dict) else {}


def _in_use(folder: Path, holder: dict[str, Any]) -> str:
    return (
        f"{folder} must be free, but {_who(holder)} is training in it. "
        "Wait for it, stop it, or use another folder."
    )


def _who(holder: dict[str, Any]) -> str:
    pid, host, since = (str(holder.get(k, "unknown"))[:80] for k in ("pid", "host", "since"))
    return f"process {pid} on {host} (since {since})"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _drop_in_child() -> None:
    """A forked worker, which shares the open file, must not keep the lock of a run that is gone."""
    for file in _files:
        os.close(file)
    _files.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_drop_in_child)
