"""Checkpoints: folders of plain arrays (safetensors) and JSON, never pickled.

    checkpoints/0000020000/  of a step: policy, best, learner, gathering, replay-... (.safetensors)
                             and meta.json with their checksums and its own

A folder is complete when it has its name: it is written as `.writing-...` beside it, flushed, and
renamed. Each one is whole in itself. Files that do not change, the older rows of replay, are not
written again: one checkpoint after the other has a hard link to them.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from posteriori.runs.folder import canonical, sync_folder
from posteriori.runs.notices import warn

FORMAT = 3  # 2 had an array of Adam's for each of the networks'
Arrays = dict[str, NDArray]
Found = TypeVar("Found")

_UNREADABLE = (
    *(OSError, KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError),
    *(AttributeError, SafetensorError),
)
_STEP = re.compile(r"[0-9]{1,18}")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: what is wrong with it, and what to do."""


class OtherFormat(CheckpointError):
    """A sound checkpoint of another version of this library."""


def write(
    folder: Path,
    parts: Mapping[str, Arrays],
    meta: Mapping[str, Any],
    links: Mapping[str, tuple[Path, str]] | None = None,
) -> dict[str, str]:
    """Write a checkpoint, whole or not at all; return the checksum of each part.

    Args:
        folder: Where; what is there is replaced.
        parts: Arrays by file name, without the suffix.
        meta: JSON values that go with them.
        links: Parts that are on the disk already, each with its file and its checksum.

    Raises:
        CheckpointError: If the disk refuses it.
        FloatingPointError: If an array is not finite; a good checkpoint is not replaced by it.
    """
    _refuse_non_finite(parts)
    files = {k: save({n: np.asarray(v, order="C") for n, v in a.items()}) for k, a in parts.items()}
    sums = {name: sha256 for name, (_, sha256) in (links or {}).items()}
    sums |= {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    written = {f"{name}.safetensors": data for name, data in files.items()}
    meta = {"format": FORMAT, "parts": sums, **meta}
    written["meta.json"] = json.dumps({**meta, "sha256": _seal(meta)}, indent=2).encode()
    aside, old = (folder.with_name(f".{word}-{folder.name}") for word in ("writing", "old"))
    try:
        _remove(aside)
        aside.mkdir(parents=True)
        for name, (path, _) in (links or {}).items():
            _link(path, aside / f"{name}.safetensors")
        for name, data in written.items():
            _write(aside / name, data)
        sync_folder(aside)
        if folder.exists():  # a damaged one, from which the run was not resumed
            _remove(old)
            folder.rename(old)
        aside.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        _remove(aside)
        raise CheckpointError(_refused(folder, sum(map(len, written.values())), error)) from error
    return sums


def read(folder: Path, *only: str) -> tuple[dict[str, Arrays], dict[str, Any]]:
    """Read a checkpoint's parts (or only those named) and meta, each verified by its checksum.

    Raises:
        OtherFormat: If another version wrote it.
        CheckpointError: If a file is missing or changed.
    """
    meta = read_meta(folder)
    return {name: read_part(folder, meta, name) for name in only or meta["parts"]}, meta


def read_meta(folder: Path) -> dict[str, Any]:
    """Read what a checkpoint says of itself; raises as `read`."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        found = meta["format"]
        rest = {name: value for name, value in meta.items() if name != "sha256"}
        sealed = "sha256" in meta and "parts" in meta  # format 1 was not
        if sealed and _seal(rest) != meta["sha256"]:
            raise CheckpointError(_damaged(folder / "meta.json"))
        if found == FORMAT and type(found) is int:
            _check_meta(folder, meta)
            return meta
    except _UNREADABLE as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(_incomplete(folder, error)) from error
    raise OtherFormat(
        f"{folder} must be a checkpoint of format {FORMAT}, but it is of format {found!r:.20}. "
        "Use the version of posteriori in the run's config.json."
    )


def read_part(folder: Path, meta: Mapping[str, Any], name: str) -> Arrays:
    """Read a part of a checkpoint; raises as `read`."""
    if name not in meta["parts"]:
        raise CheckpointError(
            f"{folder} must hold {name}, but it holds {', '.join(meta['parts'])}."
        )
    try:
        wanted = meta["parts"][name]
        path = folder / f"{name}.safetensors"
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != wanted:
            raise CheckpointError(_damaged(path))
        arrays = load(data)
    except _UNREADABLE as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(_incomplete(folder, error)) from error
    try:
        _refuse_non_finite({name: arrays})
    except FloatingPointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return arrays


def newest_first(checkpoints: Path) -> list[Path]:
    """Return the checkpoints of a run, whole or not, the newest first.

    Raises:
        CheckpointError: If there is none.
    """
    found = [path for path in checkpoints.glob("*") if _STEP.fullmatch(path.name)]
    if not found:
        raise CheckpointError(
            f"{checkpoints} must hold a checkpoint, but there is none. "
            "The run ended before its first one: train it again."
        )
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def latest(checkpoints: Path) -> Path:
    """Return the newest checkpoint of a run, whole or not; raises if there is none."""
    return newest_first(checkpoints)[0]


def newest_good(checkpoints: Path, *readers: Callable[[Path], Found]) -> Found:
    """Return what is read of the newest checkpoint that can be; others get a warning.

    Args:
        checkpoints: The run's.
        readers: Of a checkpoint; one that does not suit them is a `CheckpointError`. The first is
            tried on every checkpoint before the second is.

    Raises:
        OtherFormat: If another version wrote it: it is not passed over.
        CheckpointError: If there is none.
    """
    errors: list[CheckpointError] = []
    for read_one in readers:
        for folder in newest_first(checkpoints):
            try:
                found = read_one(folder)
            except OtherFormat:
                raise
            except CheckpointError as error:
                errors.append(error)
                continue
            if errors:
                warn(f"{errors[0]} Instead, {folder} is used.")
            return found
    raise CheckpointError(
        f"{errors[0]} No checkpoint in {checkpoints} can be used: restore one, or train again."
    )


def newest_parts(checkpoints: Path, *names: str) -> tuple[dict[str, Arrays], dict[str, Any]]:
    """Read parts, and the meta, of the newest checkpoint that has them whole; as `newest_good`."""
    return newest_good(checkpoints, lambda saved: read(saved, *names))


def retain(checkpoints: Path, newest: Path, keep: int) -> None:
    """Keep so many checkpoints up to the newest; remove the others, and what was left half done."""
    for path in checkpoints.glob(".*-*"):
        if path.name.startswith((".writing-", ".old-")):
            _remove(path)
    every = newest_first(checkpoints)
    kept = [path for path in every if int(path.name) <= int(newest.name)][:keep]
    for path in every:
        if path not in kept:
            # First without its name, so that no part of one is taken for a whole.
            try:
                _remove(path.rename(path.with_name(f".old-{path.name}")))
            except OSError as error:
                warn(f"{path} is no longer needed, but cannot be removed: {error}.")


def _refuse_non_finite(parts: Mapping[str, Arrays]) -> None:
    for part, arrays in parts.items():
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise FloatingPointError(
                    f"every array of a checkpoint must be finite, but {name} of its {part} is not."
                )


def _seal(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(meta)).hexdigest()


def _check_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Refuse what only somebody who means harm, or who renames folders, can have written."""
    names, parts = re.compile(r"[a-z]+(-[0-9]+)?"), meta["parts"]
    if not isinstance(parts, dict) or not all(map(names.fullmatch, parts)):
        raise CheckpointError(
            f"the parts in {folder / 'meta.json'} must be names of files beside it, but they are "
            f"{parts!r:.200}."
        )
    if meta["steps"] != int(folder.name):
        raise CheckpointError(
            f"{folder} must have the name of its step, but its step is {meta['steps']!r:.20}."
        )


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:  # a file system without links
        _write(to, path.read_bytes())


def _remove(path: Path) -> None:
    """Remove a file or a folder, as far as the disk lets it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _refused(folder: Path, size: int, error: OSError) -> str:
    try:
        free = f"{shutil.disk_usage(folder.parent).free:,}"
    except OSError:
        free = "unknown"
    return (
        f"the checkpoint {folder} needs {size:,} bytes, but: {error} ({free} bytes are free). "
        "Free space or mend the permissions; older checkpoints are untouched."
    )


def _damaged(path: Path) -> str:
    return f"{path} must have the checksum of its meta.json, but it differs: it is damaged."


def _incomplete(folder: Path, error: BaseException) -> str:
    return f"{folder} must be a complete checkpoint, but: {type(error).__name__}: {error!s:.200}."
