"""What the look at each update costs: the learner with it and without, in turn.

    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python benchmarks/look.py

Processor time, which other work on the machine changes less than the wall-clock.
"""

import time
from collections.abc import Callable
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from learner import OBSERVATION, make_agent, make_batch

from posteriori import Config
from posteriori.models.scaling import Scaling
from posteriori.runs.learner import Learner

BLOCKS, BLOCK = 150, 10  # blocks of each, and updates of a block


def main() -> None:
    """Time both and compare."""
    sides = {"with": timed(), "without": without()}
    rounds = [(sides["with"](), sides["without"]()) for _ in range(BLOCKS)]
    spent = dict(zip(sides, np.array(rounds).T, strict=True))
    for name, seconds in spent.items():
        low, middle = np.percentile(seconds, [10, 50])
        print(f"{name:>8}: {1e3 * low:.3f} ms a tenth, {1e3 * middle:.3f} ms the median")
    for q in (0, 10, 50):
        ratio = np.percentile(spent["without"], q) / np.percentile(spent["with"], q)
        print(f"updates/s with / without, percentile {q}: {ratio:.3f}")


def without() -> Callable[[], float]:
    """The same, of a learner that is compiled without the look."""
    with (
        patch("posteriori.algorithms.mpo.first_bad", lambda _: jnp.zeros(())),
        patch("posteriori.runs.learner._sound", lambda _: jnp.ones((), bool)),
        patch("posteriori.runs.learner._unless", lambda _, new, __: new),
    ):
        return timed()


def timed() -> Callable[[], float]:
    """Compile a learner of the defaults; return what times a block of its updates."""
    config = Config()
    learner, batch = Learner(make_agent(config)), make_batch(config)
    scaling = Scaling.identity(OBSERVATION)
    learner.update(batch, scaling)

    def block() -> float:
        jax.block_until_ready(learner.state)
        began = time.process_time()
        for _ in range(BLOCK):
            learner.update(batch, scaling)
        jax.block_until_ready(learner.state)
        return (time.process_time() - began) / BLOCK

    return block


if __name__ == "__main__":
    main()
