"""A cell of this library: the command `posteriori train`, or `resume` where it was stopped."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import parts
from experiments import Cell
from gymnasium.vector import VectorEnv
from protocol import EPISODES, EVALUATIONS, FINAL_EPISODES, Progress, Recorder, read, record

from posteriori import cli
from posteriori.runs import checkpoint
from posteriori.runs.evaluate import Evaluation
from posteriori.runs.folder import RunFolder
from posteriori.runs.loop import EVALUATION_SEED, Loop
from posteriori.runs.sinks import read_rows

PACKAGES = ("posteriori", "jax", "numpy", "gymnasium", "envpool")


def train(cell: Cell, folder: Path) -> int:
    """Train or resume, and evaluate; return the command's exit code."""
    run = folder / "run"
    record(folder, cell, PACKAGES)
    if cell.begins and not run.exists():
        begin(folder, folder.parents[1] / cell.begins / cell.name)
    try:
        done = checkpoint.newest_parts(run / "checkpoints", "policy")[1]["steps"]
        arguments = ["resume", str(run), "--steps", str(cell.steps), "--quiet"]
    except checkpoint.CheckpointError:
        shutil.rmtree(run, ignore_errors=True)
        done, arguments = 0, command(cell, run)
    with recorded(cell, Recorder(folder, cell.task, resumed_at=done)), parts.instead(cell.part):
        return cli.main(arguments)


def begin(folder: Path, earlier: Path) -> None:
    """Copy an earlier cell's run and evaluations to go on with, if it has come to its end."""
    if any(row["final"] for row in read(earlier / EVALUATIONS)):
        shutil.copy(earlier / EVALUATIONS, folder)
        part = folder / "run.part"  # complete under its name or not there
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(earlier / "run", part)
        part.rename(folder / "run")


def command(cell: Cell, run: Path) -> list[str]:
    """Return the arguments of `posteriori` that train a cell."""
    protocol = {
        "run-dir": run,
        "seed": cell.seed,
        "steps": cell.steps,
        "evaluate-every": cell.evaluate_every,
        "evaluate-episodes": EPISODES,
        "final-episodes": FINAL_EPISODES,
    }
    flags = [word for name, value in protocol.items() for word in (f"--{name}", str(value))]
    return ["train", cell.task, *flags, "--no-pictures", "--quiet", *cell.settings]


@contextmanager
def recorded(cell: Cell, recorder: Recorder) -> Iterator[None]:
    """Keep every evaluation of the training loop, which itself reports no more than moments."""
    original = Loop._run_episodes

    def run_and_keep(self: Loop, envs: VectorEnv, episodes: int, seed: int) -> Evaluation:
        updates = self.learner.updates  # waits for those in flight: they are training
        if cell.milestone == self.steps // cell.evaluate_every * cell.evaluate_every:
            episodes = FINAL_EPISODES
        progress = Progress(self.steps, updates, self.episodes, time.perf_counter() - self.began)
        return recorder.keep(
            lambda ends: original(self, ends, episodes, seed),
            envs,
            progress,
            final=seed != EVALUATION_SEED,
        )

    Loop._run_episodes = run_and_keep
    try:
        yield
    finally:
        Loop._run_episodes = original


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the evaluations of a cell, each with the policy's spread at the time."""
    metrics = read_rows(RunFolder(folder / "run").metrics)
    spreads = [(row["step"], spread(row)) for row in metrics if spread(row)]
    evaluations = read(folder / EVALUATIONS)
    for row in evaluations:
        before = [sigma for step, sigma in spreads if step <= row["step"]]
        row["sigma"] = before[-1] if before else []
    return evaluations


def spread(metrics: dict[str, Any]) -> list[float]:
    """Return the standard deviation of each dimension, of a row of metrics."""
    names = sorted((k for k in metrics if k.startswith("sigma/")), key=lambda k: int(k[6:]))
    return [metrics[name] for name in names]
