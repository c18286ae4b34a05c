"""Environments in processes of their own: built there, and gone with their run."""

import subprocess
import sys

import gymnasium as gym
import pytest
from faulty import posix
from small_runs import Counting

from posteriori.experience.envs import make_vector


@posix
def test_a_subprocess_must_be_able_to_build_its_environment() -> None:
    def make() -> gym.Env:
        raise ImportError("no simulator here")

    with pytest.raises(
        ValueError,
        match=r"backend 'subprocess' must be able to build make in a process of its own, but "
        r"there: .*ImportError: no simulator here\. Correct that, or use backend='gymnasium'",
    ):
        make_vector(make, num_envs=1, seed=0, backend="subprocess")


def test_an_object_has_no_process_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"so that env must be an id or a function, but it is Co"):
        make_vector(Counting(), num_envs=1, seed=0, backend="subprocess")


@posix
def test_subprocesses_are_gone_when_their_vector_is_closed() -> None:
    envs = make_vector("CartPole-v1", num_envs=2, seed=0, backend="subprocess")
    processes = [place.process for place in envs.unwrapped._places]  # pyright: ignore
    assert all(process.poll() is None for process in processes)
    envs.close()
    assert [process.poll() for process in processes] == [0, 0]


RUN = """
import ctypes, sys, time
import gymnasium as gym
from posteriori.experience.worker import Worker

class Hanging(gym.Env):
    observation_space = action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        return self.action_space.sample(), {}

    def step(self, action):
        print("hangs", flush=True)
        if sys.argv[1] == "C":
            ctypes.PyDLL(None).sleep(600)  # keeps Python's lock, as a simulator's C++ may
        time.sleep(600)

place = Worker(Hanging, "Hanging", 60.0)
place.describe()
place.send(("step", None))
place.receive()
"""
CHILD = """
import os, sys, time
from posteriori.experience.worker import die_with

sys.platform = "other"  # where the kernel cannot be asked
die_with(os.getppid())
print("hangs", flush=True)
time.sleep(600)
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


@posix
@pytest.mark.parametrize(
    "arguments",
    [
        (RUN, "Python"),
        pytest.param(
            (RUN, "C"),
            marks=pytest.mark.skipif(
                sys.platform != "linux", reason="no thread can end what hangs in C"
            ),
        ),
        (PARENT, CHILD),
    ],
    ids=["in Python", "in C", "in Python, by the thread alone"],
)
def test_an_environment_that_hangs_dies_with_a_run_that_is_killed(
    arguments: tuple[str, str],
) -> None:
    run = subprocess.Popen([sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True)
    assert run.stdout
    assert run.stdout.readline() == "hangs\n"
    run.kill()
    run.communicate(timeout=60)  # raises while the other process has its end of the pipe
