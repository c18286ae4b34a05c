"""How long runs take to be looked at: the report's time and size, and the dashboard's start.

    python benchmarks/viewing.py [--runs 10] [--steps 1000000] [--tensorboard .tb/bin/tensorboard]

Runs of two settings, with rows as the loop writes them for BipedalWalker-v3 and noise for numbers,
so that nothing compresses well. The report's time is that of the command, from its start to its
end. The start is from the command to the last run's data over HTTP: the page's JSON of the
dashboard, the list of scalars of TensorBoard, both on the same folder, one after the other. Each
time comes with that of the processor, which says more where others use the machine.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from posteriori import Config
from posteriori.runs.config import plain
from posteriori.runs.folder import RunFolder
from posteriori.runs.provenance import provenance
from posteriori.runs.sinks import JsonLines, TensorBoard

PORT = 6543
METRICS = """
    alpha/cov alpha/mean ess/bounds ess/return kl/cov kl/cov/max kl/mean kl/mean/max loss/critic
    loss/policy pace sigma sigma/0 sigma/1 sigma/2 sigma/3 temperature/bounds temperature/return
    value progress/episodes progress/updates progress/seconds speed/steps speed/updates
    scale/reward rollout/clipped rollout/return rollout/length
"""
EVALUATIONS = [f"evaluation/{name}" for name in ("mean", "std", "min", "max", "length", "best")]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tensorboard", help="its command, if it is to be compared with")
    args = parser.parse_args()
    hardware = provenance()["hardware"]
    print(f"{hardware['cpu']}, {hardware['cores']} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as path:
        runs = [Path(path) / f"run{n}" for n in range(args.runs)]
        for n, run in enumerate(runs):
            write_run(run, args.steps, seed=n // 2, epsilon=(0.1, 0.2)[n % 2])
        report(runs, Path(path) / "report.html", args.repeats)
        starts(Path(path), args.runs, args.repeats, args.tensorboard)


def write_run(path: Path, steps: int, **settings: float) -> None:
    """Write the folder of a finished run."""
    config = Config(steps=steps, seed=int(settings.pop("seed")))
    config = dataclasses.replace(config, mpo=dataclasses.replace(config.mpo, **settings))
    folder = RunFolder.create(path, env="BipedalWalker-v3", seed=config.seed)
    folder.write_config("BipedalWalker-v3", config)
    sinks = [JsonLines(folder.metrics), TensorBoard(folder.tensorboard, settings=plain(config))]
    rng = np.random.default_rng(config.seed)
    for step in range(1_000, steps + 1, 1_000):
        emit(sinks, step, METRICS.split(), rng)
        if step % config.evaluate_every == 0:
            emit(sinks, step, EVALUATIONS, rng)
    returns = rng.normal(300, 10, config.final_episodes).tolist()
    final = {"mean": 300.0, "std": 10.0, "min": min(returns), "max": max(returns)}
    for sink in sinks:
        sink(steps, {f"final/{name}": value for name, value in final.items()})
        sink.close()
    folder.final.write_text(json.dumps(final | {"returns": returns}))


def emit(
    sinks: Sequence[JsonLines | TensorBoard],
    step: int,
    names: Sequence[str],
    rng: np.random.Generator,
) -> None:
    """Write a row of noise."""
    row = dict(zip(names, rng.lognormal(size=len(names)).tolist(), strict=True))
    for sink in sinks:
        sink(step, row)


def report(runs: list[Path], out: Path, repeats: int) -> None:
    """Print the seconds and the size of a report."""
    command = [posteriori(), "report", *map(str, runs), "--out", str(out)]
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), processor()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - wall, processor() - cpu))
    print(f"report of {len(runs)} runs: {both(times)}; {out.stat().st_size / 1e6:.1f} MB")


def starts(folder: Path, runs: int, repeats: int, tensorboard: str | None) -> None:
    """Print how long the dashboard takes to start, and TensorBoard, in turns."""
    ours = [posteriori(), "dashboard", str(folder), "--port", str(PORT), "--newest", str(runs)]
    servers = {"dashboard": (ours, "data.json", lambda found: len(found["runs"]) == runs)}
    if tensorboard:
        theirs = [tensorboard, "--logdir", str(folder), "--port", str(PORT)]
        tags = "data/plugin/scalars/tags"
        whole = lambda found: sum("final/mean" in tags for tags in found.values()) == runs  # noqa: E731
        servers["tensorboard"] = (theirs, tags, whole)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for _ in range(repeats):
        for name, server in servers.items():
            cpu = processor()
            wall = start(*server)
            times[name].append((wall, processor() - cpu))
    for name, taken in times.items():
        print(f"{name} shows {runs} runs after {both(taken)}")
    if tensorboard:
        pairs = zip(times["dashboard"], times["tensorboard"], strict=True)
        ratios = [(ours[0] / theirs[0], ours[1] / theirs[1]) for ours, theirs in pairs]
        print(f"dashboard / tensorboard: {both(ratios, '')}")


def start(command: list[str], page: str, whole: Callable[[Mapping], bool]) -> float:
    """Return the seconds until a server gives all data; it is ended then."""
    began = time.perf_counter()
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=silent, stderr=silent) as server:
        try:
            while server.poll() is None:
                try:
                    with urlopen(f"http://127.0.0.1:{PORT}/{page}") as answer:
                        if whole(json.load(answer)):
                            return time.perf_counter() - began
                except OSError:  # not yet
                    pass
                time.sleep(0.05)
        finally:
            server.terminate()
    raise SystemExit(f"{command[0]} has ended with {server.returncode}")


def posteriori() -> str:
    """Return the command, beside this Python."""
    return str(Path(sys.executable).with_name("posteriori"))


def processor() -> float:
    """Return the processor's seconds of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def both(values: Sequence[tuple[float, float]], unit: str = " s") -> str:
    """Return the medians of pairs, and their lowest and highest values."""
    texts = [
        f"{statistics.median(part):.2f}{unit} ({min(part):.2f} to {max(part):.2f})"
        for part in zip(*values, strict=True)
    ]
    return f"{texts[0]}, of the processor {texts[1]}"


if __name__ == "__main__":
    main()
