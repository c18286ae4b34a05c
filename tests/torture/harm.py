"""What may happen to a run's folder, by accident or on purpose.

Each takes the folder of a run and a source of randomness, and changes the folder.
"""

import contextlib
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from posteriori.runs import checkpoint
from posteriori.runs.config import fingerprint
from posteriori.runs.folder import RunFolder, canonical, seal

# --- Damage ----------------------------------------------------------------------------------


def files(folder: Path, rng: random.Random) -> Path:
    """Choose a file that loading reads."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p.parent.name != "tensorboard")
    return rng.choice([p for p in found if p.name not in (".lock", "final.json")])


def flip(folder: Path, rng: random.Random) -> None:
    """Flip a few bits of a file."""
    path = files(folder, rng)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    rewrite(path, bytes(data))


def cut(folder: Path, rng: random.Random) -> None:
    """Leave the beginning of a file."""
    path = files(folder, rng)
    rewrite(path, path.read_bytes()[: rng.randrange(path.stat().st_size)])


def blank(folder: Path, rng: random.Random) -> None:
    """Overwrite a stretch of a file with zeros, or with noise."""
    path = files(folder, rng)
    data = bytearray(path.read_bytes())
    at, size = rng.randrange(len(data)), rng.randrange(1, 600)
    size = min(size, len(data) - at)
    data[at : at + size] = bytes(size) if rng.random() < 0.5 else rng.randbytes(size)
    rewrite(path, bytes(data))


def insert(folder: Path, rng: random.Random) -> None:
    """Double a stretch of a file, or add to its end."""
    path = files(folder, rng)
    data = path.read_bytes()
    at = rng.randrange(len(data))
    extra = data[at : at + rng.randrange(1, 300)] if rng.random() < 0.5 else rng.randbytes(30)
    rewrite(path, data[:at] + extra + data[at:] if rng.random() < 0.7 else data + extra)


def remove(folder: Path, rng: random.Random) -> None:
    """Remove a file, or a folder."""
    path = files(folder, rng)
    if rng.random() < 0.2 and path.parent != folder:
        shutil.rmtree(path.parent)
    else:
        path.unlink()


def replace(folder: Path, rng: random.Random) -> None:
    """Put something else in a file's place: nothing, a folder, a link to nowhere or to itself."""
    path = files(folder, rng)
    path.unlink()
    rng.choice(
        [
            path.touch,
            path.mkdir,
            lambda: path.symlink_to("nowhere"),
            lambda: path.symlink_to(path.name),
        ]
    )()


def mix(folder: Path, rng: random.Random) -> None:
    """Put another of the run's files in a file's place."""
    path, other = files(folder, rng), files(folder, rng)
    rewrite(path, other.read_bytes())


def rename(folder: Path, rng: random.Random) -> None:
    """Give a checkpoint the name of another step."""
    path = rng.choice(checkpoint.newest_first(folder / "checkpoints"))
    path.rename(path.with_name(f"{rng.choice([0, 1, 119, 121, 10**9]):010d}"))


def rewrite(path: Path, data: bytes) -> None:
    """Write a file in its place, so that whatever is linked to it is harmed as well."""
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


DAMAGE = (flip, flip, flip, cut, cut, blank, insert, remove, replace, mix, rename)


# --- Forgery ---------------------------------------------------------------------------------

VALUES: list[Any] = [None, True, -1, 0, 3, 2**70, 1.5, float("nan"), "", "x", "../x", [], [[]], {}]
DEMANDS: list[tuple[str, Any]] = [
    *(("replay_size", 10**n) for n in (12, 13, 15)),
    *(("widths", value) for value in ([10**9], [10**9, 10**9], [8, 2**53])),
    *((name, 10**12) for name in ("envs", "samples", "batch_size", "critics", "observation")),
    *((name, 10**30) for name in ("envs", "samples", "replay_size", "support_points", "n_step")),
]
ARRAYS: list[Callable[[NDArray], NDArray]] = [
    lambda a: a.astype(np.float64),
    lambda a: a.astype(np.int8),
    lambda a: a[..., None],
    lambda a: a.ravel()[:-1],
    lambda a: np.full_like(a, -1) if a.dtype != bool else ~a,
    lambda a: np.full_like(a, np.nan) if a.dtype.kind == "f" else np.zeros_like(a),
    lambda a: np.full_like(a, 127) if a.dtype.kind in "iu" else a * 0,
]


def forge_meta(folder: Path, rng: random.Random) -> None:
    """Change a value somewhere in a meta.json, with its checksum."""
    path = rng.choice(checkpoint.newest_first(folder / "checkpoints")) / "meta.json"
    meta = json.loads(path.read_bytes())
    change(meta, rng)
    reseal(path, meta)


def forge_config(folder: Path, rng: random.Random) -> None:
    """Change a value somewhere in the config.json, with its checksum."""
    path = folder / "config.json"
    record = json.loads(path.read_bytes())
    change(record, rng)
    with contextlib.suppress(KeyError):
        record["sha256"] = seal(record["env"], record["settings"])
    rewrite(path, json.dumps(record).encode())


def forge_arrays(folder: Path, rng: random.Random) -> None:
    """Change, drop or rename an array of a part, with the part's checksum."""
    for step in checkpoint.newest_first(folder / "checkpoints"):
        path = rng.choice(sorted(step.glob("*.safetensors")))
        arrays = {name: array.copy() for name, array in load(path.read_bytes()).items()}
        name = rng.choice(sorted(arrays))
        array = arrays.pop(name)
        kind = rng.random()
        if kind > 0.3:
            arrays[name] = np.asarray(rng.choice(ARRAYS)(array), order="C")
        elif kind > 0.2:
            arrays[name[::-1]] = array
        data = save(arrays) if rng.random() < 0.95 else rng.randbytes(80)
        path.unlink()  # not what other checkpoints link to
        path.write_bytes(data)
        vouch(step, path)
        if rng.random() < 0.3:
            break


def forge_header(folder: Path, rng: random.Random) -> None:
    """Have a part's file say that an array is larger than any file, with the part's checksum."""
    step = rng.choice(checkpoint.newest_first(folder / "checkpoints"))
    path = rng.choice(sorted(step.glob("*.safetensors")))
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    one = header[rng.choice(sorted(header.keys() - {"__metadata__"}))]
    one["shape"] = rng.choice([[10**12], [2**62], [2**32, 2**32], [10**6] * 4])
    if rng.random() < 0.5:
        one["data_offsets"] = [0, 4 * 10**12]
    text = json.dumps(header).encode()
    path.unlink()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    vouch(step, path)


def forge_demand(folder: Path, rng: random.Random) -> None:
    """Ask for more memory than there is, with every checksum."""
    name, value = rng.choice(DEMANDS)
    run = RunFolder(folder)
    record = json.loads(run.record.read_bytes())
    settings = record["settings"]
    if name in settings | settings["mpo"]:
        (settings if name in settings else settings["mpo"])[name] = value
        rewrite(run.record, json.dumps(record | {"sha256": seal(record["env"], settings)}).encode())
    for step in checkpoint.newest_first(run.checkpoints):
        meta = json.loads((step / "meta.json").read_bytes())
        if name == "observation":
            meta["spaces"][name] = value
        meta["settings"] = fingerprint(run.read_config()[1])
        reseal(step / "meta.json", meta)


def change(tree: Any, rng: random.Random) -> None:
    """Replace, drop or add a value at a random place of a JSON object."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = rng.choice(keys)
        if isinstance(tree[key], dict | list) and tree[key] and rng.random() < 0.7:
            tree = tree[key]
            continue
        break
    kind = rng.random()
    if kind < 0.15:
        del tree[key]
    elif kind < 0.25 and isinstance(tree, dict):
        tree["added"] = rng.choice(VALUES)
    else:
        tree[key] = rng.choice(VALUES)


def vouch(step: Path, path: Path) -> None:
    """Have a checkpoint's meta.json vouch for a part as it is now."""
    meta = json.loads((step / "meta.json").read_bytes())
    meta["parts"][path.stem] = hashlib.sha256(path.read_bytes()).hexdigest()
    reseal(step / "meta.json", meta)


def reseal(path: Path, meta: dict[str, Any]) -> None:
    """Write a meta.json with the checksum that its content has now."""
    meta.pop("sha256", None)
    sha256 = hashlib.sha256(canonical(meta)).hexdigest()
    rewrite(path, json.dumps(meta | {"sha256": sha256}).encode())


FORGERY = (forge_meta, forge_meta, forge_config, forge_arrays, forge_header)
