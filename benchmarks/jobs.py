"""A queue of processes, so many at a time, each with a core of its own."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GRACE = 120.0  # seconds that a process has to stop after Ctrl-C: a checkpoint takes some
POLL = 0.2  # seconds
# One thread each, where processes share a machine; two XLA flags would be one string.
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")},
}


@dataclass(frozen=True)
class Job:
    """A command, and the file that gets what it prints."""

    name: str
    command: list[str]
    log: Path


def work(
    jobs: Iterable[Job], at_once: int, report: Callable[[Job, int | None], None]
) -> dict[str, int]:
    """Run jobs; return their exit codes.

    Args:
        jobs: In this order.
        at_once: How many at the same time; if more than one, each is pinned to a core and has one
            thread.
        report: Told of each job when it starts (None) and ends (its exit code).

    Raises:
        KeyboardInterrupt: After Ctrl-C or SIGTERM, when all have stopped.
    """
    waiting, codes = deque(jobs), {}
    running: dict[int, tuple[Job, subprocess.Popen]] = {}
    cores = sorted(os.sched_getaffinity(0))[:at_once]
    with interruptible():
        try:
            while waiting or running:
                for core in [core for core in cores if core not in running][: len(waiting)]:
                    job = waiting.popleft()
                    report(job, None)
                    running[core] = job, _start(job, core if at_once > 1 else None)
                time.sleep(POLL)
                for core, (job, process) in list(running.items()):
                    if process.poll() is not None:
                        codes[job.name] = process.returncode
                        report(job, process.returncode)
                        del running[core]
        finally:
            _stop([process for _, process in running.values()])
    return codes


def _start(job: Job, core: int | None) -> subprocess.Popen:
    command, environment = job.command, dict(os.environ)
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
        environment |= ONE_THREAD
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log:
        # A session of its own: the terminal's Ctrl-C reaches it through `_stop` alone, once.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _stop(processes: list[subprocess.Popen]) -> None:
    """Ask processes to stop, wait, and end those that do not."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise, also where the shell had SIGINT ignored (`nohup ... &`).

    A process inherits what is ignored, but not what is handled: so the jobs can be stopped as well.
    """
    previous = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
