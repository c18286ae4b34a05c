"""One run as the page has it: curves, final episodes, warnings, videos, settings and origin."""

import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posteriori.runs.folder import RunFolder
from posteriori.runs.history import flat
from posteriori.runs.journal import read_notices
from posteriori.runs.listing import read_final
from posteriori.runs.report.thinning import kept
from posteriori.runs.sinks import read_rows
from posteriori.runs.state import read_state

DIGITS = 5  # of a number on the page: more than a plot shows
VideoSource = Callable[[Path], str]


def describe(run: Path, source: VideoSource | None) -> dict[str, Any]:
    """Return everything that the page shows of a run, as plain values.

    Args:
        run: Its folder.
        source: Makes of a video's path what the page takes it from; None leaves videos out.

    Raises:
        FileNotFoundError: it is no run's folder.
        ValueError: its record or its rows cannot be read.
    """
    folder = RunFolder.open(run)
    record, state = folder.read_record(), read_state(folder)
    rows = read_rows(folder.metrics) if folder.metrics.is_file() else []
    step = rows[-1]["step"] if rows else 0
    settings = flat(record["settings"])
    return {
        "path": str(run),
        "name": folder.path.resolve().name,
        "env": record["env"],
        "seed": settings.get("seed"),
        "state": state.name,
        "text": state.text,
        "step": step,
        "total": max(step, settings.get("steps", 0)),
        "seconds": next((_plain(r[_CLOCK]) for r in reversed(rows) if _CLOCK in r), None),
        **curves(rows),
        "final": _final(read_final(folder, rows)),
        "videos": videos(folder, source) if source else [],
        "warnings": [asdict(notice) for notice in read_notices(folder.warnings)],
        "checked": folder.warnings.is_file(),
        "command": command(record),
        "record": {
            "path": str(folder.path.resolve()),
            "started": record.get("started"),
            "settings": settings,
            "versions": record.get("versions") or {},
            "source": record.get("source"),
            "hardware": record.get("hardware") or {},
        },
    }


_CLOCK = "progress/seconds"


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each metric's values, and the steps they belong to, which most metrics share."""
    points: dict[str, tuple[list[int], list[int | float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step":
                steps, values = points.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(value)
    axes: dict[tuple[int, ...], int] = {}
    series = {}
    for name, (steps, values) in points.items():
        chosen = kept(values).tolist()  # indices of NumPy would be slow here
        axis = axes.setdefault(tuple(steps[i] for i in chosen), len(axes))
        series[name] = [axis, [_plain(values[i]) for i in chosen]]
    return {"axes": [list(axis) for axis in axes], "series": series}


def videos(folder: RunFolder, source: VideoSource) -> list[dict[str, Any]]:
    """Return the run's videos by the step they were taken at; None is its end."""
    found: list[dict[str, Any]] = [
        {"step": int(path.stem), "src": source(path)}
        for path in sorted(folder.videos.glob("*.mp4"))
        if re.fullmatch(r"\d+", path.stem)
    ]
    if folder.video.is_file():
        found.append({"step": None, "src": source(folder.video)})
    return found


def command(record: Mapping[str, Any]) -> str:
    """Return the command line that repeats a run, without the folder that it filled.

    A run that was started from Python is given as the command with all of its settings.
    """
    words = [str(word) for word in record.get("command") or []][1:]
    if words[:1] == ["train"]:
        words = _without(words, "--run-dir")
    else:
        words = ["train", record["env"], *options(record["settings"])]
    return shlex.join(["posteriori", *words])


def _without(words: list[str], option: str) -> list[str]:
    kept_words, skip = [], False
    for word in words:
        if not (skip or word == option or word.startswith(f"{option}=")):
            kept_words.append(word)
        skip = word == option and not skip
    return kept_words


def options(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as options of `posteriori train`."""
    words = []
    for name, value in flat(dict(settings)).items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            values = value if isinstance(value, list) else [value]
            words += [f"--{option}", *map(str, values)]
    return words


def _final(final: Mapping[str, Any]) -> dict[str, Any] | None:
    if not final:
        return None
    numbers = {name: _plain(final[name]) for name in ("mean", "std", "min", "max")}
    return numbers | {"returns": [_plain(value) for value in final["returns"]]}


def _plain(value: Any) -> int | float | None:
    """Return a number with few digits, so that a page of many runs stays small."""
    if type(value) is int:
        return value
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() else short
