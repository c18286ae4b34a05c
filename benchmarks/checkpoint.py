"""How long training pauses for a checkpoint with a full replay, and what share of its time that is.

    python benchmarks/checkpoint.py [--rows 1000000] [--env BipedalWalker-v3]

Fills the replay of the default settings with noise, and saves as the loop does at its default
interval, with as many new rows in between as the interval brings. Training waits while that is
done: the time is the pause. Two more lines, for comparison: the first checkpoint, which writes
every row, and a plain write of the bytes of an interval, flushed.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from posteriori import Config
from posteriori.experience.replay import Rows
from posteriori.runs.folder import RunFolder
from posteriori.runs.loop import Loop
from posteriori.runs.provenance import provenance

CHUNK = 1_000  # rows of each environment added at a time


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--env", default="BipedalWalker-v3")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--saves", type=int, default=10)
    parser.add_argument("--steps-per-second", type=float, default=450.0, help="of training")
    args = parser.parse_args()
    config = Config(replay_size=args.rows)
    loop = Loop(args.env, config, None, None, seed=0)
    hardware = provenance()["hardware"]
    print(f"{hardware['cpu']}, {hardware['cores']} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as path:
        loop.folder = RunFolder(path)
        loop.began = time.perf_counter()
        add(loop, args.rows)
        first = seconds(lambda: save(loop, args.rows))[0]
        pauses = []
        for n in range(1, args.saves + 1):
            add(loop, config.checkpoint_every)
            step = args.rows + n * config.checkpoint_every
            pauses.append(seconds(lambda step=step: save(loop, step)))
        folder = loop.folder.checkpoints / f"{loop.steps:010d}"
        new = [f for f in folder.iterdir() if f.stat().st_nlink == 1]
        size = sum(f.stat().st_size for f in new)
        plain = seconds(lambda: write(Path(path) / "plain", size))[0]
        report(loop, first, pauses, plain, size, config.checkpoint_every / args.steps_per_second)
    loop.close()


def add(loop: Loop, rows: int) -> None:
    """Add rows of noise to replay."""
    ring, rng = loop.gathering.replay, np.random.default_rng(0)
    envs = len(ring.added)
    sizes = ring.rows.obs.shape[-1], ring.rows.action.shape[-1]
    one = np.ones(envs, np.float32)
    for start in range(0, rows // envs, CHUNK):
        count = min(CHUNK, rows // envs - start)
        noise = [rng.normal(size=(count, envs, size)).astype(np.float32) for size in sizes]
        for obs, action in zip(*noise, strict=True):
            ring.add(Rows(np.arange(envs), obs, action, one, one, one.astype(bool)))


def save(loop: Loop, step: int) -> None:
    """Save as at a step."""
    loop.steps = step
    loop._save()


def write(path: Path, size: int) -> None:
    """Write and flush so many bytes."""
    with path.open("wb") as file:
        file.write(os.urandom(size))
        os.fsync(file.fileno())


def seconds(do: Callable[[], None]) -> tuple[float, float]:
    """Return how long something takes, and how much processor time."""
    began, busy = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - began, time.process_time() - busy


def report(
    loop: Loop,
    first: float,
    both: list[tuple[float, float]],
    plain: float,
    size: int,
    interval: float,
) -> None:
    """Print the pauses."""
    held = int(np.minimum(loop.gathering.replay.added, loop.gathering.replay.share).sum())
    pauses, busy = zip(*both, strict=True)
    median, worst = statistics.median(pauses), max(pauses)
    print(f"processor time of a checkpoint: median {1e3 * statistics.median(busy):.0f} ms")
    print(f"replay of {held:,} rows; a checkpoint writes {size / 1e6:.1f} MB of new files")
    print(f"pause: median {1e3 * median:.0f} ms, worst {1e3 * worst:.0f} ms of {len(pauses)}")
    print(
        f"interval {interval:.1f} s: {median / interval:.2%} of it, at worst {worst / interval:.2%}"
    )
    print(f"the first checkpoint, every row: {first:.2f} s, {first / interval:.2%} of an interval")
    print(f"the same bytes in one plain file, flushed: {1e3 * plain:.0f} ms")


if __name__ == "__main__":
    main()
