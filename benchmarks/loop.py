"""Where the wall-clock of a training run goes, and whether host and device work at the same time.

    python benchmarks/loop.py BipedalWalker-v3 --steps 24000 [settings of `posteriori train`]

Runs the loop of `posteriori train` with a clock around each of its parts. A part's time is its own:
what it calls is counted under its own name. The clock starts after the compilations.
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import tyro
from products import seconds

from posteriori import Config
from posteriori.experience import collect
from posteriori.runs.folder import RunFolder
from posteriori.runs.learner import Learner
from posteriori.runs.loop import Loop
from posteriori.runs.provenance import provenance
from posteriori.runs.sinks import JsonLines, TensorBoard

SETTLE = 2_000  # environment steps with updates before the clock starts
WAITS = ("choose actions, wait for the policy", "wait for the updates")
APART = ("evaluate", "checkpoint")  # no updates run beside these


class Clock:
    """Seconds by part; a part within a part stops the outer one's."""

    def __init__(self) -> None:
        self.names = ["the loop itself"]
        self.restart()

    def restart(self) -> None:
        """Forget what was measured so far."""
        self.spent: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.began = self.last = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done here under a name."""
        self._turn()
        self.names.append(name)
        self.calls[name] += 1
        try:
            yield
        finally:
            self._turn()
            self.names.pop()

    def around(self, owner: Any, method: str, name: str, *, wait: bool = False) -> None:
        """Put the clock around a method; `wait` has it end when its arrays are there."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                out = original(*args, **kwargs)
                return jax.block_until_ready(out) if wait else out

        setattr(owner, method, timed)

    def _turn(self) -> None:
        now = time.perf_counter()
        self.spent[self.names[-1]] += now - self.last  # pyright: ignore[reportArgumentType]
        self.last = now


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("env", nargs="?", default="BipedalWalker-v3")
    parser.add_argument("--steps", type=int, default=24_000)
    args, settings = parser.parse_known_args()
    config = tyro.cli(
        tyro.conf.OmitArgPrefixes[Config], args=["--steps", str(args.steps), *settings]
    )
    hardware = provenance()["hardware"]
    print(f"jax {jax.__version__}, {hardware['devices'][0]}")
    print(f"{hardware['cpu']}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    loop, clock = Loop(args.env, config, None, None, seed=config.seed), Clock()
    instrument(loop, clock)
    started = start_when_settled(loop, clock)
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder.create(Path(path) / "run", env=loop.name, seed=config.seed)
        sinks = JsonLines(folder.metrics), TensorBoard(folder.tensorboard)
        loop.run(folder, sinks, lambda: False)
        wall = time.perf_counter() - clock.began
        for closing in (*sinks, loop):
            closing.close()
    steps, updates = loop.steps - started["steps"], loop.learner.updates - started["updates"]
    report(clock, wall, steps, updates)
    report_overlap(loop, clock, wall, updates)


def instrument(loop: Loop, clock: Clock) -> None:
    """Put the clock around the loop's parts."""
    gathering, learner = loop.gathering, loop.learner
    clock.around(collect, "_act", WAITS[0], wait=True)
    clock.around(learner, "metrics", WAITS[1])
    clock.around(loop.envs, "step", "step the environments")
    clock.around(gathering.collector, "collect", "make rows")
    clock.around(gathering.replay, "add", "add rows to replay")
    clock.around(gathering.moments, "add", "update the statistics")
    clock.around(gathering.unit, "add", "update the statistics")
    clock.around(gathering, "scaling", "put the statistics on the device")
    clock.around(gathering.replay, "sample", "sample replay")
    clock.around(learner, "update", "dispatch updates")
    clock.around(learner, "actor", "copy the policy")
    for method, name in (("_report", "report"), ("_evaluate", "evaluate"), ("_save", "checkpoint")):
        clock.around(loop, method, name)


def start_when_settled(loop: Loop, clock: Clock) -> dict[str, int]:
    """Restart the clock once updates run; what is returned then holds the counts so far."""
    started: dict[str, int] = {}
    timed: Callable[[], None] = loop._report

    def report_and_restart() -> None:
        timed()
        if not started and loop.steps >= loop.config.learning_starts + SETTLE:
            started.update(steps=loop.steps, updates=loop.learner.updates)
            clock.restart()

    loop._report = report_and_restart
    return started


def report(clock: Clock, wall: float, steps: int, updates: int) -> None:
    """Print each part's time."""
    print(f"{steps:,} environment steps, {updates:,} updates in {wall:.1f} s")
    print(f"{steps / wall:,.0f} steps/s, {updates / wall:,.0f} updates/s\n")
    print(f"{'part':<38} {'share':>6} {'us per step':>12} {'calls':>8} {'us per call':>12}")
    for name, spent in clock.spent.most_common():
        calls = clock.calls[name]
        each = f"{1e6 * spent / calls:12.0f}" if calls else ""
        print(f"{name:<38} {spent / wall:6.1%} {1e6 * spent / steps:12.1f} {calls:8,} {each}")
    print(f"{'sum':<38} {sum(clock.spent.values()) / wall:6.1%}")


def report_overlap(loop: Loop, clock: Clock, wall: float, updates: int) -> None:
    """Compare the host's work and the device's, each alone, with the wall-clock."""
    batch, scaling = loop.gathering.sample(), loop.gathering.scaling()
    assert batch is not None  # replay has been learnt from
    learner: Learner = loop.learner
    update = seconds(lambda: (learner.update(batch, scaling), learner.state)[1])
    device = update * updates
    wall -= sum(clock.spent[name] for name in APART)
    host = sum(spent for name, spent in clock.spent.items() if name not in WAITS + APART)
    hidden = (host + device - wall) / min(host, device)
    print(f"\nan update alone takes {1e3 * update:.2f} ms: {device:.1f} s for all of them")
    print(f"without {' and '.join(APART)}: host, its waits aside, {host:.1f} s of {wall:.1f} s")
    print(f"{hidden:.0%} of the shorter ran beside the other (below 0: they hinder each other)")


if __name__ == "__main__":
    main()
