"""Environments that fail once, each in its own way."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_runs import Counting

AT = 3  # the step at which a fault comes
ACTION = np.zeros((2, 2), np.float32)  # of two environments
posix = pytest.mark.skipif(sys.platform == "win32", reason="subprocesses need a POSIX system")


class Faulty(Counting):
    """Fails once, at step `AT` of whichever environment comes there first.

    Args:
        flag: A file that says that it has failed.
        fault: How.
    """

    def __init__(self, flag: Path, fault: str):
        super().__init__()
        self.flag, self.fault = flag, fault

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        """Start an episode, or fail to start the second one."""
        if self.fault == "raise in reset" and self.made >= AT and self.first():
            raise OSError("no reset")
        return super().reset(seed=seed, options=options)

    def step(self, action: NDArray) -> tuple:
        """Count on, or fail."""
        answer = super().step(action)
        if self.made != AT or self.fault == "raise in reset" or not self.first():
            return answer
        return fail(self.fault, answer)

    def first(self) -> bool:
        """Whether no environment has failed yet; from now on, one has."""
        try:
            self.flag.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def fail(fault: str, answer: tuple) -> tuple:
    """Do what a broken environment does, instead of answering."""
    obs, *rest = answer
    match fault:
        case "raise":
            raise RuntimeError("contact  solver\ndiverged.")
        case "hang":
            time.sleep(60)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "sys.exit":
            sys.exit(3)
    return {
        "shape": (obs[:2], *rest),
        "dtype": (np.array(["a", "b", "c"]), *rest),
        "complex": (obs + 1j, *rest),
        "four values": answer[:4],
        "no reward": (obs, None, *rest[1:]),
        "rewards": (obs, np.zeros(2), *rest[1:]),
        "flags": (obs, rest[0], np.array([True, False]), *rest[2:]),
    }[fault]
