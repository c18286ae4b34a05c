"""Run the cells of experiments: kill it and start it again, what is finished is kept.

    python benchmarks/run.py walker                     all cells of an experiment, one at a time
    python benchmarks/run.py walker peers --jobs 2      two at a time, each pinned to a core
    python benchmarks/run.py peers --methods sbx-sac sb3-ppo --seeds 0 1
    python benchmarks/run.py walker --status            what is done
    python benchmarks/run.py peers --trial 3000         whether all of it works, in runs/trial/
    python benchmarks/run.py long --keep                the rows of what was stopped, into results/

`experiments.py` declares the experiments, `protocol.py` says how policies are evaluated, and
`rows.py` what is kept in `results/`. A cell of ours that was stopped is resumed, a peer's is
started again. A cell that fails is reported, and the others go on. Ctrl-C stops the cells and waits
for them.
"""

import argparse
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import rows
from cell import TAKEN, keep, stale
from experiments import EXPERIMENTS, Cell, cells
from jobs import Job, work
from protocol import EVALUATIONS, read

RUNS, TRIAL = Path("runs/benchmarks"), Path("runs/trial")


def main() -> int:
    """Run what is missing, and say what was done."""
    args = parse()
    try:
        chosen = choose(args)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.again:
        forget(chosen, args)
    waiting = [cell for cell in chosen if not rows.finished(cell, args.results)]
    print(f"{len(chosen)} cells, {len(chosen) - len(waiting)} of them finished")
    if args.status:
        print("\n".join(status(cell, args.results, args.runs) for cell in chosen))
        return 0
    if args.keep:
        stopped = [cell for cell in waiting if not stale(cell, folder_of(cell, args.runs))]
        print(*(keep(cell, folder_of(cell, args.runs), args.results) for cell in stopped), sep="\n")
        return 0
    try:
        codes = work([job(cell, args) for cell in waiting], args.jobs, report)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from here.")
        return 130
    failed = [name for name, code in codes.items() if code not in (0, TAKEN)]
    if failed:
        print(f"{len(failed)} of {len(codes)} cells failed: {', '.join(failed)}", file=sys.stderr)
    return min(len(failed), 1)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("experiments", nargs="+", choices=EXPERIMENTS, metavar="EXPERIMENT")
    parser.add_argument("--jobs", type=int, default=1, help="cells at the same time")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these, or others than declared")
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--tasks", nargs="+", help="only these")
    parser.add_argument("--variants", nargs="+", help="only these; '' is the method as it is")
    parser.add_argument("--trial", type=int, metavar="STEPS", help="so few; rows in runs/trial/")
    parser.add_argument("--again", action="store_true", help="forget what was done; give it once")
    parser.add_argument("--status", action="store_true", help="only say what is done")
    parser.add_argument("--keep", action="store_true", help="write the rows of stopped cells")
    parser.add_argument("--results", type=Path, default=rows.RESULTS, help="folder of the rows")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of runs and logs")
    args = parser.parse_args()
    if args.trial is not None:  # its rows look like those of the cells declared
        args.results, args.runs = TRIAL / "results", TRIAL
    return args


def choose(args: argparse.Namespace) -> list[Cell]:
    """Return the cells that the command line asks for.

    Raises:
        ValueError: If there is none, or more jobs than cores.
    """
    cores = len(os.sched_getaffinity(0))
    if not 1 <= args.jobs <= cores:
        raise ValueError(
            f"--jobs must be from 1 to {cores}, the number of cores, but it is {args.jobs}. "
            "Each cell gets a core of its own."
        )
    found = [cell for name in args.experiments for cell in cells(name, args.seeds)]
    for field, wanted in (
        ("method", args.methods),
        ("task", args.tasks),
        ("variant", args.variants),
    ):
        found = [cell for cell in found if wanted is None or getattr(cell, field) in wanted]
    if not found:
        raise ValueError(
            "The filters must leave a cell, but they leave none. See benchmarks/experiments.py."
        )
    return found if args.trial is None else [shortened(cell, args.trial) for cell in found]


def forget(chosen: list[Cell], args: argparse.Namespace) -> None:
    """Remove the rows and the runs of cells, such as after a change of the defaults."""
    for cell in chosen:
        rows.path_of(cell, args.results).unlink(missing_ok=True)
        shutil.rmtree(folder_of(cell, args.runs), ignore_errors=True)


def folder_of(cell: Cell, runs: Path) -> Path:
    """Return the folder of a cell's run."""
    return runs / cell.experiment / cell.name


def job(cell: Cell, args: argparse.Namespace) -> Job:
    """Return the process of a cell."""
    folder = folder_of(cell, args.runs)
    script = Path(__file__).with_name("cell.py")
    command = [sys.executable, str(script), cell.to_json(), str(folder), str(args.results)]
    return Job(f"{cell.experiment}/{cell.name}", command, folder.with_name(f"{folder.name}.log"))


def report(job: Job, code: int | None) -> None:
    """Say that a cell starts (code None) or has ended."""
    ends = {None: "start", 0: "done", TAKEN: "runs already, by another process"}
    print(f"{ends.get(code, f'FAILED ({code}), see {job.log}'):<8} {job.name}", flush=True)


def status(cell: Cell, results: Path, runs: Path) -> str:
    """Return a line on how far a cell is."""
    if rows.finished(cell, results):
        last = rows.read(rows.path_of(cell, results))[-1]
        return f"finished  {last.mean:10.1f} at {last.step:9,}  {cell.experiment}/{cell.name}"
    seen = read(folder_of(cell, runs) / EVALUATIONS)
    if not seen:
        return f"waiting   {'':23}  {cell.experiment}/{cell.name}"
    mean = sum(seen[-1]["returns"]) / len(seen[-1]["returns"])
    return f"under way {mean:10.1f} at {seen[-1]['step']:9,}  {cell.experiment}/{cell.name}"


def shortened(cell: Cell, steps: int) -> Cell:
    """Return a trial of a cell: fewer steps, two evaluations on the way."""
    return replace(cell, steps=steps, evaluate_every=max(1, steps // 2))


if __name__ == "__main__":
    sys.exit(main())
