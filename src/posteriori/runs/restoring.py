"""Which checkpoint a run goes on from: the newest that is whole, or what is left of one."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from posteriori.runs import checkpoint
from posteriori.runs.checkpoint import Arrays, CheckpointError
from posteriori.runs.segments import PREFIX


class Saved(NamedTuple):
    """A checkpoint that was read; of a damaged replay, only the parts that are sound."""

    folder: Path
    parts: dict[str, Arrays]
    meta: dict[str, Any]


def newest_saved(checkpoints: Path, settings: str) -> Saved:
    """Read the newest checkpoint that is whole; a damaged one that is passed over gets a warning.

    Checkpoints share the older rows of replay, so that one damaged file can be in all of them. Then
    the newest in which all but rows of replay is whole is read.

    Args:
        checkpoints: The run's.
        settings: The fingerprint of its settings.

    Raises:
        OtherFormat: If another version wrote it.
        CheckpointError: If there is none that can be used.
    """
    readers = [partial(read, settings=settings) for read in (_whole, _all_but_rows)]
    return checkpoint.newest_good(checkpoints, *readers)


def _whole(folder: Path, settings: str) -> Saved:
    parts, meta = checkpoint.read(folder)
    _check(folder, meta, settings)
    return Saved(folder, parts, meta)


def _all_but_rows(folder: Path, settings: str) -> Saved:
    meta = checkpoint.read_meta(folder)
    _check(folder, meta, settings)
    parts = {}
    for name in meta["parts"]:
        try:
            parts[name] = checkpoint.read_part(folder, meta, name)
        except CheckpointError:
            if not name.startswith(PREFIX):
                raise
    return Saved(folder, parts, meta)


def _check(folder: Path, meta: dict[str, Any], settings: str) -> None:
    """Refuse a checkpoint of other settings, and values that no run writes."""
    wrong = [name for name, fits in _FITS.items() if name not in meta or not fits(meta[name])]
    missing = {"policy", "learner", "gathering"} - meta["parts"].keys()
    if wrong or missing:
        raise CheckpointError(
            f"{folder / 'meta.json'} must be one that a run has written, but "
            f"{', '.join([*wrong, *sorted(missing)])} cannot be used."
        )
    if meta["settings"] != settings:
        raise CheckpointError(
            f"{folder} must be of a run with the settings of its config.json, but it is of others."
        )


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _mark(value: object) -> bool:
    return isinstance(value, dict) and _count(value.get("bytes")) and "sha256" in value


_FITS: dict[str, Callable[[Any], bool]] = {
    "steps": _count,
    "episodes": _count,
    "evaluated": _count,
    "seconds": lambda x: type(x) in (int, float) and 0 <= x < math.inf,
    "best": lambda x: x is None or isinstance(x, dict),
    "metrics": _mark,
    "spaces": lambda x: isinstance(x, dict),
    "settings": lambda x: isinstance(x, str),
}
