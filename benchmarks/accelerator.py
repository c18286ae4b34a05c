"""Updates per second on an accelerator, against the batch's size and the number of actions.

    python benchmarks/accelerator.py                 every size; rows: results/accelerator.csv
    python benchmarks/accelerator.py --seconds 90    as many sizes as fit
    python benchmarks/accelerator.py --table         only the table of the last measurement

The default learner of BipedalWalker-v3's shapes, on one batch of random data that stays on the
device. Fifty updates are one call, so that no time goes into dispatch: what the device itself can
do. It is saturated where twice the batch halves the updates.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree
from learner import OBSERVATION, make_agent, make_batch
from products import seconds as spent
from rows import RESULTS, read_table, write_table

from posteriori import Config
from posteriori.algorithms.trajectory import Trajectory
from posteriori.models.scaling import Scaling
from posteriori.runs.provenance import provenance

FILE = RESULTS / "accelerator.csv"
BATCHES, SAMPLES = (128, 512, 2_048, 8_192, 32_768), (4, 10, 20, 40, 80)
USUAL = 2_048, 10  # batch at which the actions change, actions at which the batch changes
AT_ONCE = 50
FIELDS: tuple[str, ...] = (
    "batch",
    "samples",
    "updates_per_second",
    "device",
    "jax",
    "commit",
    "dirty",
)


def main() -> int:
    """Measure every size that fits into the time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--table", action="store_true", help="only print the table")
    args = parser.parse_args()
    if not args.table:
        write_table(FILE, FIELDS, list(measured(args.seconds)))
    print(table(read_table(FILE)))
    return 0


def measured(seconds: float) -> Iterator[dict[str, Any]]:
    """Compile and time one size after another, while there is time for one more."""
    began = time.monotonic()
    sizes = [(batch, USUAL[1]) for batch in BATCHES] + [(USUAL[0], n) for n in SAMPLES]
    source = provenance()["source"] or {}
    for batch, samples in dict.fromkeys(sizes):
        if time.monotonic() - began > seconds:
            return
        row = {
            "batch": batch,
            "samples": samples,
            "updates_per_second": round(AT_ONCE / spent(prepare(batch, samples)), 1),
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "commit": source.get("commit", "")[:12],
            "dirty": int(bool(source.get("changed"))),
        }
        print(row, flush=True)
        yield row


def prepare(batch_size: int, samples: int) -> Callable[[], PyTree]:
    """Compile a learner's updates; return how to do `AT_ONCE` of them."""
    base = Config()
    config = replace(base, batch_size=batch_size, mpo=replace(base.mpo, samples=samples))
    agent = make_agent(config)
    arrays, static = eqx.partition(agent.state, eqx.is_array)
    batch, scaling = jax.device_put(make_batch(config)), Scaling.identity(OBSERVATION)

    @jax.jit
    def updates(arrays: PyTree, batch: Trajectory) -> PyTree:
        def one(arrays: PyTree, nothing: None) -> tuple[PyTree, None]:
            state = eqx.combine(arrays, static)
            new, _ = agent.algorithm.update(state, batch, scaling, agent.actions)
            return eqx.filter(new, eqx.is_array), nothing

        return jax.lax.scan(one, arrays, None, AT_ONCE)[0]

    return partial(updates, arrays, batch)


def table(found: list[dict[str, str]]) -> str:
    """Return updates per second, and how many actions are judged in one."""
    lines = ["| windows | actions of each | updates/s | actions judged/s |", "|---|---|---|---|"]
    for row in found:
        batch, samples = int(row["batch"]), int(row["samples"])
        speed = float(row["updates_per_second"])
        judged = batch * samples * speed / 1e6
        lines.append(f"| {batch:,} | {samples} | {speed:,.0f} | {judged:,.1f}M |")
    return "\n".join(lines)


def origin(found: list[dict[str, str]]) -> str:
    """Return where the rows come from."""
    return "; ".join(
        dict.fromkeys(
            f"{row['device']}, jax {row['jax']}, commit {row['commit']}{'+' * int(row['dirty'])}"
            for row in found
        )
    )


if __name__ == "__main__":
    sys.exit(main())
