"""The grid of the KL bounds, all runs at once on an accelerator: rows as those of `run.py`.

    python benchmarks/sweep.py --presets default --minutes 9 --out runs/sweep
    python benchmarks/sweep.py --rows --commit 1a2b3c --out runs/sweep     only the rows of results/

It trains the cells of `experiments.epsilon` of a preset as one `Fleet`, up to their last step or
until the time is over. Policies are evaluated by the protocol of all (`protocol.py`) in processes
of their own, on the machine's cores, with 20 episodes also at the end. `OUT/rows.jsonl` gets each
evaluation at once, with the means of all metrics since the one before; where it was cut short,
`--rows` takes what there is. `--commit` names the source's commit where there is no git.
"""

import argparse
import json
import os
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import rows
from experiments import CENTRES, Cell, cells
from fleet import Fleet
from protocol import EPISODES, FALLING, Ends

from posteriori import PRESETS
from posteriori.experience.envs import make_reference
from posteriori.models.actor import Actor
from posteriori.runs.config import Config
from posteriori.runs.evaluate import PARALLEL, run_episodes
from posteriori.runs.loop import EVALUATION_SEED
from posteriori.runs.policy import GreedyPolicy
from posteriori.runs.provenance import provenance

PACKAGES = ("jax", "numpy", "gymnasium", "envpool")
TELL_EVERY = 10.0  # seconds
LAST_WAIT = 0.05  # of the minutes, for the evaluations that run at their end

Line = dict[str, Any]


def main() -> int:
    """Train, unless only the rows are asked for, and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", choices=CENTRES, default=list(CENTRES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--minutes", type=float, default=60.0, help="for each preset")
    parser.add_argument("--evaluate-every", type=int, default=20_000, help="environment steps")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) * 3 // 4))
    parser.add_argument("--out", type=Path, required=True, help="folder of what comes out")
    parser.add_argument("--rows", action="store_true", help="train nothing")
    parser.add_argument("--commit", default="")
    parser.add_argument("--results", type=Path, default=rows.RESULTS)
    args = parser.parse_args()
    for preset in args.presets:
        chosen = [c for c in cells("epsilon", args.seeds) if c.variant.split()[0] == preset]
        out = args.out / preset
        if not args.rows:
            out.mkdir(parents=True, exist_ok=True)
            (out / "about.json").write_text(json.dumps(about(args.commit)))
            run(chosen, out, args.evaluate_every, args.minutes, args.workers)
        if (out / "rows.jsonl").exists():
            said = json.loads((out / "about.json").read_text())
            for path in write(chosen, read(out / "rows.jsonl"), said, args.results):
                print(path)
    return 0


def run(chosen: Sequence[Cell], out: Path, every: int, minutes: float, workers: int) -> None:
    """Train cells together until their last step, or until the time is over."""
    began, steps = time.perf_counter(), chosen[0].steps
    fleet = Fleet(chosen[0].task, [config_of(cell) for cell in chosen], steps)
    examiners = Examiners(chosen[0].task, out / "rows.jsonl", workers)
    told, told_at = began, 0
    try:
        while True:
            before = fleet.rows
            fleet.step()
            now = time.perf_counter()
            over = fleet.rows >= steps or now - began > 60 * minutes
            if fleet.rows // every > before // every or over:
                examiners.enter(fleet.actors(), describe(fleet, chosen, now - began))
            if now - told > TELL_EVERY:
                speed = (fleet.rows - told_at) / (now - told)
                print(
                    f"{fleet.rows:,} steps of each, {speed:.0f}/s, {examiners.line()}", flush=True
                )
                told, told_at = now, fleet.rows
            if over:
                break
        examiners.collect(60 * minutes * LAST_WAIT if fleet.rows < steps else None)
    finally:
        examiners.close()


class Examiners:
    """Processes that evaluate policies; what they say is written as soon as it is asked for."""

    def __init__(self, task: str, path: Path, workers: int):
        self.task, self.path = task, path
        # For the processes: in this one, JAX has started.
        os.environ |= {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        self.pool = ProcessPoolExecutor(workers, get_context("spawn"))
        self.waiting: list[tuple[Line, Future]] = []

    def enter(self, actors: Sequence[Actor], about: Sequence[Line]) -> None:
        """Ask for an evaluation of every actor, and write those that are done."""
        for actor, line in zip(actors, about, strict=True):
            task = self.pool.submit(examine, self.task, pickle.dumps(actor))
            self.waiting.append((line, task))
        self.collect(0.0)

    def collect(self, seconds: float | None) -> None:
        """Write what is done, waiting so long for more; None waits for all."""
        deadline = None if seconds is None else time.monotonic() + seconds
        left: list[tuple[Line, Future]] = []
        with self.path.open("a") as file:
            for line, task in self.waiting:
                wait = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    said = task.result(wait)
                except TimeoutError:
                    left.append((line, task))
                    continue
                except ValueError as error:  # the policy gives numbers that are none
                    print(f"{line['variant']}, seed {line['seed']}: {error}", file=sys.stderr)
                    continue
                file.write(json.dumps(line | said) + "\n")
        self.waiting = left

    def line(self) -> str:
        """Return how far they are, for people."""
        return f"{sum(not task.done() for _, task in self.waiting)} evaluations to do"

    def close(self) -> None:
        """Send the processes home after what they have begun."""
        self.pool.shutdown(wait=False, cancel_futures=True)


def examine(task: str, pickled: bytes) -> Line:
    """Evaluate an actor of `Examiners`, in one of its processes."""
    envs = Ends(make_reference(task, num_envs=PARALLEL))
    policy = GreedyPolicy(pickle.loads(pickled))
    try:
        result = run_episodes(policy, envs, env=task, episodes=EPISODES, seed=EVALUATION_SEED)
    finally:
        envs.close()
    falls = envs.falls(EPISODES) if task in FALLING else None
    return {"returns": [round(x, 2) for x in result.returns], "falls": falls}


def config_of(cell: Cell) -> Config:
    """Return the settings of a cell, which must be a preset and numbers of `Mpo`.

    Raises:
        ValueError: If they are something else.
    """
    flags: dict[str, str] = {}
    for word in cell.settings:
        flag, _, value = word.removeprefix("--").partition("=")
        flags[flag] = value
    config = PRESETS[flags.pop("preset", "default")]
    names = {flag: flag.replace("-", "_") for flag in flags}
    for flag, name in names.items():
        if type(getattr(config.mpo, name, None)) not in (int, float):
            raise ValueError(
                f"a sweep's runs must differ in numbers of Mpo alone, but {cell.name} has --{flag}."
            )
    numbers = {n: type(getattr(config.mpo, n))(float(flags[flag])) for flag, n in names.items()}
    return replace(config, seed=cell.seed, mpo=replace(config.mpo, **numbers))


def describe(fleet: Fleet, chosen: Sequence[Cell], seconds: float) -> list[Line]:
    """Return what is known of every run but its evaluation."""
    metrics = fleet.metrics()
    spreads = sorted(name for name in metrics if name.startswith("sigma/"))
    return [
        {
            "variant": cell.variant,
            "seed": cell.seed,
            "step": fleet.rows,
            "updates": fleet.updates,
            "seconds": round(seconds, 1),
            "sigma": [round(float(metrics[name][r]), 4) for name in spreads],
            "metrics": {k: float(f"{v[r]:.4g}") for k, v in metrics.items() if k not in spreads},
        }
        for r, cell in enumerate(chosen)
    ]


def about(commit: str) -> Line:
    """Return what holds for all rows."""
    source = provenance()["source"] or {"commit": commit, "changed": False}
    return {
        "cpu": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "versions": " ".join(f"{name} {metadata.version(name)}" for name in PACKAGES),
        "commit": source["commit"],
        "dirty": source["changed"],
    }


def read(path: Path) -> list[Line]:
    """Return the lines of evaluations."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(
    chosen: Sequence[Cell], lines: Sequence[Line], said: Mapping[str, Any], results: Path
) -> list[Path]:
    """Write the rows of the cells that came to their last step."""
    written = []
    for cell in chosen:
        name = cell.variant, cell.seed
        own = [x for x in lines if (x["variant"], x["seed"]) == name and x["step"] <= cell.steps]
        own.sort(key=lambda line: line["step"])
        if not own or own[-1]["step"] < cell.steps:
            continue
        for line in own:
            line |= {"final": line["step"] >= cell.steps, "training_seconds": line["seconds"]}
            line |= {"commit": said["commit"], "dirty": said["dirty"]}
        written.append(rows.write(cell, own, {**said, "settings": cell.described}, results))
    return written


if __name__ == "__main__":
    sys.exit(main())
