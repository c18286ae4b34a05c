"""Cells of this library's many at once, on an accelerator: rows as those of `run.py`.

    python benchmarks/sweep.py epsilon --variants default --minutes 9 --out runs/sweep
    python benchmarks/sweep.py ablations --seeds 0 1 2 3 4 --out runs/ablations
    python benchmarks/sweep.py epsilon --rows --out runs/sweep     only the rows of results/

Cells that differ in seeds, numbers of `Mpo` and what else a `Fleet` allows are trained as one;
several fleets, each in a process of its own, share the accelerator: at the same time if NVIDIA's
MPS runs (`nvidia-cuda-mps-control -d`), in turns if not. They train up to their last step, or until
the time is over. Policies are evaluated by the protocol of all (`protocol.py`) in further
processes, on the machine's cores, with 20 episodes also at the end. `OUT/N/rows.jsonl` gets the
evaluations, with the means of all metrics since the one before, and the returns of the exploring
episodes that ended since then. Policies that still wait for theirs
at the end, or when it is stopped, are put down in `OUT/N/left.pkl`; `--rows` evaluates them, on any
machine, and takes the cells that came to their end. `OUT/N/actors.pkl` has the last policies.
`--commit` names the source's commit where git does not know it.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import parts
import rows
import tyro
from experiments import EXPERIMENTS, OURS, Cell, cells
from fleet import Fleet, common
from gymnasium.vector import VectorEnv
from jobs import interruptible
from protocol import EPISODES, FALLING, Ends, read, versions

from posteriori import PRESETS, Config
from posteriori.experience.envs import make_reference
from posteriori.models.actor import Actor
from posteriori.runs.evaluate import PARALLEL, run_episodes
from posteriori.runs.loop import EVALUATION_SEED
from posteriori.runs.policy import GreedyPolicy
from posteriori.runs.provenance import provenance

PACKAGES = ("jax", "numpy", "gymnasium", "envpool")
TELL_EVERY = 10.0  # seconds
LEFT = "left.pkl"  # what a fleet puts down for later
LAST_WAIT = 0.05  # of the minutes, for the evaluations that run at their end

Line = dict[str, Any]


def main() -> int:
    """Train, unless only the rows are asked for, and write them."""
    args = parse()
    chosen = [
        cell
        for experiment in args.experiments
        for cell in cells(experiment, args.seeds)
        if cell.method == OURS and cell.variant.startswith(args.variants)
    ]
    fleets = list(grouped(chosen).values())
    if args.fleet is not None:
        train(fleets[args.fleet], args.out / str(args.fleet), args)
        return 0
    failed = 0 if args.rows else train_all(fleets, args)
    for number, fleet in enumerate(fleets):
        out = args.out / str(number)
        finish(fleet[0].task, out, args.workers)
        if (out / "rows.jsonl").exists():
            said = json.loads((out / "about.json").read_text())
            for path in write(fleet, read(out / "rows.jsonl"), said, args.results):
                print(path)
    return min(failed, 1)


def parse() -> argparse.Namespace:
    """Read the command's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("experiments", nargs="+", choices=EXPERIMENTS, metavar="EXPERIMENT")
    parser.add_argument("--variants", default="", help="only those whose names begin so")
    parser.add_argument("--seeds", nargs="+", type=int, help="others than the experiment's")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--evaluate-every", type=int, default=20_000, help="environment steps")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) * 3 // 4))
    parser.add_argument("--out", type=Path, required=True, help="folder of what comes out")
    parser.add_argument("--rows", action="store_true", help="train nothing, evaluate what is left")
    parser.add_argument("--commit", default="")
    parser.add_argument("--results", type=Path, default=rows.RESULTS)
    parser.add_argument("--fleet", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def grouped(chosen: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the cells by what the members of a fleet have in common."""
    groups: dict[str, list[Cell]] = {}
    for cell in chosen:
        name = f"{cell.task} {cell.steps} {cell.part} {common(config_of(cell))}"
        groups.setdefault(name, []).append(cell)
    return groups


def train_all(fleets: Sequence[Sequence[Cell]], args: argparse.Namespace) -> int:
    """Train fleets at the same time; return how many failed."""
    share = {
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / len(fleets):.3f}",
        "PYTHONUNBUFFERED": "1",
    }
    workers = max(1, args.workers // len(fleets))
    # The last of two counts.
    command = [sys.executable, __file__, *sys.argv[1:], "--workers", str(workers), "--fleet"]
    running = [
        subprocess.Popen([*command, str(number)], env={**os.environ, **share})
        for number in range(len(fleets))
    ]
    return sum(process.wait() != 0 for process in running)


def train(chosen: Sequence[Cell], out: Path, args: argparse.Namespace) -> None:
    """Train a fleet in this process."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "about.json").write_text(json.dumps(about(args.commit)))
    with interruptible(), parts.instead(chosen[0].part):
        run(chosen, out, args.evaluate_every, args.minutes, args.workers)


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
                    f"{out.name}: {fleet.rows:,} steps of each, {speed:.0f}/s, {examiners.line()}"
                )
                told, told_at = now, fleet.rows
            if over:
                break
        (out / "actors.pkl").write_bytes(pickle.dumps(fleet.actors()))
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
        # They give way to what trains.
        spawn = get_context("spawn")
        self.pool = ProcessPoolExecutor(workers, spawn, initializer=os.nice, initargs=(10,))
        self.waiting: list[tuple[Line, bytes, Future]] = []

    def enter(self, actors: Sequence[Actor], about: Sequence[Line]) -> None:
        """Ask for an evaluation of every actor, and write those that are done."""
        for actor, line in zip(actors, about, strict=True):
            self.ask(line, pickle.dumps(actor))
        self.collect(0.0)

    def ask(self, line: Line, pickled: bytes) -> None:
        """Ask for the evaluation of one."""
        task = self.pool.submit(examine, self.task, pickled)
        self.waiting.append((line, pickled, task))

    def collect(self, seconds: float | None) -> None:
        """Write what is done, waiting so long for more; None waits for all."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with self.path.open("a") as file:
            for entry in list(self.waiting):
                line, _, task = entry
                wait = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    said = task.result(wait)
                except TimeoutError:
                    continue
                except ValueError as error:  # the policy gives numbers that are none
                    print(f"{line['variant']}, seed {line['seed']}: {error}", file=sys.stderr)
                else:
                    file.write(json.dumps(line | said) + "\n")
                self.waiting.remove(entry)

    def line(self) -> str:
        """Return how far they are, for people."""
        return f"{sum(not task.done() for *_, task in self.waiting)} evaluations to do"

    def close(self) -> None:
        """Send the processes home after what they have begun, and put down what is left."""
        left = [(line, pickled) for line, pickled, _ in self.waiting]
        if left:
            self.path.with_name(LEFT).write_bytes(pickle.dumps(left))
        self.pool.shutdown(wait=False, cancel_futures=True)


def finish(task: str, out: Path, workers: int) -> None:
    """Evaluate what a fleet left, if it did."""
    if not (out / LEFT).exists():
        return
    examiners = Examiners(task, out / "rows.jsonl", workers)
    for line, pickled in pickle.loads((out / LEFT).read_bytes()):
        examiners.ask(line, pickled)
    (out / LEFT).unlink()
    try:
        with interruptible():
            while examiners.waiting:
                examiners.collect(TELL_EVERY)
                print(f"{out.name}: {examiners.line()}")
    finally:
        examiners.close()


def examine(task: str, pickled: bytes) -> Line:
    """Evaluate an actor of `Examiners`, in one of its processes."""
    envs = make_reference(task, num_envs=PARALLEL)
    return play(task, pickle.loads(pickled), envs, EPISODES, EVALUATION_SEED)


def play(task: str, actor: Actor, envs: VectorEnv, episodes: int, seed: int) -> Line:
    """Return greedy episodes' returns and falls, and close the environments."""
    ends = Ends(envs)
    try:
        result = run_episodes(GreedyPolicy(actor), ends, env=task, episodes=episodes, seed=seed)
    finally:
        ends.close()
    falls = ends.falls(episodes) if task in FALLING else None
    return {"returns": [round(x, 2) for x in result.returns], "falls": falls}


def config_of(cell: Cell) -> Config:
    """Return the settings that a cell's flags name."""
    preset = [word.partition("=")[2] for word in cell.settings if word.startswith("--preset=")]
    flags = [word for word in cell.settings if not word.startswith("--preset=")]
    default = PRESETS[preset[0] if preset else "default"]
    config = tyro.cli(tyro.conf.OmitArgPrefixes[Config], default=default, args=flags)
    return replace(config, seed=cell.seed)


def describe(fleet: Fleet, chosen: Sequence[Cell], seconds: float) -> list[Line]:
    """Return what is known of every run but its evaluation."""
    metrics, explored = fleet.metrics(), fleet.explored
    fleet.explored = [[] for _ in chosen]
    spreads = sorted(name for name in metrics if name.startswith("sigma/"))
    return [
        {
            "variant": cell.variant,
            "seed": cell.seed,
            "step": fleet.rows,
            "updates": fleet.updates,
            "seconds": round(seconds, 1),
            "sigma": [round(float(metrics[name][r]), 4) for name in spreads],
            "explored": [round(x, 1) for x in explored[r]],
            "metrics": {k: float(f"{v[r]:.4g}") for k, v in metrics.items() if k not in spreads},
        }
        for r, cell in enumerate(chosen)
    ]


def about(commit: str) -> Line:
    """Return what holds for all rows."""
    named = {"commit": commit, "changed": False}
    source = named if commit else provenance()["source"] or named
    return {
        "cpu": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "versions": versions(PACKAGES),
        "commit": source["commit"],
        "dirty": source["changed"],
    }


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
