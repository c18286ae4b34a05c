"""How the default's learning rates, weight decay and pessimism were chosen, by 12 seeds of each.

    python benchmarks/sweep.py candidates --evaluate-every 25000 --minutes 9 --out runs/candidates
    python benchmarks/candidates.py runs/candidates    what it left, into results/candidates.csv
    python benchmarks/candidates.py                    only the table

Exploring episodes cost nothing to count, so that they tell falls apart where 20 greedy ones cannot.
Last policies that the sweep had no time to evaluate play 100 greedy episodes in EnvPool, which is
five times as fast as Gymnasium.
"""

import argparse
import json
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import sweep
from experiments import LEARNING, PESSIMISM, WALKER, candidate
from protocol import FINAL_EPISODES, read
from rows import RESULTS, read_table, write_table
from tables import markdown

from posteriori.experience.envs import make_vector
from posteriori.models.actor import Actor

FILE = RESULTS / "candidates.csv"
FIELDS = ("variant", "seed", "step", "explored", "greedy", "falls", "sigma", "device", "commit")
UPRIGHT = 200  # whoever falls returns less
SPANS = ((25, 50), (50, 75), (75, 100), (100, 175))  # thousands of steps
GREEDY = (50, 75)  # at which all were evaluated before the machine was given back
SEED = 12345
Row = dict[str, Any]


def main() -> int:
    """Make the rows, if the sweep's folder is named, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", help="the sweep's folder")
    args = parser.parse_args()
    if args.out is not None:
        write_table(FILE, FIELDS, collected(args.out))
    print(table(read_table(FILE)))
    return 0


def collected(out: Path) -> Iterator[Row]:
    """Yield the rows of a sweep's fleets."""
    for folder in sorted(path.parent for path in out.glob("*/about.json")):
        about = json.loads((folder / "about.json").read_text())
        said = {"device": about["cpu"], "commit": about["commit"]}
        waiting = folder / sweep.LEFT
        left = pickle.loads(waiting.read_bytes()) if waiting.exists() else []
        lines = [*read(folder / "rows.jsonl"), *(line for line, _ in left)]
        last = max(line["step"] for line in lines)
        for line, actor in left:
            if line["step"] == last:
                line |= play(pickle.loads(actor))
        lines.sort(key=lambda line: (line["variant"], line["seed"], line["step"]))
        yield from (row(line) | said for line in lines)


def play(actor: Actor) -> Row:
    """Return 100 greedy episodes' returns and falls."""
    envs = make_vector(WALKER, num_envs=FINAL_EPISODES // 2, seed=1, backend="envpool")
    return sweep.play(WALKER, actor, envs, FINAL_EPISODES, SEED)


def row(line: Row) -> Row:
    """Return what is kept of a line of the sweep."""
    return {
        **{name: line[name] for name in ("variant", "seed", "step")},
        "explored": " ".join(f"{x:.0f}" for x in line["explored"]),
        "greedy": " ".join(f"{x:.0f}" for x in line.get("returns", ())),
        "falls": line.get("falls", ""),
        "sigma": f"{mean(line['sigma']):.3f}",
    }


def table(found: Sequence[Row]) -> str:
    """Return a line a setting: means over seeds and, in brackets, the lowest seed."""
    head = ["critics", "pessimism", "seeds"]
    head += [f"exploring, {low}k to {high}k" for low, high in SPANS]
    head += [f"falls, {SPANS[-1][0]}k to {SPANS[-1][1]}k"]
    head += [f"greedy, {step}k" for step in GREEDY] + ["greedy, at the end", "falls"]
    lines = []
    for learning, pessimism in product(LEARNING, PESSIMISM):
        own = [row for row in found if row["variant"] == candidate(learning, pessimism)]
        if own:
            name = pessimism.removesuffix(" pessimism") or "none"
            lines.append([learning, name, *numbers(by_seed(own))])
    return markdown(head, lines)


def numbers(seeds: Sequence[Sequence[Row]]) -> list[str]:
    """Return a line's numbers."""

    def over(share: Callable[[list[float]], float], low: int, high: int) -> list[float]:
        return [share(explored(own, low, high)) for own in seeds]

    steps = [max(int(row["step"]) for row in own) for own in seeds]
    ends = [at(own, step) for own, step in zip(seeds, steps, strict=True)]
    return [
        str(len(seeds)),
        *(spread(over(mean, low, high)) for low, high in SPANS),
        f"{100 * mean(over(fallen, *SPANS[-1])):.1f}%",
        *(spread([mean(at(own, 1000 * step)[0]) for own in seeds]) for step in GREEDY),
        spread([mean(returns) for returns, _ in ends]),
        f"{100 * sum(f for _, f in ends) / sum(len(r) for r, _ in ends):.1f}%",
    ]


def by_seed(own: Sequence[Row]) -> list[list[Row]]:
    """Split rows by their seed."""
    return [[r for r in own if r["seed"] == seed] for seed in sorted({r["seed"] for r in own})]


def explored(own: Sequence[Row], low: int, high: int) -> list[float]:
    """Return the exploring episodes that ended between two steps, in thousands."""
    inside = [row for row in own if 1000 * low < int(row["step"]) <= 1000 * high]
    return [float(x) for row in inside for x in row["explored"].split()]


def at(own: Sequence[Row], step: int) -> tuple[list[float], int]:
    """Return the greedy episodes at a step, and how many of them were falls."""
    (found,) = [row for row in own if int(row["step"]) == step]
    return [float(x) for x in found["greedy"].split()], int(found["falls"])


def fallen(returns: Sequence[float]) -> float:
    """Return the share of episodes that ended in a fall."""
    return mean(x < UPRIGHT for x in returns)


def spread(values: Sequence[float]) -> str:
    """Return the mean over seeds and the lowest."""
    return f"{mean(values):.0f} ({min(values):.0f})"


def origin(found: Sequence[Row]) -> str:
    """Return where the rows come from."""
    devices, commits = ({row[name] for row in found} for name in ("device", "commit"))
    return f"{', '.join(sorted(devices))}. Commit {', '.join(sorted(commits))}."


if __name__ == "__main__":
    sys.exit(main())
