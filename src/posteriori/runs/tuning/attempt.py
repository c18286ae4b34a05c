"""A trial under way: a run for each seed, side by side, each in a process of its own.

That the seeds go on together lets a trial be judged by their mean at each evaluation.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posteriori.runs.folder import RunFolder, stamp
from posteriori.runs.sinks import read_rows
from posteriori.runs.state import read_state
from posteriori.runs.tuning.worker import BAD_INPUT

WORKER = [sys.executable, "-m", "posteriori.runs.tuning.worker"]
GRACE = 120.0  # seconds that a worker has to save before it is killed
TRIES = 3  # starts of a run whose process is killed, by lack of memory or by somebody


class CannotBegin(ValueError):
    """What keeps any run of a study from being begun, such as an environment that is missing."""


class RunLost(RuntimeError):
    """A run that cannot be ended: it failed, or was killed too often."""


@dataclass
class SeedRun:
    """One run of a trial.

    Args:
        folder: The run's.
        env: The environment's id.
        settings: All that differ from the defaults.
        command: What repeats it, in words.
    """

    folder: RunFolder
    env: str
    settings: dict[str, Any]
    command: list[str]
    process: subprocess.Popen | None = None
    starts: int = 0
    read: tuple[tuple[int, int] | None, dict[int, float]] = field(default=(None, {}))

    @property
    def log(self) -> Path:
        """The file with what the process printed."""
        return self.folder.path.with_suffix(".log")

    def start(self, threads: int) -> None:
        """Start the process, from the last checkpoint if there is one."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        order = {"env": self.env, "run_dir": str(self.folder.path), "settings": self.settings}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                WORKER,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **limits(threads)},
                start_new_session=True,  # the terminal's Ctrl-C reaches it by the study alone
                text=True,
            )
        self.starts += 1
        assert self.process.stdin
        with suppress(BrokenPipeError):  # its exit code tells
            self.process.stdin.write(json.dumps({**order, "command": self.command}) + "\n")
            self.process.stdin.flush()

    def done(self) -> bool:
        """Whether the run is at its end."""
        return self.folder.final.is_file() and read_state(self.folder).name == "finished"

    def score(self) -> float:
        """Return the mean of the final evaluation."""
        return json.loads(self.folder.final.read_bytes())["mean"]

    def evaluations(self, every: int) -> dict[int, float]:
        """Return the mean of each evaluation so far, by the multiple of `every` that it is for."""
        now = stamp(self.folder.metrics)
        if now and now != self.read[0]:
            means = {
                row["step"] // every * every: row["evaluation/mean"]
                for row in read_rows(self.folder.metrics)
                if "evaluation/mean" in row
            }
            self.read = (now, means)
        return self.read[1]

    def end_of_process(self) -> int | None:
        """Return the exit code, None while it runs."""
        code = self.process.poll() if self.process else None
        if code is not None and self.process and self.process.stdin:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        return code

    def last_words(self) -> str:
        """Return the last line that the process printed."""
        lines = self.log.read_text(errors="replace").split("\n") if self.log.is_file() else []
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")


class Attempt:
    """The runs of one trial.

    Args:
        runs: One for each seed; those that are done are left as they are.
        every: Environment steps between evaluations.
        threads: Of each process.
    """

    def __init__(self, runs: Sequence[SeedRun], every: int, threads: int):
        self.runs, self.every, self.threads = runs, every, threads
        for run in runs:
            if not run.done():
                run.start(threads)

    def curve(self) -> dict[int, float]:
        """Return the mean over seeds of each evaluation that all of them have had, by step."""
        curves = [run.evaluations(self.every) for run in self.runs]
        steps = sorted(set.intersection(*map(set, curves)))
        return {step: sum(curve[step] for curve in curves) / len(curves) for step in steps}

    def scores(self) -> list[float] | None:
        """Return the final score of each seed, None while one is not done; start what was killed.

        Raises:
            RunLost: a run failed, or was killed again and again.
            CannotBegin: a run was refused before it began.
        """
        for run in self.runs:
            code = run.end_of_process()
            if code not in (None, 0):
                self._again(run, code)
        running = any(run.process and run.end_of_process() != 0 for run in self.runs)
        return None if running else [run.score() for run in self.runs]

    def stop(self) -> None:
        """Have the processes save and end; kill those that do not."""
        started = [run.process for run in self.runs if run.process]
        for process in started:
            process.terminate()
        until = time.monotonic() + GRACE
        for process in started:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for run in self.runs:
            run.end_of_process()

    def forget_checkpoints(self) -> None:
        """Remove the checkpoints of runs that nobody will go on with: they are large."""
        for run in self.runs:
            shutil.rmtree(run.folder.checkpoints, ignore_errors=True)

    def _again(self, run: SeedRun, code: int) -> None:
        killed = code < 0 or code == 128 + signal.SIGTERM
        if killed and run.starts < TRIES:
            run.start(self.threads)
            return
        text = f"killed {run.starts} times" if killed else run.last_words()
        if code == BAD_INPUT:
            raise CannotBegin(text)
        raise RunLost(f"{run.folder.path.name}: {text}")


def limits(threads: int) -> dict[str, str]:
    """Return the environment variables that keep a process to so many threads, and to its memory.

    Args:
        threads: Of JAX on the CPU, and of the numerical libraries.
    """
    names = ("PJRT_NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    wanted: dict[str, str] = {name: str(threads) for name in names}
    # Several processes may share a GPU: none is to take most of its memory at once.
    wanted["XLA_PYTHON_CLIENT_PREALLOCATE"] = os.environ.get(
        "XLA_PYTHON_CLIENT_PREALLOCATE", "false"
    )
    if threads == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        wanted["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    return wanted
