"""What a preference does: Pendulum-v1, with small actions preferred by so much beside the return.

    python benchmarks/preference.py             all seeds; the rows are in results/preference.csv
    python benchmarks/preference.py --table     only the table of the last measurement

The preference is that of `examples/own_preference.py`. Pendulum-v1's own reward has a price of
torque in it, 0.001 a square: small beside what swinging up brings, so that the return alone leaves
much of the torque to chance. The effort is the mean square of the torque (N m), which lies between
-2 and 2, over greedy episodes that are the same for all.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from rows import RESULTS, read_table

from posteriori import GreedyPolicy, Preference, train
from posteriori.runs.provenance import provenance

FILE = RESULTS / "preference.csv"
TASK, LENGTH, EPISODES = "Pendulum-v1", 200, 50
EPSILONS = (0.0, 0.01, 0.05, 0.2)  # 0: no preference
FIELDS: tuple[str, ...] = ("epsilon", "seed", "steps", "mean", "effort", "cpu", "commit", "dirty")


def main() -> int:
    """Measure what is not there, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    args = parser.parse_args()
    found = read_table(FILE)
    for seed in () if args.table else args.seeds:
        for epsilon in EPSILONS:
            if not any((r["epsilon"], r["seed"]) == (str(epsilon), str(seed)) for r in found):
                keep(measure(epsilon, seed, args.steps))
    print(table(read_table(FILE)))
    return 0


def small(action: jax.Array) -> jax.Array:
    """Return minus the squared size of actions, which are in [-1, 1]; larger is better."""
    return -jnp.sum(action**2, axis=-1)


def measure(epsilon: float, seed: int, steps: int) -> dict[str, Any]:
    """Train once, and play."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            TASK,
            preferences={"small": Preference(small, epsilon)} if epsilon else {},
            seed=seed,
            steps=steps,
            run_dir=Path(folder) / "run",
            evaluate_every=0,
            final_episodes=0,
            pictures=False,
        )
    source = provenance()["source"] or {}
    returns, effort = play(run.policy)
    return {
        "epsilon": epsilon,
        "seed": seed,
        "steps": steps,
        "mean": round(returns, 2),
        "effort": round(effort, 4),
        "cpu": provenance()["hardware"]["cpu"],
        "commit": source.get("commit", "")[:12],
        "dirty": int(bool(source.get("changed"))),
    }


def play(policy: GreedyPolicy) -> tuple[float, float]:
    """Return the mean return and the mean squared torque of all episodes, played side by side."""
    env = gym.make_vec(TASK, num_envs=EPISODES)
    obs, _ = env.reset(seed=0)
    rewards, torques = [], []
    for _ in range(LENGTH):
        torques.append(policy(obs))
        obs, reward, *_ = env.step(torques[-1])
        rewards.append(reward)
    return float(np.sum(rewards, axis=0).mean()), float(np.square(torques).mean())


def keep(row: dict[str, Any]) -> None:
    """Add a row to the file."""
    new = not FILE.exists()
    with FILE.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(*row.values(), flush=True)


def table(found: list[dict[str, str]]) -> str:
    """Return medians over seeds, with the lowest and the highest."""
    lines = ["| epsilon | seeds | mean return | mean squared torque |", "|---|---|---|---|"]
    for epsilon in EPSILONS:
        own = [row for row in found if float(row["epsilon"]) == epsilon]
        if own:
            name = f"{epsilon:g}" if epsilon else "none"
            lines.append(
                f"| {name} | {len(own)} | {spread(own, 'mean', 0)} | {spread(own, 'effort', 2)} |"
            )
    return "\n".join(lines)


def spread(own: list[dict[str, str]], column: str, digits: int) -> str:
    """Return a column's median and range over seeds."""
    values = [float(row[column]) for row in own]
    low, mid, high = (f"{x:,.{digits}f}" for x in (min(values), median(values), max(values)))
    return f"{mid} ({low} to {high})"


def origin(found: list[dict[str, str]]) -> str:
    """Return where the rows come from."""
    commits = {row["commit"] + "+" * (row["dirty"] == "1") for row in found}
    steps = {f"{int(row['steps']):,}" for row in found}
    return (
        f"{', '.join(sorted(steps))} steps, {EPISODES} greedy episodes each. "
        f"{'; '.join(sorted({row['cpu'] for row in found}))}. Commit {', '.join(sorted(commits))}."
    )


if __name__ == "__main__":
    sys.exit(main())
