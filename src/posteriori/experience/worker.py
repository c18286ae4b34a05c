"""An environment in a process of its own: what kills or hangs it leaves the run alone.

`subprocess` and not `multiprocessing` starts it: a fork may deadlock beside JAX's threads, and a
spawn imports the user's script a second time. Linux and macOS.
"""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
from gymnasium.vector.utils import CloudpickleWrapper

from posteriori.experience.faults import FAULTS, told
from posteriori.experience.guarded import Call, Description, Here, answer
from posteriori.experience.single import check_first_observation

START = 300.0  # seconds more that the first answer may take: imports, on a machine that is busy
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent ends
FAREWELL = 10.0  # seconds for an environment to close itself, and for a dead process to be gone


class WorkerFailed(RuntimeError):
    """What an environment raised in its process, or how that process ended."""


class Worker:
    """The environment's side in this process.

    Args:
        build: Makes the environment; it is pickled, with what it refers to.
        name: The environment's, for errors.
        timeout: Seconds that an answer may take.
    """

    def __init__(self, build: Callable[[], gym.Env], name: str, timeout: float):
        self.timeout = timeout
        self.connection, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the run, which then closes this
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self.connection.send_bytes(pickle.dumps((CloudpickleWrapper(build), name)))

    def describe(self) -> Description:
        """Wait until it is built, and return what it is."""
        return self._answer(self.timeout + START)

    def send(self, call: Call) -> None:
        """Ask for something, without waiting; if the process has ended, `receive` says so."""
        with suppress(OSError):
            self.connection.send(call)

    def receive(self) -> Any:
        """Wait for the answer.

        Raises:
            WorkerFailed: the environment raised, or its process has ended.
            TimeoutError: there was no answer in time.
        """
        return self._answer(self.timeout)

    def close(self, *, failed: bool = False) -> None:
        """Let the environment close itself; kill it if it has failed, or takes too long."""
        self.connection.close()
        if failed:
            self.process.kill()
        try:
            self.process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _answer(self, timeout: float) -> Any:
        if not self.connection.poll(timeout):
            raise TimeoutError(f"no answer in {timeout:g} s (env_timeout)")
        try:
            error, value = self.connection.recv()
        except (EOFError, OSError) as cause:
            raise WorkerFailed(f"its process {self._end()}") from cause
        if error:
            failure = WorkerFailed(error)
            failure.add_note(value)
            raise failure
        return value

    def _end(self) -> str:
        try:
            code = self.process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with {code}"


def die_with(run: int) -> None:
    """End this process when the run's ends, even by `kill -9`, whatever its environment does.

    On Linux the kernel sees to it. Elsewhere a thread does, which has to wait where C code hangs
    without letting go of Python's lock.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == run:  # not, where the run ended before the kernel was told
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def serve(connection: Connection) -> None:
    """Answer calls until the other side is gone."""
    build, name = pickle.loads(connection.recv_bytes())
    place: Here | None = None
    error, value = "", None
    try:
        place = Here(build)
        check_first_observation(place.env, name)
        value = place.describe()
    except FAULTS as cause:
        error, value = told(cause), traceback.format_exc()
    with suppress(EOFError, OSError):
        while True:
            connection.send((error, value))
            call = connection.recv()
            error = ""
            try:
                assert place is not None
                value = answer(place.env, call)
            except FAULTS as cause:
                error, value = told(cause), traceback.format_exc()
    if place is not None:
        place.close(failed=True)


if __name__ == "__main__":
    die_with(int(sys.argv[2]))
    serve(Connection(int(sys.argv[1])))
