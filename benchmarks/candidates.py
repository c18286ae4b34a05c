"""What a sweep over many seeds says of a setting: the tables of `candidates` and `discounts`.

    python benchmarks/sweep.py candidates --evaluate-every 25000 --minutes 9 --out runs/candidates
    python benchmarks/candidates.py candidates runs/candidates    what it left, into results/
    python benchmarks/candidates.py candidates                    only the table

Exploring episodes cost nothing to count, so that they tell falls apart where 20 greedy ones cannot.
Last policies that the sweep had no time to evaluate play 100 greedy episodes in EnvPool, which is
five times as fast as Gymnasium.
"""

import argparse
import json
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from statistics import mean
from typing import Any

import sweep
from experiments import EXPERIMENTS, WALKER
from protocol import FINAL_EPISODES, read
from rows import RESULTS, read_table, write_table
from tables import NONE, markdown

from posteriori.experience.envs import make_vector
from posteriori.models.actor import Actor

FIELDS = ("variant", "seed", "step", "explored", "greedy", "falls", "sigma", "device", "commit")
UPRIGHT = 200  # whoever falls returns less
SEED = 12345
Row = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """An experiment's table.

    Args:
        experiment: Its name.
        spans: In which exploring episodes are averaged, and in the last of which their falls are
            counted; thousands of steps.
        greedy: When all policies were evaluated; thousands of steps.
    """

    experiment: str
    spans: tuple[tuple[int, int], ...]
    greedy: tuple[int, ...]

    @property
    def file(self) -> Path:
        """Of its rows."""
        return RESULTS / f"{self.experiment}.csv"

    def table(self, found: Sequence[Row]) -> str:
        """Return a line a setting: means over seeds and, in brackets, the lowest seed."""
        head = ["variant", "seeds", *(f"exploring, {low}k to {high}k" for low, high in self.spans)]
        low, high = self.spans[-1]
        head += [f"upright, {low}k to {high}k", f"falls, {low}k to {high}k"]
        head += [f"greedy, {step}k" for step in self.greedy] + ["greedy, at the end", "falls"]
        make, _ = EXPERIMENTS[self.experiment]
        lines = []
        for variant in dict.fromkeys(cell.variant for cell in make()):
            own = [row for row in found if row["variant"] == variant]
            if own:
                lines.append([variant or "the default", *self._numbers(by_seed(own))])
        return markdown(head, lines)

    def _numbers(self, seeds: Sequence[Sequence[Row]]) -> list[str]:
        def over(share: Callable[[list[float]], float], low: int, high: int) -> list[float]:
            return [share(explored(own, low, high)) for own in seeds]

        steps = [max(int(row["step"]) for row in own) for own in seeds]
        ends = [at(own, step) for own, step in zip(seeds, steps, strict=True)]
        return [
            str(len(seeds)),
            *(spread(over(mean, low, high)) for low, high in self.spans),
            spread(over(upright, *self.spans[-1])),
            f"{100 * mean(over(fallen, *self.spans[-1])):.1f}%",
            *(spread([mean(at(own, 1000 * step)[0]) for own in seeds]) for step in self.greedy),
            spread([mean(returns) for returns, _ in ends]),
            f"{100 * sum(f for _, f in ends) / sum(len(r) for r, _ in ends):.1f}%",
        ]

    @staticmethod
    def origin(found: Sequence[Row]) -> str:
        """Return where the rows come from."""
        devices, commits = ({row[name] for row in found} for name in ("device", "commit"))
        return f"{', '.join(sorted(devices))}. Commit {', '.join(sorted(commits))}."


COMPARISONS = {
    comparison.experiment: comparison
    for comparison in (
        Comparison("candidates", ((25, 50), (50, 75), (75, 100), (100, 175)), (50, 75)),
        Comparison("discounts", ((0, 50), (50, 100), (100, 150), (150, 250)), (50, 100)),
    )
}


def main() -> int:
    """Make the rows, if the sweep's folder is named, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("experiment", choices=COMPARISONS)
    parser.add_argument("out", type=Path, nargs="?", help="the sweep's folder")
    args = parser.parse_args()
    comparison = COMPARISONS[args.experiment]
    if args.out is not None:
        write_table(comparison.file, FIELDS, collected(args.out))
    print(comparison.table(read_table(comparison.file)))
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


def upright(returns: Sequence[float]) -> float:
    """Return the mean of the episodes that did not end in a fall; NaN if all did."""
    return mean([x for x in returns if x >= UPRIGHT] or [nan])


def spread(values: Sequence[float]) -> str:
    """Return the mean over seeds and the lowest, of those that have a value."""
    found = [x for x in values if not isnan(x)]
    return f"{mean(found):.0f} ({min(found):.0f})" if found else NONE


if __name__ == "__main__":
    sys.exit(main())
