"""Figures of `docs/benchmarks.md`, of rows alone."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from experiments import (
    BOUNDS,
    CENTRES,
    FACTORS,
    OURS,
    PERIODS,
    RANDOM,
    grid_point,
    label,
    point,
)
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, MaxNLocator
from rows import Row
from scores import (
    THRESHOLDS,
    band,
    curve,
    final,
    grouped,
    minutes,
    on_one_machine,
    runs,
    whole,
)

from posteriori import PRESETS
from posteriori.runs.plot import COLOURS, FAINT, INK

BLUE = COLOURS[0]
RETURN = 320.0  # of the walker, about the best
LEGEND, HANDLE = 150, 7  # the width of a figure in letters, and that of a line's sample
# A colour an algorithm, a style an implementation.
ALGORITHMS: dict[str, str] = dict(
    zip(("sac", "tqc", "crossq", "ppo", "trpo", "mpo"), COLOURS[1:], strict=True)
)
STYLES = {"sbx": "-", "sb3": "--", "rlox": ":"}


def compared(rows: Iterable[Row], thresholds: Sequence[float] = THRESHOLDS) -> Figure:
    """Learning curves of methods or variants: over steps and over the wall-clock of training.

    Without the wall-clock where runs are of several machines.
    """
    rows = list(rows)
    groups = grouped(rows, lambda row: (row.method, row.variant))
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    overs = [lambda row: row.step, minutes][: 1 + on_one_machine(rows)]
    panels = figure.subplots(1, len(overs), sharey=True, squeeze=False).ravel()
    for axes, over in zip(panels, overs, strict=True):
        for (method, variant), own in groups.items():
            _curves(axes, runs(own), over, method, variant)
        for threshold in thresholds:
            axes.axhline(threshold, color=FAINT, lw=0.8, zorder=0)
    _dress(panels[0], "Return of greedy episodes", "environment steps")
    for axes in panels[1:]:
        _dress(axes, "The same over the wall-clock", "minutes of training, evaluations left out")
        axes.xaxis.set_major_formatter("{x:.0f}")
    _legend(figure)
    return figure


def each_task(rows: Iterable[Row]) -> Figure:
    """Learning curves of methods, a panel a task; of stopped runs where no other is."""
    rows = [row for row in rows if row.method != RANDOM]
    tasks = grouped(rows, lambda row: row.task)
    figure = Figure(figsize=(10, 3.6 * math.ceil(len(tasks) / 2)), layout="constrained")
    panels = figure.subplots(math.ceil(len(tasks) / 2), 2, squeeze=False).ravel()
    for axes, (task, own) in zip(panels, tasks.items(), strict=False):
        for method, mine in grouped(own, lambda row: row.method).items():
            _curves(axes, runs(whole(mine) or mine), lambda row: row.step, method)
        _dress(axes, task, "environment steps")
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)  # tasks may differ in their seeds
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    return figure


def seeds(rows: Iterable[Row]) -> Figure:
    """A learning curve a seed."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for look, run in zip(_looks(), runs(rows), strict=False):
        last = run[-1]
        end = f"{last.mean:.1f} at the end" if last.final else f"stopped at {last.step:,}"
        name = f"{last.variant} seed {last.seed}, {end}".strip()
        axes.plot(*curve(run, lambda row: row.step), lw=1.4, label=name, **look)
    _dress(axes, "Return of greedy episodes", "environment steps")
    axes.legend(loc="lower right", frameon=False, fontsize=8, labelcolor=INK)
    return figure


def sigma(rows: Iterable[Row]) -> Figure:
    """The policy's standard deviation over training, a panel a dimension, a line a seed."""
    found = [[row for row in run if row.sigma] for run in runs(rows)]
    dimensions = len(found[0][-1].sigma)
    figure = Figure(figsize=(2.6 * dimensions, 3.2), layout="constrained")
    panels = figure.subplots(1, dimensions, sharey=True, squeeze=False).ravel()
    for i, axes in enumerate(panels):
        for look, run in zip(_looks(), found, strict=False):
            steps, values = [row.step for row in run], [row.sigma[i] for row in run]
            axes.plot(steps, values, lw=1.2, label=f"seed {run[0].seed}", **look)
        _dress(axes, f"action {i}", "environment steps")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("σ, half action ranges", fontsize=9, color=INK)
    _legend(figure)
    return figure


def epsilon(rows: Iterable[Row]) -> Figure:
    """Final return over each bound and the target period; today's default is framed."""
    cells = grouped(rows, lambda row: row.variant)
    ends = {v: float(np.mean([final(r).mean for r in runs(own)])) for v, own in cells.items()}
    presets = [p for p in CENTRES if any(v.split()[0] == p for v in cells)]
    figure = Figure(figsize=(10, 2.9 * len(presets)), layout="constrained")
    panels = figure.subplots(len(presets), len(BOUNDS), squeeze=False)
    for (preset, line), (column, bound) in product(
        zip(presets, panels, strict=True), enumerate(BOUNDS)
    ):
        axes, centre = line[column], CENTRES[preset]
        grid = np.array([[_end(ends, preset, bound, f, p) for f in FACTORS] for p in PERIODS])
        axes.imshow(grid, vmin=0, vmax=RETURN, cmap="cividis", origin="lower", aspect="auto")
        _annotate(axes, grid, RETURN / 2)
        axes.set_title(f"{preset}: {bound}", loc="left", fontsize=10, color=INK)
        axes.set_xticks(range(len(FACTORS)), [f"{centre[bound] * f:.2g}" for f in FACTORS])
        axes.set_yticks(range(len(PERIODS)), [f"{centre['target_period'] * p:g}" for p in PERIODS])
        axes.tick_params(labelsize=8)
        axes.set_ylabel("target period, updates", fontsize=9, color=INK)
        for y, x in np.ndindex(grid.shape):
            if _is_default(point(preset, bound, FACTORS[x], PERIODS[y]), preset):
                frame = Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=COLOURS[1], lw=2.5)
                axes.add_patch(frame)
    note = "return of greedy episodes at the end"
    figure.colorbar(panels[0, 0].images[0], ax=panels, label=note)
    return figure


def _is_default(at: Mapping[str, float], preset: str) -> bool:
    """Whether a point of the grid is the preset of today, to the grid's own rounding."""
    mpo = PRESETS[preset].mpo
    return all(abs(math.log(value / getattr(mpo, name))) < 0.1 for name, value in at.items())


def _end(ends: dict[str, float], preset: str, bound: str, factor: float, period: float) -> float:
    return ends.get(grid_point(preset, bound, factor, period), math.nan)


def _annotate(axes: Axes, grid: np.ndarray, half: float) -> None:
    for (y, x), value in np.ndenumerate(grid):
        text, colour = f"{value:.0f}", "white" if value < half else "black"
        if math.isnan(value):
            text, colour = "not run", "gray"
        axes.text(x, y, text, ha="center", va="center", fontsize=8, color=colour)


def _curves(
    axes: Axes,
    found: Sequence[Sequence[Row]],
    over: Callable[[Row], float],
    method: str,
    variant: str = "",
) -> None:
    """Draw the median of runs and the band between their quartiles."""
    curves = [c for c in (curve(run, over) for run in found) if len(c[0])]
    if not curves:
        return
    grid, low, mid, high = band(curves)
    name = f"{variant or label(method)}, {len(curves)} seed{'s' * (len(curves) > 1)}"
    colour, style, width = _look(method)
    if variant:  # a colour each, as they come
        colour, width = COLOURS[1 + len(axes.lines) % (len(COLOURS) - 1)], 1.8
    axes.fill_between(grid, low, high, color=colour, alpha=0.15, lw=0)
    axes.plot(grid, mid, style, color=colour, lw=width, label=name)


def _look(method: str) -> tuple[str, str, float]:
    if method == OURS:
        return BLUE, "-", 2.6
    package, _, algorithm = method.partition("-")
    return ALGORITHMS.get(algorithm, INK), STYLES.get(package, "-"), 1.3


def _dress(axes: Axes, title: str, below: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.set_xlabel(below, fontsize=9, color=INK)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(color=FAINT, labelcolor=INK, labelsize=9)
    axes.set_axisbelow(True)


def _legend(figure: Figure) -> None:
    """Name once what the panels show."""
    shown: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        shown |= zip(labels, handles, strict=True)
    longest = max(map(len, shown), default=0)
    figure.legend(
        list(shown.values()),
        list(shown),
        loc="outside lower center",
        ncols=max(1, min(5, LEGEND // (longest + HANDLE))),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )


def _looks() -> list[dict[str, Any]]:
    """Tell seeds apart: colours, then the same ones dashed, then dotted."""
    return [{"color": c, "linestyle": s} for s in ("-", "--", ":") for c in COLOURS]
