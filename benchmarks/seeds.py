"""Train one task over several seeds and tabulate what each reached.

    python benchmarks/seeds.py BipedalWalker-v3 --name walker --seeds 0 1 2 3 4 --steps 180000

Runs that are finished are kept: kill it and start it again. Every evaluation goes into
`results/NAME.csv`, from which the table is made (`--table` makes it from the file alone). Runs at
the same time are pinned to one core each.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import isfinite
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parent / "results"
THRESHOLDS = (250, 280, 300)
SCORES = ("mean", "std", "min", "max")
FIELDS = (
    *("name", "env", "seed", "step", "episodes", "updates", "seconds", *SCORES, "final"),
    *("commit", "dirty", "cpu", "cores_used", "settings"),
)


def main() -> None:
    """Run what is missing, collect, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("env")
    parser.add_argument("--name", required=True, help="of the result file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=180_000)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--table", action="store_true", help="only print the table")
    args, settings = parser.parse_known_args()
    if not args.table:
        with ThreadPoolExecutor(args.jobs) as pool:
            jobs = [(args, settings, seed, i % args.jobs) for i, seed in enumerate(args.seeds)]
            folders = list(pool.map(lambda job: run(*job), jobs))
        write(args, settings, folders)
    print(table(args.name))


def run(args: argparse.Namespace, settings: list[str], seed: int, core: int) -> Path:
    """Train one seed unless it is done; return the run's folder."""
    folder = args.runs / args.name / f"seed{seed}"
    if (folder / "final.json").exists():
        return folder
    posteriori = str(Path(sys.executable).with_name("posteriori"))
    command = [posteriori, "train", args.env, "--seed", str(seed), "--run-dir", str(folder)]
    if (folder / "checkpoints").exists():
        command = [posteriori, "resume", str(folder)]
    else:
        command += ["--steps", str(args.steps), *settings]
    environment = dict(os.environ)
    if args.jobs > 1:
        command = ["taskset", "-c", str(core), *command]
        environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"seed{seed}.log").open("a") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=True)
    return folder


def write(args: argparse.Namespace, settings: list[str], folders: list[Path]) -> None:
    """Collect the evaluations of all seeds into one file."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{args.name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for folder in folders:
            record = json.loads((folder / "config.json").read_text())
            source = record["source"] or {}
            shared = {
                "name": args.name,
                "env": record["env"],
                "seed": record["settings"]["seed"],
                "commit": source.get("commit", ""),
                "dirty": source.get("changed", ""),
                "cpu": record["hardware"]["cpu"],
                "cores_used": 1 if args.jobs > 1 else os.cpu_count(),
                "settings": " ".join(settings),
            }
            writer.writerows(shared | row for row in evaluations(folder))


def evaluations(folder: Path) -> list[dict]:
    """Return the rows of a run's evaluations, the final one last."""
    rows, progress = [], {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        progress |= {k: v for k, v in row.items() if k.startswith("progress/") or k == "step"}
        if "evaluation/mean" in row:
            rows.append(_row(progress, {k: row[f"evaluation/{k}"] for k in SCORES}, 0))
    final = json.loads((folder / "final.json").read_text())
    return [*rows, _row(progress, {k: final[k] for k in SCORES}, 1)]


def _row(progress: dict, scores: dict, final: int) -> dict:
    named = {k: progress[f"progress/{k}"] for k in ("episodes", "updates", "seconds")}
    return {"step": progress["step"], **named, **scores, "final": final}


def table(name: str) -> str:
    """Return a Markdown table of a result file: a line a seed, and the medians."""
    with (RESULTS / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines, columns = [], []
    for seed in sorted({int(r["seed"]) for r in rows}):
        own = [r for r in rows if int(r["seed"]) == seed]
        final = next(r for r in own if r["final"] == "1")
        first = [first_pass(own, t) for t in THRESHOLDS]
        after = [float(r["mean"]) for r in own if first[1] and int(r["step"]) > first[1]]
        worst = min(after, default=float("nan"))
        columns.append((float(final["mean"]), *first, float(final["seconds"])))
        steps = " | ".join(f"{x:,}" if x else "-" for x in first)
        score = f"{float(final['mean']):.1f} ± {float(final['std']):.1f}"
        lines.append(
            f"| {seed} | {score} | {float(final['min']):.1f} | "
            f"{steps} | {worst:.1f} | {int(final['step']):,} | {float(final['seconds']) / 60:.1f} |"
        )
    mids = [median(x or float("inf") for x in column) for column in zip(*columns, strict=True)]
    steps = " | ".join(f"{x:,.0f}" if isfinite(x) else "-" for x in mids[1:4])
    lines.append(f"| median | {mids[0]:.1f} | | {steps} | | | {mids[4] / 60:.1f} |")
    head = (
        "| seed | final, 100 episodes | its worst | first ≥ 250 | first ≥ 280 | first ≥ 300 | "
        "worst after 280 | steps | minutes |\n|---|---|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *lines])


def first_pass(rows: list[dict], threshold: float) -> int | None:
    """Return the step of the first evaluation on the way that reached a threshold."""
    passed = [int(r["step"]) for r in rows if r["final"] == "0" and float(r["mean"]) >= threshold]
    return min(passed, default=None)


if __name__ == "__main__":
    main()
