"""Many runs of the library at once, on an accelerator: rows as the queue of `run.py` leaves them.

    python benchmarks/sweep.py epsilon --preset default --minutes 9 --out runs/sweep

The runs of a sweep differ in numbers of `Mpo` and in seeds (`fleet.py`). Policies are evaluated by
the protocol of all (`protocol.py`), in other processes, on the machine's cores.
"""

import json
import os
import pickle
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import numpy as np
from fleet import Fleet
from protocol import EPISODES, FALLING, Ends

from posteriori.experience.envs import make_reference
from posteriori.models.actor import Actor
from posteriori.runs.config import Config
from posteriori.runs.evaluate import PARALLEL, run_episodes
from posteriori.runs.loop import EVALUATION_SEED
from posteriori.runs.policy import GreedyPolicy


class Tournament:
    """Evaluates policies in processes of its own, and writes what comes out."""

    def __init__(self, task: str, out: Path, workers: int):
        self.task, self.path = task, out / "rows.jsonl"
        os.environ["JAX_PLATFORMS"] = "cpu"  # for the processes: JAX has been started here
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        os.environ["OMP_NUM_THREADS"] = "1"
        self.pool = ProcessPoolExecutor(workers, get_context("spawn"))
        self.waiting: list[tuple[dict[str, Any], Future]] = []

    def enter(self, actors: Sequence[Actor], about: Sequence[dict[str, Any]]) -> None:
        """Ask for the evaluation of every run's policy."""
        for actor, row in zip(actors, about, strict=True):
            task = self.pool.submit(examine, self.task, pickle.dumps(actor))
            self.waiting.append((row, task))

    def collect(self, seconds: float = 0.0) -> None:
        """Write what is done, waiting so long for more."""
        deadline = time.monotonic() + seconds
        left = []
        with self.path.open("a") as file:
            for row, task in self.waiting:
                try:
                    result = task.result(max(0.0, deadline - time.monotonic()))
                except TimeoutError:
                    left.append((row, task))
                    continue
                except Exception as error:  # a policy that has diverged
                    result = {"error": repr(error)}
                file.write(json.dumps({**row, **result}) + "\n")
        self.waiting = left

    def close(self) -> None:
        """End the processes, whatever they do."""
        for _, task in self.waiting:
            task.cancel()
        self.pool.shutdown(wait=False, cancel_futures=True)


def examine(task: str, pickled: bytes, episodes: int = EPISODES) -> dict[str, Any]:
    """Evaluate an actor, in a process of the pool."""
    envs = Ends(make_reference(task, num_envs=min(PARALLEL, episodes)))
    try:
        result = run_episodes(
            GreedyPolicy(pickle.loads(pickled)),
            envs,
            env=task,
            episodes=episodes,
            seed=EVALUATION_SEED,
        )
    finally:
        envs.close()
    falls = envs.falls(episodes) if task in FALLING else None
    return {"returns": result.returns, "lengths": result.lengths, "falls": falls}


def run(
    task: str,
    names: Sequence[str],
    configs: Sequence[Config],
    *,
    steps: int,
    every: int,
    minutes: float,
    out: Path,
    workers: int,
) -> None:
    """Train runs together until their last step, or until the time is over."""
    began = time.perf_counter()
    fleet = Fleet(task, configs, steps)
    print(f"{fleet.runs} runs, made in {time.perf_counter() - began:.1f} s", flush=True)
    tournament = Tournament(task, out, workers)
    told = time.perf_counter()
    told_at = 0
    exploring: list[Any] = []
    while fleet.vector_steps * fleet.envs < steps:
        before = fleet.vector_steps * fleet.envs
        exploring += fleet.step()
        now, seconds = fleet.vector_steps * fleet.envs, time.perf_counter() - began
        over = seconds > 60 * minutes
        if now // every > before // every or over or now >= steps:
            about = describe(fleet, names, seconds)
            tournament.enter(fleet.actors(), about)
            tournament.collect()
        if now // 1000 > before // 1000 and time.perf_counter() - told > 5:
            speed = (now - told_at) / (time.perf_counter() - told)
            mean = np.mean([e.total for e in exploring]) if exploring else np.nan
            told, told_at, exploring = time.perf_counter(), now, []
            print(
                f"{seconds:6.1f} s, {now} steps of each, {speed:.0f}/s, exploring {mean:.0f}, "
                f"{len(tournament.waiting)} evaluations wait",
                flush=True,
            )
        if over:
            break
    with (out / "actors.pkl").open("wb") as file:
        pickle.dump(fleet.actors(), file)
    tournament.collect(max(10.0, 60 * minutes - (time.perf_counter() - began) + 30))
    tournament.close()


def describe(fleet: Fleet, names: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    """Return what is known of every run but its evaluation."""
    metrics = fleet.metrics()
    dimensions = sorted(k for k in metrics if k.startswith("sigma/"))
    return [
        {
            "name": names[r],
            "seed": fleet.configs[r].seed,
            "step": int(fleet.steps[r]),
            "updates": fleet.updates,
            "seconds": round(seconds, 1),
            "sigma": [round(float(metrics[k][r]), 4) for k in dimensions],
            "metrics": {
                k: float(f"{float(v[r]):.4g}") for k, v in metrics.items() if k not in dimensions
            },
        }
        for r in range(fleet.runs)
    ]
