"""The state of a training loop, into a checkpoint and out of it."""

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from posteriori.runs import checkpoint
from posteriori.runs.arrays import flatten, unflatten
from posteriori.runs.assemble import describe
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.config import fingerprint
from posteriori.runs.evaluate import Evaluation
from posteriori.runs.notices import warn
from posteriori.runs.restoring import Saved
from posteriori.runs.sinks import mark

if TYPE_CHECKING:
    from posteriori.runs.loop import Loop


def save(loop: "Loop") -> None:
    """Write a checkpoint, and remove those that are older than the newest few.

    Raises:
        CheckpointError: If the disk refuses it; older checkpoints are as they were.
        FloatingPointError: If an array is not finite.
    """
    path = loop.folder.checkpoints
    folder = path / f"{loop.steps:010d}"
    links, rows = loop.segments.links(), loop.segments.rows(loop.steps)
    parts = {
        "policy": flatten(loop.actor()),
        "learner": flatten(loop.learner.state),
        "gathering": loop.gathering.arrays(),
        **loop.best_policy,
        **rows,
    }
    sums = checkpoint.write(folder, parts, _meta(loop), links)
    loop.segments.written(folder, sums, rows)
    checkpoint.retain(path, folder, loop.config.keep_checkpoints)


def restore(loop: "Loop", saved: Saved, seed: int) -> None:
    """Go on from a checkpoint; unfinished episodes are closed as truncated.

    Args:
        loop: A new one, of the run's settings.
        saved: The checkpoint.
        seed: Of the environments from here on.

    Raises:
        CheckpointError: If it is of another environment or of other settings.
    """
    parts, meta = saved.parts, saved.meta
    if meta["spaces"] != _spaces(loop):
        raise CheckpointError(
            f"{loop.name} must have the spaces of the run's environment, {meta['spaces']!r:.200}, "
            f"but it has {_spaces(loop)!r:.200}. Continue a run with its own environment."
        )
    had, has = meta.get("preferences", {}), _preferences(loop)
    if had != has:
        raise CheckpointError(
            f"a run must go on with its own preferences (name and epsilon), {had}, but it has "
            f"{has}. Pass them to resume(..., preferences=...)."
        )
    loop.learner.restore(unflatten(loop.learner.state, parts["learner"]))
    loop.gathering.restore(parts["gathering"])
    if not loop.segments.restore(saved.folder, meta["parts"], parts):
        replay = loop.gathering.replay
        held = int(np.minimum(replay.added, replay.share).sum())
        warn(f"rows of replay in {saved.folder} are damaged: the newest {held:,} are kept.")
    loop.gathering.interrupt(seed)
    loop.steps, loop.episodes, loop.seconds = meta["steps"], meta["episodes"], meta["seconds"]
    loop.evaluated = meta["evaluated"]
    if meta["best"] and "best" in parts:
        loop.best = Evaluation.from_json(meta["best"])
        loop.best_policy = {"best": parts["best"]}


def _meta(loop: "Loop") -> dict[str, Any]:
    return {
        "env": loop.name,
        "steps": loop.steps,
        "episodes": loop.episodes,
        "seconds": time.perf_counter() - loop.began,
        "evaluated": loop.evaluated,
        "best": loop.best.to_json() if loop.best else None,
        "spaces": _spaces(loop),
        "preferences": _preferences(loop),
        "settings": fingerprint(loop.config),
        "metrics": mark(loop.folder.metrics),
    }


def _preferences(loop: "Loop") -> dict[str, float]:
    return {name: preference.epsilon for name, preference in loop.learner.actions.own}


def _spaces(loop: "Loop") -> dict[str, Any]:
    return describe(loop.envs.single_observation_space, loop.envs.single_action_space)
