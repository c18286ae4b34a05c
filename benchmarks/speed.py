"""Speed of training, ours and the peers', at equal batch and network sizes.

    python benchmarks/speed.py                  every method three times, in turn
    python benchmarks/speed.py --pin            each on one core with one thread
    python benchmarks/speed.py --table          only the table of the last measurement

Every method trains on BipedalWalker-v3 with batches of 256, two hidden layers of 256 units and one
update per environment step, in a process of its own. The clock runs over the last steps, when all
is compiled; nothing is evaluated. PPO and TRPO learn from passes over fresh data: their updates are
not counted, and their steps are those of a rollout and its passes. Rows: `results/speed.csv`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import peers
from experiments import JAX, OURS, PEERS, RLOX, TORCH, WALKER, label
from jobs import ONE_THREAD
from protocol import versions
from rows import RESULTS, read_table, write_table

from posteriori import train
from posteriori.runs.provenance import provenance

FILE = RESULTS / "speed.csv"
AS_IT_IS = "posteriori, its defaults"
ON_POLICY = ("sb3-ppo", "sb3-trpo")
METHODS = (OURS, AS_IT_IS, *JAX, *TORCH, RLOX)
BATCH, WIDTH = 256, 256
STARTS = 1_000  # environment steps before the first update
SETTLE, MEASURED = 1_000, 3_000  # steps with updates before the clock starts, and while it runs
TOTAL = STARTS + SETTLE + MEASURED
ROLLOUT = 1_024  # of PPO and TRPO: the clock starts and stops at the end of one
FIELDS: tuple[str, ...] = ("method", "repeat", "steps_per_second", "updates_per_second")
ABOUT: tuple[str, ...] = ("cpu", "cores", "load", "commit", "dirty", "versions")

Mark = tuple[float, int, int]  # seconds, steps, updates


def main() -> int:
    """Measure all, or one for the process that does."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    parser.add_argument("--pin", action="store_true", help="to one core, with one thread")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--measure", choices=METHODS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return 0
    if not args.table:
        found = measured(args.methods, args.repeats, pin=args.pin)
        write_table(FILE, (*FIELDS, *ABOUT), found)
    print(table(read_table(FILE)))
    return 0


def measured(methods: list[str], repeats: int, *, pin: bool) -> list[dict[str, Any]]:
    """Measure methods in turn, so that a busy spell of the machine does not hit one alone."""
    command = [sys.executable, __file__, "--measure"]
    if pin:
        command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
    environment = {**os.environ, **(ONE_THREAD if pin else {})}
    found = []
    for repeat in range(repeats):
        for method in methods:
            done = subprocess.run(
                [*command, method], capture_output=True, text=True, env=environment
            )
            if done.returncode:
                print(f"{method} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
                continue
            row = json.loads(done.stdout.splitlines()[-1])
            found.append({"method": method, "repeat": repeat, **row})
            print(method, row["steps_per_second"], row["updates_per_second"], flush=True)
    return found


def measure(method: str) -> dict[str, Any]:
    """Train a method and return its speed over the last steps."""
    ways = {OURS: ours, AS_IT_IS: ours, RLOX: rlox}
    marks = ways.get(method, stable_baselines)(method)
    first = next(mark for mark in marks if mark[1] >= STARTS + SETTLE)
    seconds, steps, updates = (b - a for a, b in zip(first, marks[-1], strict=True))
    source = provenance()["source"] or {}
    packages = PEERS["methods"].get(method, {}).get("packages", ("posteriori", "jax"))
    return {
        "steps_per_second": round(steps / seconds, 1),
        "updates_per_second": None if method in ON_POLICY else round(updates / seconds, 1),
        "cpu": provenance()["hardware"]["cpu"],
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "commit": source.get("commit", "")[:12],
        "dirty": int(bool(source.get("changed"))),
        "versions": versions(packages),
    }


def ours(method: str) -> list[Mark]:
    """Train with this library."""
    marks: list[Mark] = []

    def sink(step: int, metrics: Any) -> None:
        if "progress/updates" in metrics:
            marks.append((time.perf_counter(), step, metrics["progress/updates"]))

    equal = {"widths": (WIDTH, WIDTH), "batch_size": BATCH, "steps_per_update": 1}
    quiet = {"evaluate_every": 0, "final_episodes": 0, "pictures": False}
    with tempfile.TemporaryDirectory() as folder:
        train(
            WALKER,
            run_dir=Path(folder) / "run",
            sinks=[sink],
            steps=TOTAL,
            learning_starts=STARTS,
            checkpoint_every=10 * TOTAL,
            **quiet,
            **({} if method == AS_IT_IS else equal),
        )
    return marks


def stable_baselines(method: str) -> list[Mark]:
    """Train with Stable-Baselines3, its contributions, or SBX."""
    marks: list[Mark] = []
    given: dict[str, Any] = {"batch_size": BATCH}
    if method in ON_POLICY:
        given |= {"n_steps": ROLLOUT, "policy_kwargs": {"net_arch": [WIDTH, WIDTH]}}
    else:
        arch = {"pi": [WIDTH, WIDTH], "qf": [WIDTH, WIDTH]}
        given |= {"learning_starts": STARTS, "train_freq": 1, "gradient_steps": 1}
        given |= {"policy_kwargs": {"net_arch": arch}}
    model = peers.build(method, WALKER, 0, given)

    def look(*_: Any) -> bool:
        # An on-policy method looks at the first step of a rollout: the passes lie before it.
        if model.num_timesteps % ROLLOUT == (1 if method in ON_POLICY else 0):
            marks.append((time.perf_counter(), model.num_timesteps, model._n_updates))
        return True

    model.learn(TOTAL + 1, callback=look)
    return marks


def rlox(method: str) -> list[Mark]:
    """Train with rlox."""
    from rlox.callbacks import Callback  # pyright: ignore[reportMissingImports]

    marks: list[Mark] = []

    class Look(Callback):
        def on_step(self, *, step: int, **_: Any) -> bool:
            if step % ROLLOUT == 0:
                marks.append((time.perf_counter(), step, max(0, step - STARTS)))
            return True

    settings = {"batch_size": BATCH, "hidden": WIDTH, "learning_starts": STARTS}
    peers.load(method)(WALKER, seed=0, callbacks=[Look()], **settings).train(TOTAL)
    return marks


def table(found: list[dict[str, str]]) -> str:
    """Return medians over repeats, and how many times as fast as each method ours is."""
    lines = [
        "| method | steps/s | updates/s | ours is so many times as fast |",
        "|---|---|---|---|",
    ]
    speeds = {
        name: [
            median([float(row[f"{unit}_per_second"] or "nan") for row in own])
            for unit in ("steps", "updates")
        ]
        for name in dict.fromkeys(row["method"] for row in found)
        if (own := [row for row in found if row["method"] == name])
    }
    for name, (steps, updates) in speeds.items():
        ratio = f"{speeds[OURS][0] / steps:.2f}" if OURS in speeds else "-"
        counted = "-" if updates != updates else f"{updates:,.0f}"
        lines.append(f"| {label(name)} | {steps:,.0f} | {counted} | {ratio} |")
    return "\n".join(lines)


def origin(found: list[dict[str, str]]) -> str:
    """Return where the rows come from."""
    machines = {f"{row['cpu']}, {row['cores']} core{'s' * (row['cores'] != '1')}" for row in found}
    commits = {row["commit"] + "+" * (row["dirty"] == "1") for row in found}
    versions = {row["versions"] for row in found}
    loads = [float(row["load"]) for row in found]
    return (
        f"{'; '.join(sorted(machines))}, load {min(loads)} to {max(loads)} at the end of each. "
        f"Commit {', '.join(sorted(commits))}. {'; '.join(sorted(versions))}."
    )


if __name__ == "__main__":
    sys.exit(main())
