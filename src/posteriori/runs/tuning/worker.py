"""One run of a trial, in a process of its own: `python -m posteriori.runs.tuning.worker`.

Its order comes as a line of JSON on standard input, which stays open: where it closes, the study is
gone, however it ended, and the run saves and stops.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from typing import Any

from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.folder import RunFolder
from posteriori.runs.lock import is_held
from posteriori.runs.notices import told
from posteriori.runs.run import RunFailed, resume, train
from posteriori.runs.tuning.space import settled

PATIENCE = 120.0  # seconds that a worker of a killed study has to save
FAILED, BAD_INPUT = 1, 2


def main() -> int:
    """Train, or go on with, what the order says.

    Returns:
        0 done; 1 the run failed; 2 it cannot be begun. The reason is the last line on stderr.
    """
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_the_study, daemon=True).start()
    sys.argv = order["command"]  # for the run's record: what repeats it
    try:
        with told():
            work(RunFolder(order["run_dir"]), order["env"], order["settings"])
    except RunFailed as error:
        print(error, file=sys.stderr)
        return FAILED
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    return 0


def work(folder: RunFolder, env: str, settings: dict[str, Any]) -> None:
    """Train in a folder, from the last checkpoint if there is one."""
    if folder.path.exists():
        until = time.monotonic() + PATIENCE
        while is_held(folder.path) and time.monotonic() < until:
            time.sleep(0.5)
        try:
            resume(folder.path, env=env)
            return
        except (CheckpointError, FileNotFoundError):  # killed before it had saved anything
            shutil.rmtree(folder.path)
    train(env, config=settled(settings), run_dir=folder.path)


def _stop_with_the_study() -> None:
    os.read(sys.stdin.fileno(), 1)  # not by `sys.stdin`, which could not be closed at the end
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
