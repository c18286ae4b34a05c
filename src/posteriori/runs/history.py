"""What runs left to be shown: records and rows, and which runs belong together."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posteriori.runs.folder import RunFolder
from posteriori.runs.sinks import read_rows

# Settings that say how long and how closely a run is looked at, not how it learns.
INCIDENTAL = {
    "seed",
    "steps",
    "evaluate_every",
    "evaluate_episodes",
    "final_episodes",
    "checkpoint_every",
    "video_every",
    "video_overlay",
    "pictures",
}


@dataclass(frozen=True)
class History:
    """A run's record and its rows."""

    name: str
    env: str
    settings: dict[str, Any]
    rows: list[dict[str, Any]]

    def series(self, metric: str) -> tuple[NDArray, NDArray]:
        """Return the steps at which a metric was reported, and its values."""
        pairs = [(row["step"], row[metric]) for row in self.rows if metric in row]
        steps, values = zip(*pairs, strict=True) if pairs else ((), ())
        finite = np.isfinite(np.asarray(values, float))
        return np.asarray(steps, float)[finite], np.asarray(values, float)[finite]

    def has(self, metric: str) -> bool:
        """Whether a metric was ever reported."""
        return any(metric in row for row in self.rows)

    @property
    def group(self) -> str:
        """What runs that learn alike, but for their seed, share."""
        rest = {k: v for k, v in self.settings.items() if k not in INCIDENTAL}
        return json.dumps([self.env, rest], sort_keys=True)


def read_history(run: Path) -> History:
    """Read a run's record and metrics.

    Raises:
        FileNotFoundError: it is no run's folder, or there are no metrics yet.
        ValueError: a file cannot be read.
    """
    folder = RunFolder.open(run)
    record = folder.read_record()
    if not folder.metrics.is_file() or not (rows := read_rows(folder.metrics)):
        raise FileNotFoundError(
            f"{folder.metrics} must hold the run's metrics, but there are none yet. "
            "Wait for the run's first 1,000 steps."
        )
    return History(folder.path.name, record["env"], record["settings"], rows)


def grouped(histories: Sequence[History]) -> dict[str, list[History]]:
    """Group runs that differ only in their seed, under labels that tell the groups apart."""
    if not histories:
        raise ValueError("There must be a run to plot, but none was given. Name a run's folder.")
    groups: dict[str, list[History]] = {}
    for history in histories:
        groups.setdefault(history.group, []).append(history)
    settings = [flat(members[0].settings) for members in groups.values()]
    differ = [key for key in differences(settings) if key not in INCIDENTAL]
    several_envs = len({members[0].env for members in groups.values()}) > 1
    labelled: dict[str, list[History]] = {}
    for own, members in zip(settings, groups.values(), strict=True):
        parts = [members[0].env] if several_envs or not differ else []
        parts += [f"{key}={own[key]}" for key in differ if key in own][:3]
        label = ", ".join(parts) or members[0].name
        label = label if label not in labelled else f"{label} ({members[0].name})"
        labelled[label] = members
    return labelled


def differences(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of settings that do not have one value in all."""
    names = dict.fromkeys(name for own in settings for name in own)
    missing = object()
    values = {name: {repr(own.get(name, missing)) for own in settings} for name in names}
    return [name for name in names if len(values[name]) > 1]


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings without nesting: the algorithm's beside the run's."""
    found = {}
    for key, value in settings.items():
        found |= flat(value) if isinstance(value, dict) else {key: value}
    return found
