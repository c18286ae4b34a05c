"""Does a long run stay as it began? Memory, handles, threads and speed of two hours of training.

    python tests/torture/soak.py [--minutes 120] [--fresh 8] [--faults] [--out build/soak]

Trains Pendulum-v1 on one core with tiny networks, evaluations and checkpoints included, and notes
every ten seconds what the process holds: `soak.csv`, `soak.svg`, and a last line that compares the
end of the run with its beginning. Linux only, since it reads /proc.

Speed depends on what else the machine does, by tens of percent on a shared one. So when its time is
over the run goes on for `--fresh` minutes beside a new one on the same core: the scheduler deals
both the same moments, and what one step costs in each is compared over them. A run that has grown
slow costs more than one that has just begun.

`--faults` has the environments in subprocesses that raise or kill themselves, a fault in 2,000
steps: what is rebuilt must leave nothing behind.
"""

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure

from posteriori import train
from posteriori.runs.folder import RunFolder
from posteriori.runs.journal import Notice, read_notices
from posteriori.runs.plot import COLOURS

FAULT_EVERY = 2_000  # steps of an environment
EVERY = 10.0  # seconds between two rows
WARM = 0.1  # share of the run before its beginning is measured: compilations, a replay that fills
WINDOW = 0.15  # share of the run that its beginning and its end are averages of
SETTLED = 0.5  # share of a fresh run, its last, that is compared: replay is full by then
PANELS = {
    "rss_mib": "resident memory, MiB",
    "handles": "open file handles",
    "threads": "threads",
    "steps_per_s": "environment steps per second",
    "cpu_us_per_step": "processor time per step, us",
}
SETTINGS: dict[str, Any] = {
    "steps": 1_000_000_000,
    "widths": (16,),
    "batch_size": 32,
    "samples": 5,
    "support_points": 21,
    "replay_size": 50_000,
    "steps_per_update": 4,
    "evaluate_every": 20_000,
    "evaluate_episodes": 5,
    "checkpoint_every": 20_000,
    "final_episodes": 0,
    "pictures": False,
    "env_restarts": 1_000_000,
}


class Failing(gym.Wrapper):
    """Raises, or kills its process, once in so many steps."""

    def step(self, action: Any) -> Any:
        """Step, or fail."""
        chance = np.random.default_rng().random()
        if chance < 0.5 / FAULT_EVERY:
            os.kill(os.getpid(), signal.SIGKILL)
        if chance < 1 / FAULT_EVERY:
            raise RuntimeError("a fault of the soak")
        return super().step(action)


def failing() -> gym.Env:
    """Make an environment that fails."""
    return Failing(gym.make("Pendulum-v1"))


class Watch:
    """A sink that writes what the process holds, and asks the run to stop when its time is over.

    Args:
        path: Of the rows.
        seconds: Until its time is over.
        fresh: A command that it starts then, and waits for.
    """

    def __init__(self, path: Path, seconds: float, fresh: Sequence[str] = ()):
        self.file = path.open("w", newline="")
        self.writer = csv.DictWriter(self.file, ["seconds", "step", *PANELS])
        self.writer.writeheader()
        self.began = time.perf_counter()
        self.until = self.began + seconds
        self.fresh = fresh
        self.beside: subprocess.Popen | None = None
        self.last = (self.began, time.process_time(), 0)

    def __call__(self, step: int, metrics: Any) -> None:  # noqa: ARG002 - the signature of a sink
        """Write a row if it is time."""
        now, cpu = time.perf_counter(), time.process_time()
        then, cpu_then, step_then = self.last
        if now - then < EVERY or step == step_then:
            return
        self.last = (now, cpu, step)
        row = {
            "seconds": round(now - self.began, 1),
            "step": step,
            **held(),
            "steps_per_s": round((step - step_then) / (now - then), 1),
            "cpu_us_per_step": round(1e6 * (cpu - cpu_then) / (step - step_then), 2),
        }
        self.writer.writerow(row)
        self.file.flush()
        if now > self.until and self.fresh and self.beside is None:
            self.beside = subprocess.Popen(self.fresh)
        elif now > self.until and (self.beside is None or self.beside.poll() is not None):
            signal.raise_signal(signal.SIGINT)

    def warn(self, notice: Notice) -> None:
        """Keep quiet: `warnings.jsonl` has it."""


def held() -> dict[str, float]:
    """What this process holds now."""
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if line
    )
    return {
        "rss_mib": round(int(status["VmRSS"].split()[0]) / 1024, 2),
        "handles": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
    }


def read(path: Path) -> dict[str, np.ndarray]:
    """The columns of a soak's rows."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def compare(columns: dict[str, np.ndarray]) -> str:
    """Say what each quantity was after the warm-up, and at the end."""
    n = len(columns["seconds"])
    size = max(1, round(WINDOW * n))
    start = round(WARM * n)
    parts = [f"{columns['seconds'][-1] / 60:.0f} min, {int(columns['step'][-1]):,} steps"]
    for name in PANELS:
        first = columns[name][start : start + size].mean()
        last = columns[name][-size:].mean()
        parts.append(f"{name} {first:,.1f} -> {last:,.1f} ({last / first - 1:+.1%})")
    return "; ".join(parts)


def draw(columns: dict[str, np.ndarray]) -> Figure:
    """Each quantity over time."""
    figure = Figure(figsize=(7, 9), layout="constrained")
    panels = figure.subplots(len(PANELS), 1, sharex=True)
    minutes = columns["seconds"] / 60
    for axes, (name, label) in zip(panels, PANELS.items(), strict=True):
        axes.plot(minutes, columns[name], color=COLOURS[0], lw=1)
        axes.set_title(label, loc="left", fontsize=10)
        axes.set_ylim(0, 1.25 * columns[name].max())
        axes.grid(color="#dddddd", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("minutes")
    return figure


def beside(old: dict[str, np.ndarray], new: dict[str, np.ndarray], over: float) -> str:
    """Say what a step costs an old run and a fresh one, over the same minutes."""
    size = round(SETTLED * len(new["seconds"]))
    until = over + new["seconds"][-1]  # the old one's clock; it may have gone on a little
    since = over + new["seconds"][-size]
    rows = (old["seconds"] > since) & (old["seconds"] < until)
    late, early = (
        np.median(x["cpu_us_per_step"][at]) for x, at in ((old, rows), (new, slice(-size, None)))
    )
    return f"us per step, old and fresh on one core: {late:,.0f}, {early:,.0f} ({late / early:.3f})"


def soak(out: Path, minutes: float, fresh: float, *, faults: bool) -> None:
    """Train for so long, watched."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "run", ignore_errors=True)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before there are threads
    again = [sys.executable, __file__, f"--minutes={fresh}", "--fresh=0", f"--out={out / 'fresh'}"]
    watch = Watch(out / "soak.csv", 60 * minutes, again if fresh else ())
    env: Any = failing if faults else "Pendulum-v1"
    backend = {"backend": "subprocess", "evaluate_every": 0} if faults else {}
    try:
        train(env, run_dir=out / "run", sinks=[watch], **(SETTINGS | backend))
    except KeyboardInterrupt:  # its time is over
        watch.file.close()
    columns = read(out / "soak.csv")
    alone = columns["seconds"] <= 60 * minutes + EVERY
    columns, whole = {name: values[alone] for name, values in columns.items()}, columns
    draw(columns).savefig(out / "soak.svg")
    restarts = len(read_notices(RunFolder(out / "run").warnings))
    print(f"{compare(columns)}; {restarts} restarts")
    if fresh:
        print(beside(whole, read(out / "fresh" / "soak.csv"), whole["seconds"][alone][-1]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments, and soak."""
    parser = argparse.ArgumentParser(
        description="Train for long, and watch what the process holds."
    )
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--fresh", type=float, default=8.0, help="minutes beside a fresh run")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    given = parser.parse_args(arguments)
    soak(given.out, given.minutes, 0 if given.faults else given.fresh, faults=given.faults)


if __name__ == "__main__":
    main()
