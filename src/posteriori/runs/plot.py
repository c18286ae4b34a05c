"""Learning curves of one or more runs, in one figure: return, exploration and trust regions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from posteriori.runs.history import History, grouped, read_history

# Okabe and Ito's colours, which colour-blind readers tell apart; yellow is too light for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", ":")  # of trust regions
INK, FAINT = "#333333", "#dddddd"


def plot(runs: Sequence[Path | str], out: Path | str) -> Path:
    """Draw the learning curves of runs.

    Runs that differ only in their seed share a colour and get a median.

    Args:
        runs: Folders of runs.
        out: Of the figure; the suffix chooses the format, such as .png, .svg or .pdf.

    Raises:
        FileNotFoundError: a folder holds no run, or no metrics.
        ValueError: there is no run, no row, or the format is unknown.
    """
    out = Path(out)
    known = FigureCanvasAgg.get_supported_filetypes()
    if out.suffix[1:].lower() not in known:
        raise ValueError(
            f"--out must end in a format of figures ({', '.join(sorted(known))}), but it is {out}. "
            "Name it curves.png, for example."
        )
    groups = grouped([read_history(Path(run)) for run in runs])
    figure = draw(groups)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    return out


def draw(groups: dict[str, list[History]]) -> Figure:
    """Draw groups of runs."""
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    top, left, right = figure.subplot_mosaic(
        [["return", "return"], ["spread", "kl"]], height_ratios=[2.1, 1]
    ).values()
    for colour, (label, members) in zip(_cycle(len(groups)), groups.items(), strict=True):
        _draw_returns(top, members, label, colour)
        _draw_spread(left, members, colour)
        _draw_regions(right, members, colour)
    _dress(figure, groups, top, left, right)
    return figure


def _draw_returns(axes: Axes, members: list[History], label: str, colour: str) -> None:
    alone = len(members) == 1
    curves = [member.series("evaluation/mean") for member in members]
    for member, (steps, mean) in zip(members, curves, strict=True):
        look = {"lw": 2, "alpha": 1} if alone else {"lw": 0.9, "alpha": 0.5}
        _line(axes, steps, mean, "-", color=colour, **look)
        if alone:
            axes.plot(
                *smooth(*member.series("rollout/return"), 120), color=colour, alpha=0.3, lw=0.8
            )
            _, low = member.series("evaluation/min")
            _, high = member.series("evaluation/max")
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
    if alone:
        axes.plot([], [], color=colour, lw=2, label=_with_last(label, *curves[0]))
    else:
        steps, middle = median(curves)
        axes.plot(steps, middle, color=colour, lw=2.4)
        text = _with_last(f"{label}, median of {len(members)} runs", steps, middle)
        axes.plot([], [], color=colour, lw=2.4, label=text)


def _draw_spread(axes: Axes, members: list[History], colour: str) -> None:
    for member in members:
        for metric, style in (("sigma", "-"), ("entropy", "--")):
            _line(axes, *member.series(metric), style, color=colour, lw=1.3)


def _draw_regions(axes: Axes, members: list[History], colour: str) -> None:
    for member in members:
        for style, region in zip(STYLES, regions(member), strict=False):
            series = smooth(*member.series(f"kl/{region}"), 40)
            _line(axes, *series, style, color=colour, lw=1.1)


def _line(axes: Axes, steps: NDArray, values: NDArray, style: str, **look: Any) -> None:
    """Draw a line; a single value, which a line does not show, as a point."""
    lone = {"marker": "o", "ms": 4, "clip_on": False} if len(steps) == 1 else {}
    axes.plot(steps, values, style, **look, **lone)


def _dress(
    figure: Figure, groups: dict[str, list[History]], top: Axes, left: Axes, right: Axes
) -> None:
    members = [member for group in groups.values() for member in group]
    envs = list(dict.fromkeys(member.env for member in members))
    figure.suptitle(", ".join(envs), x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    several = any(len(group) > 1 for group in groups.values())
    note = "line: greedy evaluation, shade: its worst and best episode, faint: training episodes"
    note = "greedy evaluation; thick: median of seeds, thin: each run" if several else note
    _title(top, "Return of an episode", note)
    units = {"sigma": "mean sigma, half action ranges", "entropy": "entropy (dashed), nats"}
    shown = [unit for kind, unit in units.items() if any(member.has(kind) for member in members)]
    _title(left, "Exploration", "; ".join(shown))
    _title(right, "Trust regions", "KL / its bound")
    right.axhline(1, color=INK, lw=0.8, zorder=1)
    left.set_ylim(bottom=0)
    right.set_ylim(bottom=0)
    for axes in (top, left, right):
        axes.set_xlim(left=0)
        axes.margins(x=0)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.grid(axis="y", color=FAINT, lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(color=FAINT, labelcolor=INK, labelsize=9)
        axes.set_xlabel("environment steps", fontsize=9, color=INK)
    top.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)
    for style, region in zip(STYLES, regions(members[0]), strict=False):
        right.plot([], [], style, color=INK, lw=1.1, label=region)
    if regions(members[0]):
        right.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK, ncols=3)


def _title(axes: Axes, title: str, note: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.set_title(note, loc="right", fontsize=8.5, color="#777777")


def regions(history: History) -> list[str]:
    """Return the names of a run's trust regions."""
    names = [name.split("/")[1] for row in history.rows for name in row if name.startswith("kl/")]
    return list(dict.fromkeys(names))


def median(curves: Sequence[tuple[NDArray, NDArray]]) -> tuple[NDArray, NDArray]:
    """Return the median at the steps that all curves have."""
    shared = curves[0][0]
    for steps, _ in curves[1:]:
        shared = np.intersect1d(shared, steps)
    columns = [dict(zip(steps, values, strict=True)) for steps, values in curves]
    middle = [np.median([column[step] for column in columns]) for step in shared]
    return shared, np.asarray(middle, float)


def smooth(steps: NDArray, values: NDArray, points: int) -> tuple[NDArray, NDArray]:
    """Average neighbours, so that a curve has no more points than a reader can see."""
    if len(values) <= points:
        return steps, values
    means = [[part.mean() for part in np.array_split(x, points)] for x in (steps, values)]
    return np.asarray(means[0]), np.asarray(means[1])


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _with_last(label: str, steps: NDArray, values: NDArray) -> str:
    return f"{label}: {values[-1]:,.1f} at {steps[-1]:,.0f}" if len(values) else label
