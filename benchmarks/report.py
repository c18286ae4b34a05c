"""Make every table and figure of `docs/benchmarks.md` from the rows in `results/` alone.

    python benchmarks/report.py              into docs/benchmarks.md and docs/figures/
    python benchmarks/report.py --print      only print the tables

A section of the page stands between `<!-- report: NAME -->` and `<!-- end of NAME -->`; what is
between is made here, and what an experiment has no rows for is said to be missing.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import accelerator
import figures
import matplotlib as mpl
import preference
import rows
import speed
import tables
from candidates import COMPARISONS
from experiments import EXPERIMENTS, EXPLORATION, OURS, WALKER, cells
from matplotlib.figure import Figure
from rows import Row
from scores import to_milestone, whole

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "docs" / "figures"

Table = Callable[[Sequence[Row]], str]
Draw = Callable[[Sequence[Row]], Figure]


def at_milestone(make: Callable) -> Callable:
    """Return what makes a table or figure of runs as if they had ended at their milestone."""
    return lambda found: make(to_milestone(found))


# Experiments of which all runs count, as far as they got.
STOPPED = ("tasks", "long", "hardcore", "clock")
# By section: the experiments whose rows it shows, its tables and its figures.
SECTIONS: dict[str, tuple[tuple[str, ...], tuple[Table, ...], dict[str, Draw]]] = {
    "walker": (("walker",), (tables.per_seed_on_the_way,), {"walker": figures.seeds}),
    "long": (("long",), (tables.per_seed,), {"long": figures.seeds}),
    "tutorial": (("walker", "tutorial"), (tables.per_variant,), {"tutorial": figures.seeds}),
    "updates": (
        ("walker", "updates", "long"),
        (at_milestone(tables.per_variant),),
        {"updates": at_milestone(figures.compared)},
    ),
    "sigma": (("walker",), (), {"sigma": figures.sigma}),
    "peers": (
        ("walker", "peers"),
        (at_milestone(tables.per_method),),
        {"peers": at_milestone(figures.compared)},
    ),
    "clock": (("clock",), (tables.per_clock,), {"clock": figures.compared}),
    "tasks": (("tasks",), (tables.per_task, tables.per_task_early), {"tasks": figures.each_task}),
    "unseen": (("unseen",), (tables.per_task,), {"unseen": figures.each_task}),
    "epsilon": (("epsilon",), (), {"epsilon": figures.epsilon}),
    "exploration": (("walker", "tasks", "exploration"), (tables.per_noise,), {}),
    "ablations": (("walker", "clock", "exploration", "ablations"), (tables.per_ablation,), {}),
    "slow-ablations": (("slow-ablations",), (tables.per_variant,), {}),
    "hardcore": (("hardcore",), (tables.per_seed_on_the_way,), {"hardcore": figures.seeds}),
}
# Of `long`, what can be set beside shorter runs.
MILESTONED = {cell.variant for cell in cells("long") if cell.milestone and cell.variant}
# Of the rows of its experiments, those that a section shows, where not all of them.
ONLY: dict[str, Callable[[Row], bool]] = {
    "exploration": lambda row: row.method == OURS and row.task in EXPLORATION,
    "updates": lambda row: row.experiment != "long" or row.variant in MILESTONED,
    "ablations": lambda row: row.method == OURS and row.task == WALKER,
}
MODULES = {"speed": speed, "accelerator": accelerator, "preference": preference}  # own rows


def main() -> int:
    """Make all sections."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--print", action="store_true", help="print the tables, write nothing")
    parser.add_argument("--results", type=Path, default=rows.RESULTS, help="folder of the rows")
    parser.add_argument("--page", type=Path, default=PAGE, help="to write into")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of the figures")
    args = parser.parse_args()
    found = {name: ordered(name, kept(name, rows.load(name, args.results))) for name in EXPERIMENTS}
    if args.print:
        for name in SECTIONS:
            print(f"## {name}\n\n{section(name, found, None)}\n")
        for name, text in own_sections(args.results).items():
            print(f"## {name}\n\n{text}\n")
        return 0
    made = {name: section(name, found, args.figures) for name in SECTIONS}
    made |= own_sections(args.results)
    args.page.write_text(filled(args.page.read_text(), made))
    return 0


def kept(experiment: str, found: list[Row]) -> list[Row]:
    """Return the rows of the runs that ended, or all where runs that were stopped count as well."""
    return found if experiment in STOPPED else whole(found)


def ordered(experiment: str, found: list[Row]) -> list[Row]:
    """Return rows in the order in which their experiment declares its cells; others come last."""
    declared = [(cell.task, cell.method, cell.variant) for cell in cells(experiment)]
    places = {key: i for i, key in reversed(list(enumerate(declared)))}
    return sorted(
        found, key=lambda row: places.get((row.task, row.method, row.variant), len(declared))
    )


def section(name: str, found: dict[str, list[Row]], folder: Path | None) -> str:
    """Make a section: figures, tables, where it comes from.

    Args:
        name: Of the section.
        found: Rows by experiment.
        folder: For the figures; None makes none.
    """
    experiments, make_tables, draw = SECTIONS[name]
    shown = ONLY.get(name, lambda _: True)
    own = [row for experiment in experiments for row in found[experiment] if shown(row)]
    command = f"`python benchmarks/run.py {' '.join(experiments)}`"
    if not all(found[experiment] for experiment in experiments):
        return f"Not measured yet: {command}."
    parts = []
    if folder is not None:
        for file, make in draw.items():
            save(make(own), folder / f"{file}.svg")
            parts.append(f"![{name}](figures/{file}.svg)")
    parts += filter(None, (make(own) for make in make_tables))
    parts.append(f"{command}. {tables.origin(own)}")
    return "\n\n".join(parts)


def own_sections(results: Path) -> dict[str, str]:
    """Make the sections of the scripts that keep rows of their own, of the last measurement."""
    scripts = [(name, f"{name}.py", module, module.FILE) for name, module in MODULES.items()]
    scripts += [(name, f"candidates.py {name}", x, x.file) for name, x in COMPARISONS.items()]
    made = {}
    for name, arguments, script, file in scripts:
        command, found = f"`python benchmarks/{arguments}`", rows.read_table(results / file.name)
        made[name] = f"Not measured yet: {command}."
        if found:
            made[name] = f"{script.table(found)}\n\n{command}. {script.origin(found)}"
    return made


def save(figure: Figure, path: Path) -> None:
    """Write a figure; the same rows give the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})


def filled(page: str, made: dict[str, str]) -> str:
    """Put sections between their markers.

    Raises:
        ValueError: If a section has no place in the page.
    """
    for name, text in made.items():
        place = re.compile(rf"(<!-- report: {name} -->\n).*?(<!-- end of {name} -->)", re.S)
        page, n = place.subn(lambda m, text=text: f"{m[1]}\n{text}\n\n{m[2]}", page)
        if n != 1:
            raise ValueError(
                f"The page must have one `<!-- report: {name} -->` and its `<!-- end of {name} "
                f"-->`, but it has {n}. Write them where the section belongs."
            )
    return page


if __name__ == "__main__":
    sys.exit(main())
