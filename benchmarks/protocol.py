"""The evaluation that all methods go through, and the rows that it leaves.

The greedy policy, in Gymnasium's own environment, with the task's own reward; a return is
undiscounted. On the way 20 episodes, the same each time; at the end 100 others, of the last policy.
All of it is `posteriori.runs.evaluate.run_episodes`: a peer's policy goes through the same code as
ours, as a callable from a batch of observations to a batch of actions.
"""

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from experiments import HARDCORE, WALKER, Cell
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray

from posteriori.experience.envs import make_reference
from posteriori.runs.evaluate import PARALLEL, Evaluation, run_episodes
from posteriori.runs.loop import EVALUATION_SEED
from posteriori.runs.provenance import provenance

EPISODES, FINAL_EPISODES = 20, 100
FINAL_SEED = 0  # what the loop of `posteriori train` evaluates with at its end
EVALUATIONS = "evaluations.jsonl"  # of a cell, in its folder
FALL = -100.0  # the walkers' last reward where they fall, and only there
FALLING = (WALKER, HARDCORE)

Policy = Callable[[NDArray], NDArray]


@dataclass(frozen=True)
class Progress:
    """Where training stands at an evaluation.

    Args:
        step: Environment steps, over all environments.
        updates: As the method counts them.
        episodes: Of training; None if the method does not say.
        seconds: Since the first step, with the compilations and the evaluations before this one.
    """

    step: int
    updates: int
    episodes: int | None
    seconds: float


class Ends(VectorWrapper):
    """Stands before the environments of an evaluation and keeps each episode's last reward."""

    def __init__(self, envs: VectorEnv):
        super().__init__(envs)
        self.rewards: list[list[float]] = [[] for _ in range(envs.num_envs)]

    def step(self, actions: NDArray) -> tuple[Any, NDArray, NDArray, NDArray, dict]:
        """Step all environments."""
        out = self.env.step(actions)
        for e in np.flatnonzero(out[2] | out[3]):
            self.rewards[e].append(float(out[1][e]))
        return out

    def falls(self, episodes: int) -> int:
        """Count the falls among the episodes that `run_episodes` took."""
        quota = -(-episodes // self.num_envs)
        return [r for one in self.rewards for r in one[:quota]][:episodes].count(FALL)


class Recorder:
    """Keeps the evaluations of a cell as JSON lines, at once.

    Args:
        folder: Of the cell's process.
        task: That it evaluates on.
        resumed_at: The step that training goes on from; rows after it are dropped, and a final one,
            since they will come again.
    """

    def __init__(self, folder: Path, task: str, *, resumed_at: int = 0):
        self.path = folder / EVALUATIONS
        self.task = task
        kept = [row for row in read(self.path) if row["step"] <= resumed_at and not row["final"]]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self.evaluating = sum(row["evaluation_seconds"] for row in kept)
        source = provenance()["source"] or {}
        self.source = {"commit": source.get("commit", ""), "dirty": source.get("changed", "")}

    def keep(
        self,
        evaluate: Callable[[VectorEnv], Evaluation],
        envs: VectorEnv,
        progress: Progress,
        *,
        final: bool,
    ) -> Evaluation:
        """Run an evaluation and keep its row."""
        ends, began = Ends(envs), time.perf_counter()
        result = evaluate(ends)
        took = time.perf_counter() - began
        row = {
            **asdict(progress),
            "training_seconds": progress.seconds - self.evaluating,
            "evaluation_seconds": took,
            "final": final,
            "returns": result.returns,
            "falls": ends.falls(result.episodes) if self.task in FALLING else None,
            **self.source,
        }
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.evaluating += took
        return result


class Examiner:
    """Evaluates a peer's policy when it is due.

    Args:
        cell: Whose steps and interval hold.
        recorder: That keeps the rows.
        policy: Greedy; it may change between two calls.
    """

    def __init__(self, cell: Cell, recorder: Recorder, policy: Policy):
        self.cell, self.recorder, self.policy = cell, recorder, policy
        self.envs = make_reference(cell.task, num_envs=PARALLEL)
        self.step = 0
        self.began = time.perf_counter()

    def at(self, step: int, updates: int, episodes: int | None = None) -> None:
        """Evaluate if one is due since the last call."""
        every, before = self.cell.evaluate_every, self.step
        self.step = step
        if step // every > before // every:
            self._evaluate(EPISODES, EVALUATION_SEED, updates, episodes)

    def finish(self, updates: int, episodes: int | None = None) -> None:
        """Evaluate the last policy."""
        self._evaluate(FINAL_EPISODES, FINAL_SEED, updates, episodes)
        self.envs.close()

    def _evaluate(self, n: int, seed: int, updates: int, episodes: int | None) -> None:
        seconds = time.perf_counter() - self.began
        self.recorder.keep(
            lambda envs: run_episodes(self.policy, envs, env=self.cell.task, episodes=n, seed=seed),
            self.envs,
            Progress(self.step, updates, episodes, seconds),
            final=n == FINAL_EPISODES,
        )


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows kept so far; a last line cut by a crash is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def record(folder: Path, cell: Cell, packages: tuple[str, ...]) -> None:
    """Write down what holds for all rows of a cell.

    Args:
        folder: Of the cell's process.
        cell: Whose folder it is.
        packages: Whose versions matter.
    """
    about = {
        "cpu": processor("jax" in packages),
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions(packages),
        "settings": cell.described,
        "cell": cell.to_json(),
    }
    (folder / "record.json").write_text(json.dumps(about, indent=2) + "\n")


def processor(accelerated: bool) -> str:
    """Return the processor's name, with the accelerator's where that is used."""
    hardware = provenance()["hardware"]
    devices = [name.partition(": ") for name in hardware["devices"]] if accelerated else []
    kinds = dict.fromkeys(kind for platform, _, kind in devices if platform != "cpu")
    return ", ".join([hardware["cpu"], *kinds])


def versions(packages: Iterable[str]) -> str:
    """Return packages with their versions, for people."""
    return " ".join(f"{name} {metadata.version(name)}" for name in packages)
