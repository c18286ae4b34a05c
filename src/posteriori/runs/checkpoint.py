"""Checkpoints: folders of plain arrays (safetensors) and JSON, never pickled.

    checkpoints/0000020000/  of a step: policy, learner, replay, gathering (.safetensors), meta.json
    checkpoints/best/        of the best evaluation: policy (.safetensors), meta.json

A folder is complete when it has its name: it is written as `.writing-...` beside it. `latest` keeps
the newest one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

FORMAT = 1
Arrays = dict[str, NDArray]


_UNREADABLE = (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError)


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: what is wrong with it, and what to do."""


def write(folder: Path, parts: Mapping[str, Arrays], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint so that `folder` either holds all of it or what it held before.

    Args:
        folder: Where; what is there is replaced.
        parts: Arrays by file name, without the suffix.
        meta: JSON values that go with them.

    Raises:
        CheckpointError: If the disk refuses it.
        FloatingPointError: If an array is not finite; a good checkpoint is not replaced by it.
    """
    _refuse_non_finite(parts)
    aside = folder.with_name(f".writing-{folder.name}-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        digests = {}
        for part, arrays in parts.items():
            path = aside / f"{part}.safetensors"
            save_file({k: np.asarray(v, order="C") for k, v in arrays.items()}, path)
            digests[part] = _sync_and_digest(path)
        text = json.dumps({"format": FORMAT, "sha256": digests, **meta}, indent=2)
        (aside / "meta.json").write_text(text)
        _sync_and_digest(aside / "meta.json")
        old = folder.with_name(f".old-{folder.name}-{os.getpid()}")
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(
            f"the checkpoint {folder} must be writable, but: {error}. "
            "Free space or mend the permissions; older checkpoints are untouched."
        ) from error


def read(folder: Path, only: str | None = None) -> tuple[dict[str, Arrays], dict[str, Any]]:
    """Read a checkpoint's parts (or only one) and meta, every file verified by its checksum.

    Raises:
        CheckpointError: If a file is missing, changed or of another format.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if meta["format"] != FORMAT:
            raise CheckpointError(
                f"{folder} must be a checkpoint of format {FORMAT}, but it is of format "
                f"{meta['format']}. Use the version of posteriori in the run's config.json."
            )
        parts = {}
        for part in [only] if only else meta["sha256"]:
            digest = meta["sha256"][part]
            path = folder / f"{Path(part).name}.safetensors"
            if _digest(path) != digest:
                raise CheckpointError(
                    f"{path} must have the checksum of its meta.json, but it differs. "
                    "The file is damaged: use another checkpoint."
                )
            parts[part] = load_file(path)
    except (*_UNREADABLE, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} must be a complete checkpoint, but: {type(error).__name__}: {error}. "
            "Use another one."
        ) from error
    return parts, meta


def latest(checkpoints: Path) -> Path:
    """Return the newest checkpoint of a run.

    Raises:
        CheckpointError: If there is none.
    """
    steps = sorted(p for p in checkpoints.glob("*") if p.name.isdigit())
    if not steps:
        raise CheckpointError(
            f"{checkpoints} must hold a checkpoint, but there is none. "
            "The run ended before its first one: train it again."
        )
    return steps[-1]


def keep_only(checkpoints: Path, newest: Path) -> None:
    """Remove a run's checkpoints of other steps, and what an interrupted write left."""
    for path in checkpoints.glob("*"):
        if path != newest and (path.name.isdigit() or path.name.startswith(".")):
            shutil.rmtree(path)


def flatten(tree: PyTree) -> Arrays:
    """Return a pytree's arrays by their paths; PRNG keys as their data."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))
    return {jax.tree_util.keystr(path): np.asarray(_data(leaf)) for path, leaf in leaves}


def unflatten(template: PyTree, arrays: Arrays) -> PyTree:
    """Return the template with its arrays replaced.

    Raises:
        CheckpointError: If an array is missing or has another shape or dtype; the message names it.
    """

    def pick(path: tuple, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path)
        want = _data(leaf)
        have = arrays.get(name)
        if have is None or have.shape != want.shape or have.dtype != want.dtype:
            given = "it is missing" if have is None else f"it is {have.dtype}{list(have.shape)}"
            raise CheckpointError(
                f"{name} must be {want.dtype}{list(want.shape)}, but {given}. "
                "Load the checkpoint with the settings that it was trained with."
            )
        value = jax.numpy.asarray(have)
        is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.wrap_key_data(value) if is_key else value

    return jax.tree_util.tree_map_with_path(pick, template)


def rng_to_array(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a NumPy generator's state as bytes (JSON, since its integers have 128 bits)."""
    return np.frombuffer(json.dumps(rng.bit_generator.state).encode(), np.uint8)


def rng_from_array(array: NDArray[np.uint8]) -> np.random.Generator:
    """Return the generator of a state."""
    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(array.tobytes())
    return rng


def _refuse_non_finite(parts: Mapping[str, Arrays]) -> None:
    for part, arrays in parts.items():
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise FloatingPointError(
                    f"every array of a checkpoint must be finite, but {name} of its {part} is not."
                )


def _data(leaf: jax.Array) -> jax.Array:
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_and_digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _digest(path)
