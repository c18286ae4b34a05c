"""What a report costs: seconds and megabytes for long runs, and how soon a dashboard answers.

    python benchmarks/page.py                10 runs of a million steps
    python benchmarks/page.py --tensorboard  and how soon TensorBoard answers, where it is installed

The runs are made up, with a row each 1,000 steps of every metric that docs/mpo.md lists (a test
holds that list to what runs write), for a Gaussian policy of six dimensions: random walks.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from posteriori import Config
from posteriori.runs.provenance import provenance

ROOT = Path(__file__).parents[1]
DIMENSIONS = 6
PORT = 16_107


def main() -> int:
    """Make the runs, the report and the dashboard, and print what they cost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--tensorboard", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        runs = [make_run(root / f"{i}", i, args.steps) for i in range(args.runs)]
        size = sum((run / "metrics.jsonl").stat().st_size for run in runs) / 1e6
        print(f"{args.runs} runs of {args.steps:,} steps, {size:.1f} MB of metrics")
        command = [str(Path(sys.executable).with_name("posteriori")), "report", *map(str, runs)]
        out = root / "report.html"
        began, before = time.perf_counter(), os.times().children_user + os.times().children_system
        subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
        seconds, own = time.perf_counter() - began, os.times()
        cpu = own.children_user + own.children_system - before
        print(
            f"report: {seconds:.1f} s ({cpu:.1f} s of one core), {out.stat().st_size / 1e6:.1f} MB"
        )
        dashboard = [command[0], "dashboard", folder, "--port", str(PORT)]
        for path in ("", "data.json"):
            print(f"dashboard, /{path}: {told(dashboard, path)}")
        if args.tensorboard:
            board = [sys.executable, "-m", "tensorboard.main", "--logdir", folder]
            print(f"tensorboard, /: {told([*board, '--port', str(PORT)], '')}")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    return 0


def names() -> tuple[list[str], list[str]]:
    """Return the metrics of a report row and of an evaluation row."""
    text = (ROOT / "docs" / "mpo.md").read_text().split("\n## Metrics\n")[1].split("\n## ")[0]
    found = [
        name
        for line in text.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([^`]+)`", line.split("|")[1])
        if not re.search("entropy|policy$|policy/max|final/", name) or name == "loss/policy"
    ]
    found = [n for name in found for n in expanded(name)]
    evaluations = [name for name in found if name.startswith("evaluation/")]
    return [name for name in found if name not in evaluations], evaluations


def expanded(name: str) -> list[str]:
    """Return a metric of each dimension for one that is documented as `name/i`."""
    if not name.endswith("/i"):
        return [name]
    return [f"{name[:-1]}{i}" for i in range(DIMENSIONS)]


def make_run(path: Path, number: int, steps: int) -> Path:
    """Write a run: pairs of seeds share their settings."""
    path.mkdir()
    config = replace(Config(steps=steps), seed=number % 2, n_step=1 + number // 2)
    record = {"env": "Made-up-v0", "settings": asdict(config), "command": [], **provenance()}
    (path / "config.json").write_text(json.dumps(record))
    rng = np.random.default_rng(number)
    every, sometimes = names()
    walks = rng.normal(size=(steps // 1000, len(every))).cumsum(axis=0)
    with (path / "metrics.jsonl").open("w") as file:
        for i, values in enumerate(walks.tolist(), start=1):
            row = {"step": i * 1000, **dict(zip(every, values, strict=True))}
            row |= {"progress/seconds": i * 4.2, "progress/episodes": i * 3}
            file.write(json.dumps(row) + "\n")
            if i % 20 == 0:
                values = rng.normal(size=len(sometimes)).tolist()
                row = {"step": i * 1000, **dict(zip(sometimes, values, strict=True))}
                file.write(json.dumps(row) + "\n")
    returns = rng.normal(size=100)
    final = {"mean": returns.mean(), "std": returns.std(), "min": returns.min()}
    final |= {"max": returns.max(), "returns": returns.tolist()}
    (path / "final.json").write_text(json.dumps(final))
    return path


def told(command: list[str], path: str) -> str:
    """Say how long a server took to its first whole answer, on the clock and on a core."""
    before = os.times()
    seconds = until_answered(command, path)
    now = os.times()
    cpu = now.children_user + now.children_system - before.children_user - before.children_system
    return f"{seconds:.1f} s from its start ({cpu:.1f} s of one core)"


def until_answered(command: list[str], path: str) -> float:
    """Return the seconds from the start of a server to its first whole answer."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while server.poll() is None:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/{path}") as answer:
                        answer.read()
                        return time.perf_counter() - began
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.02)
        finally:
            server.terminate()
    raise RuntimeError(f"The server must answer, but {command} ended with {server.returncode}.")


if __name__ == "__main__":
    sys.exit(main())
