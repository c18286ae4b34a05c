"""Tables of `docs/benchmarks.md`, in Markdown, of rows alone."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from experiments import (
    ABLATION_STEPS,
    CAR,
    EARLY,
    EARLY_STEP,
    EXPLORATION,
    OURS,
    RANDOM,
    WALKER,
    label,
)
from rows import Row
from scores import (
    LEARNT,
    THRESHOLDS,
    final,
    first_pass,
    grouped,
    interval,
    iqm,
    middle,
    milestone,
    minutes,
    normalised,
    on_one_machine,
    runs,
    to_milestone,
    to_step,
    whole,
    worst_after,
)

NONE = "-"


def per_seed(rows: Iterable[Row]) -> str:
    """A line a seed, and one variant's medians: what the last policy reaches, when it first did.

    Nothing if no run has come to its end.
    """
    found = runs(whole(rows))
    if not found:
        return ""
    head = ["seed", "final, 100 episodes", "its worst", "falls"]
    head += [f"first ≥ {t}" for t in THRESHOLDS]
    head += [f"worst after {LEARNT}", f"minutes to {THRESHOLDS[-1]}", "steps", "minutes"]
    lines = []
    for run in found:
        last = final(run)
        passes = [first_pass(run, t) for t in THRESHOLDS]
        lines.append(
            [
                ", ".join(filter(None, [last.variant, str(last.seed)])),
                f"{last.mean:.1f} ± {last.std:.1f}",
                f"{min(last.returns):.1f}",
                NONE if last.falls is None else str(last.falls),
                *(_whole(p and p.step) for p in passes),
                _tenths(worst_after(run, LEARNT)),
                _tenths(passes[-1] and minutes(passes[-1])),
                _whole(last.step),
                f"{minutes(last):.1f}",
            ]
        )
    if len({run[0].variant for run in found}) == 1:
        lines.append(_medians(found))
    return markdown(head, lines)


def per_seed_on_the_way(rows: Sequence[Row]) -> str:
    """The same twice, where runs have a milestone: as if they had ended there, and at their end."""
    times = [to_milestone(rows)] if any(map(milestone, runs(rows))) else []
    return "\n\n".join(filter(None, map(per_seed, [*times, rows])))


def _medians(found: Sequence[Sequence[Row]]) -> list[str]:
    steps = [middle(_step(run, t) for run in found) for t in THRESHOLDS]
    slowest = middle(_minutes(run, THRESHOLDS[-1]) for run in found)
    return [
        "median",
        _tenths(middle(final(run).mean for run in found)),
        "",
        _whole(middle(final(run).falls for run in found)),
        *map(_whole, steps),
        "",
        _tenths(slowest),
        "",
        _tenths(middle(minutes(final(run)) for run in found)),
    ]


def per_method(rows: Iterable[Row]) -> str:
    """A line a method: medians over its seeds of score, steps and minutes to each threshold.

    Without minutes where runs are of several machines.
    """
    return _compared("method", rows, lambda row: label(row.method))


def per_variant(rows: Iterable[Row]) -> str:
    """A line a variant, likewise."""
    return _compared("variant", rows, _variant)


def per_ablation(rows: Iterable[Row]) -> str:
    """A line a variant, as if all runs had ended after as many steps."""
    return per_variant(to_step(rows, ABLATION_STEPS))


def per_clock(rows: Iterable[Row]) -> str:
    """A line a method: medians over its seeds of speed, and minutes to each threshold."""
    head = ["method", "seeds", "steps/s", *(f"minutes to {t}" for t in THRESHOLDS)]
    lines = []
    for name, own in grouped(rows, lambda row: label(row.method)).items():
        found = runs(own)
        speed = middle(run[-1].step / run[-1].training_seconds for run in found)
        passed = (_passed(found, t, _minutes, _tenths) for t in THRESHOLDS)
        lines.append([name, str(len(found)), _whole(speed), *passed])
    return markdown(head, lines)


def _variant(row: Row) -> str:
    return row.variant or "the default"


def _compared(what: str, rows: Iterable[Row], key: Callable[[Row], str]) -> str:
    rows = list(rows)
    clock = THRESHOLDS if on_one_machine(rows) else ()
    head = [what, "seeds", "final, median", "worst and best seed", "falls"]
    head += [f"steps to {t}" for t in THRESHOLDS]
    head += [f"minutes to {t}" for t in clock] + [f"worst after {LEARNT}"]
    lines = []
    for name, own in grouped(rows, key).items():
        found = runs(own)
        ends = [final(run).mean for run in found]
        worst = [x for run in found if not math.isnan(x := worst_after(run, LEARNT))]
        lines.append(
            [
                name,
                str(len(found)),
                _tenths(middle(ends)),
                f"{min(ends):.1f}, {max(ends):.1f}",
                _whole(middle(final(run).falls for run in found)),
                *(_passed(found, t, _step, _whole) for t in THRESHOLDS),
                *(_passed(found, t, _minutes, _tenths) for t in clock),
                _tenths(min(worst, default=None)),
            ]
        )
    return markdown(head, lines)


def _passed(
    found: Sequence[Sequence[Row]],
    threshold: float,
    measure: Callable[[Sequence[Row], float], float | None],
    text: Callable[[float | None], str],
) -> str:
    """The median over seeds, and how many passed where not all did."""
    each = [measure(run, threshold) for run in found]
    passed = sum(x is not None for x in each)
    return text(middle(each)) + f" ({passed} of {len(each)})" * (0 < passed < len(each))


def per_task(rows: Iterable[Row]) -> str:
    """A line a task: each method's interquartile mean over seeds and its interval; then all tasks.

    The last line is in scores in which the random policy has 0 and the task's best method 1, over
    the seeds that every task has.
    """
    scores = _ends(whole(rows))
    tasks = list(dict.fromkeys(task for task, _ in scores))
    methods = [m for m in dict.fromkeys(method for _, method in scores) if m != RANDOM]
    methods.sort(key=lambda m: m != OURS)
    lines = []
    for task in tasks:
        own = [scores.get((task, m)) for m in methods]
        digits = _digits(own)
        line = [_with_interval(found, digits) for found in own]
        lines.append([task, *line, _random(scores, task, digits)])
    units = {task: _unit(scores, task, methods) for task in tasks}
    together = [_with_interval(_matrix(scores, m, units), 2) for m in methods]
    lines.append(["all, normalised", *together, "0"])
    return markdown(["task", *map(label, methods), "random"], lines)


def per_task_early(rows: Iterable[Row]) -> str:
    """The same at an evaluation on the way, where also runs that were stopped later have one."""
    scores = _ends(to_step((row for row in rows if row.task in EARLY), EARLY_STEP))
    methods = list(dict.fromkeys(method for _, method in scores))
    lines = [[task, *(_of_seeds(scores.get((task, m))) for m in methods)] for task in EARLY]
    return markdown([f"task, {EARLY_STEP:,} steps", *map(label, methods)], lines)


def per_noise(rows: Iterable[Row]) -> str:
    """What colours of noise come to: on the walker after as many steps as the others, and the car.

    The default's runs are those of `walker` and `tasks`.
    """
    tasks = grouped(rows, lambda row: row.task)
    walks = tasks.get(WALKER, [])
    default = to_step((row for row in walks if not row.variant), EXPLORATION[WALKER][0])
    drives = whole(tasks.get(CAR, []))
    lines = [
        [variant, str(len(ends)), _with_interval(np.array([row.mean for row in ends]), 1)]
        for variant, ends in grouped(map(final, runs(drives)), _variant).items()
    ]
    others = [row for row in walks if row.variant]
    walked = [per_variant([*default, *others])] if others else []
    return "\n\n".join([*walked, markdown(["variant", "seeds", CAR], lines)])


def origin(rows: Sequence[Row]) -> str:
    """One line on where rows come from: machine, commits, versions."""
    machines = sorted({f"{row.cpu}, {row.cores} core{'s' * (row.cores > 1)} each" for row in rows})
    commits = sorted({row.commit for row in rows if row.commit})
    versions = sorted({part for row in rows for part in _pairs(row.versions)})
    return f"{'; '.join(machines)}. Commit {', '.join(commits) or NONE}. {', '.join(versions)}."


def _pairs(versions: str) -> list[str]:
    words = versions.split()
    return [f"{name} {version}" for name, version in zip(words[::2], words[1::2], strict=True)]


def _ends(rows: Iterable[Row]) -> dict[tuple[str, str], np.ndarray]:
    """Each method's final means on each task, of runs that all have one."""
    ends = [final(run) for run in runs(rows)]
    return {
        key: np.array([row.mean for row in own])
        for key, own in grouped(ends, lambda row: (row.task, row.method)).items()
    }


def _unit(
    scores: dict[tuple[str, str], np.ndarray], task: str, methods: Sequence[str]
) -> tuple[float, float] | None:
    """The random policy's score and the best method's; None where one is missing."""
    zero = scores.get((task, RANDOM))
    best = [iqm(scores[task, m]) for m in methods if (task, m) in scores]
    return (iqm(zero), max(best)) if zero is not None and best else None


def _matrix(
    scores: dict[tuple[str, str], np.ndarray],
    method: str,
    units: dict[str, tuple[float, float] | None],
) -> np.ndarray | None:
    """A method's normalised scores, `[runs tasks]`; None where a task is missing."""
    columns = [
        normalised(scores[task, method], *unit)
        for task, unit in units.items()
        if unit is not None and (task, method) in scores
    ]
    if len(columns) < len(units):
        return None
    shortest = min(map(len, columns))
    return np.stack([column[:shortest] for column in columns], axis=1)


def _with_interval(scores: np.ndarray | None, digits: int) -> str:
    if scores is None:
        return NONE
    middle_ = f"{iqm(scores.ravel()):,.{digits}f}"
    if len(scores) < 2:
        return f"{middle_} (one seed)"
    low, high = interval(scores if scores.ndim == 2 else scores[:, None])
    return f"{middle_} [{low:,.{digits}f}, {high:,.{digits}f}]"


def _digits(scores: Iterable[np.ndarray | None]) -> int:
    """After the point: one where all scores are below 100."""
    return int(all(np.abs(found).max() < 100 for found in scores if found is not None))


def _of_seeds(scores: np.ndarray | None) -> str:
    text = _with_interval(scores, 0)
    return text if scores is None or len(scores) < 2 else f"{text} of {len(scores)}"


def _random(scores: dict[tuple[str, str], np.ndarray], task: str, digits: int) -> str:
    found = scores.get((task, RANDOM))
    return NONE if found is None else f"{iqm(found):,.{digits}f}"


def _step(run: Sequence[Row], threshold: float) -> float | None:
    passed = first_pass(run, threshold)
    return None if passed is None else passed.step


def _minutes(run: Sequence[Row], threshold: float) -> float | None:
    passed = first_pass(run, threshold)
    return None if passed is None else minutes(passed)


def _whole(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def _tenths(value: float | None) -> str:
    return NONE if value is None or math.isnan(value) else f"{value:,.1f}"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Write a table."""
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *lines])
