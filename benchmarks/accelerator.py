"""Updates per second on an accelerator, against the batch's size and the number of actions.

    python benchmarks/accelerator.py                 every size; rows: results/accelerator.csv
    python benchmarks/accelerator.py --seconds 60    as many sizes as fit
    python benchmarks/accelerator.py --table         only the table of the last measurement

The default learner of BipedalWalker-v3's shapes, on one batch of random data that stays on the
device. `alone`: each update is dispatched by itself, as `posteriori train` does it, and the last is
waited for. `scanned`: 50 updates are one call, so that no time goes into dispatch: what the device
itself can do. A size saturates the device where twice the batch halves the updates.
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree
from learner import make_agent, make_batch
from rows import RESULTS, read_table

from posteriori.algorithms.trajectory import Trajectory
from posteriori.models.scaling import Scaling
from posteriori.runs.config import Config
from posteriori.runs.provenance import provenance

FILE = RESULTS / "accelerator.csv"
BATCHES = (128, 512, 2_048, 8_192, 32_768)
SAMPLES = (4, 10, 20, 40, 80)
USUAL = 2_048  # batch at which the number of actions changes, about where a GPU is filled
PRECISIONS = ("default", "highest")  # on recent GPUs: TF32, and float32
SCANNED, REPEATS = 50, 5
FIELDS = ("batch", "samples", "precision", "scanned", "alone", "device", "jax", "commit", "dirty")
OBSERVATION = 24

Measured = dict[str, Any]


def main() -> int:
    """Measure every size that fits into the time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--table", action="store_true", help="only print the table")
    args = parser.parse_args()
    if not args.table:
        write(measured(args.seconds))
    print(table(read_table(FILE)))
    return 0


def measured(seconds: float) -> list[Measured]:
    """Compile all sizes at once, and time them one by one in the order in which they are ready."""
    began, found = time.monotonic(), []
    sizes = [(batch, 10) for batch in BATCHES]
    sizes += [(USUAL, n) for n in SAMPLES if n != 10]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cases = [
            (batch, samples, precision, pool.submit(prepare, batch, samples, precision))
            for precision in PRECISIONS
            for batch, samples in sizes
        ]
        for batch, samples, precision, case in cases:
            if time.monotonic() - began > seconds:
                case.cancel()
                continue
            row = {"batch": batch, "samples": samples, "precision": precision, **timed(case)}
            print(row, flush=True)
            found.append(row)
    source = provenance()["source"] or {}
    about = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "commit": source.get("commit", "")[:12],
        "dirty": int(bool(source.get("changed"))),
    }
    return [row | about for row in found]


def prepare(batch_size: int, samples: int, precision: str) -> dict[str, Callable[[], Any]]:
    """Compile a learner's updates; return how to do `SCANNED` of them, in one call and one by one."""
    base = Config()
    config = replace(base, batch_size=batch_size, mpo=replace(base.mpo, samples=samples))
    agent = make_agent(config)
    arrays, static = eqx.partition(agent.state, eqx.is_array)
    batch, scaling = jax.device_put(make_batch(config)), Scaling.identity(OBSERVATION)

    def update(arrays: PyTree, batch: Trajectory) -> PyTree:
        state = eqx.combine(arrays, static)
        new, _ = agent.algorithm.update(state, batch, scaling, agent.actions)
        return eqx.filter(new, eqx.is_array)

    def scanned(arrays: PyTree, batch: Trajectory) -> PyTree:
        return jax.lax.scan(lambda s, _: (update(s, batch), None), arrays, None, SCANNED)[0]

    with jax.default_matmul_precision(precision):
        together, alone = (
            jax.jit(f).lower(arrays, batch).compile() for f in (scanned, update)
        )

    def one_by_one() -> PyTree:
        state = arrays
        for _ in range(SCANNED):
            state = alone(state, batch)
        return state

    return {"scanned": partial(together, arrays, batch), "alone": one_by_one}


def timed(case: Future) -> dict[str, float]:
    """Return updates per second, the median of some repeats."""
    return {name: round(SCANNED / _seconds(do), 1) for name, do in case.result().items()}


def _seconds(do: Callable[[], Any]) -> float:
    jax.block_until_ready(do())
    spent = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(do())
        spent.append(time.perf_counter() - began)
    return median(spent)


def write(found: list[Measured]) -> None:
    """Keep the rows of a measurement, instead of the last one's."""
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


def table(found: list[dict[str, str]]) -> str:
    """Return updates per second, and how many actions are judged in one."""
    lines = [
        "| windows | actions of each | products | updates/s | actions judged/s | dispatched alone |",
        "|---|---|---|---|---|---|",
    ]
    for row in found:
        judged = int(row["batch"]) * int(row["samples"]) * float(row["scanned"])
        product = {"default": "TF32", "highest": "float32"}[row["precision"]]
        lines.append(
            f"| {int(row['batch']):,} | {row['samples']} | {product} | "
            f"{float(row['scanned']):,.0f} | {judged / 1e6:,.1f}M | {float(row['alone']):,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
