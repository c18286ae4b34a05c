"""Mutated run folders: each is loaded right, or refused with a message; nothing else.

    python tests/torture/fuzz.py --cases 10000 --seed 0

Trains a tiny run for its folder. Then, for each case, copies the folder, harms it, and loads it as
`posteriori resume` does: settings, checkpoint, learner, replay, statistics, metrics.

*Damage* is what disks and people do: flipped bits, cut files, files that are missing, swapped,
empty, doubled, or of another checkpoint. What is then loaded must be a checkpoint as the run wrote
it, bit for bit; where it is not the newest, or lacks rows of replay or of metrics, a warning must
have said so. *Forgery* is damage with right checksums: other values, types, shapes, names. It may
be loaded where it makes sense, but nothing may fail with anything but the library's own message.
"""

import argparse
import contextlib
import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_runs import Counting, replay, small_run

from posteriori import cli
from posteriori.experience.envs import make_vector
from posteriori.runs import checkpoint
from posteriori.runs.assemble import assemble
from posteriori.runs.config import fingerprint
from posteriori.runs.folder import RunFolder, canonical, seal, trusted
from posteriori.runs.gathering import Gathering
from posteriori.runs.learner import Learner
from posteriori.runs.notices import RunWarning
from posteriori.runs.restoring import newest_saved
from posteriori.runs.saving import restore
from posteriori.runs.segments import Segments
from posteriori.runs.sinks import JsonLines, check_mark, read_rows

SECONDS = 10.0  # of processor time that a case may take; a sound folder takes some 20 ms
SETTINGS: dict[str, Any] = {
    "steps": 120,
    "learning_starts": 10_000,
    "checkpoint_every": 40,
    "keep_checkpoints": 3,
    "evaluate_every": 40,
    "replay_size": 60,
}


class Hang(BaseException):
    """A case took too long."""


class Original:
    """A sound run, and what of it may be loaded."""

    def __init__(self, folder: Path):
        self.path = folder
        small_run(Counting, folder, **SETTINGS)
        _, self.config = RunFolder(folder).read_config()
        self.envs = make_vector(Counting, num_envs=self.config.envs, seed=0)
        spaces = self.envs.single_observation_space, self.envs.single_action_space
        self.agent = assemble(self.config, *spaces, "Counting")
        self.learner = Learner(self.agent)
        self.first = self.learner.state
        self.rows = read_rows(folder / "metrics.jsonl")
        self.checkpoints = {
            int(path.name): checkpoint.read(path)
            for path in checkpoint.newest_first(folder / "checkpoints")
        }
        self.newest = max(self.checkpoints)

    def loop(self) -> Any:
        """Return as much of a training loop as a restored one needs."""
        self.learner.restore(self.first)
        gathering = Gathering(self.config, self.envs, self.agent.actions.size, seed=0)
        return SimpleNamespace(
            name="Counting",
            envs=self.envs,
            learner=self.learner,
            gathering=gathering,
            segments=Segments(gathering.replay),
            best=None,
            best_policy={},
        )


def resume(original: Original, path: Path) -> tuple[Any, list[dict[str, Any]]]:
    """Load a folder as `posteriori resume --env Counting` does; return the loop and its metrics."""
    folder = RunFolder.open(path)
    name, config = folder.read_config()
    trusted(name, None, folder.record)
    saved = newest_saved(folder.checkpoints, fingerprint(config))
    loop = original.loop()
    restore(loop, saved, seed=1)
    check_mark(folder.metrics, saved.meta["metrics"])
    sink = JsonLines(folder.metrics, resume_step=saved.meta["steps"])
    sink.close()
    return loop, read_rows(folder.metrics)


def wrong(original: Original, loop: Any, rows: list[dict[str, Any]], told: list[str]) -> str:
    """Return what of a loaded folder is not as the run wrote it; empty if all is well."""
    if loop.steps not in original.checkpoints:
        return f"no checkpoint was of step {loop.steps}"
    parts, meta = original.checkpoints[loop.steps]
    if loop.steps != original.newest and not told:
        return "an older checkpoint was loaded without a word"
    for name, array in checkpoint_arrays(loop).items():
        if not np.array_equal(array, parts["learner"][name]):
            return f"{name} is not what was saved"
    if loop.episodes != meta["episodes"] or loop.best.to_json() != meta["best"]:
        return "counts are not what was saved"
    if problem := wrong_replay(loop.gathering.replay, replay(parts, 30), told):
        return problem
    expected = [row for row in original.rows if row["step"] <= loop.steps]
    if rows != expected and not any("metrics.jsonl" in text for text in told):
        return "rows of metrics were changed or lost without a word"
    return ""


def checkpoint_arrays(loop: Any) -> dict[str, NDArray]:
    """Return the learner's arrays by name."""
    from posteriori.runs.arrays import flatten

    return flatten(loop.learner.state)


def wrong_replay(ring: Any, saved: dict[str, NDArray], told: list[str]) -> str:
    """Compare a ring, which ends with an interruption's row, with the rows that were saved."""
    rows = ring.since(np.zeros_like(ring.added))
    edges = np.cumsum(rows["last"] - rows["first"])[:-1]
    for e, obs in enumerate(np.split(rows["obs"], edges)):
        before, now = saved["obs"][e], obs[:-1]
        whole = min(len(before), ring.share - 1)
        if len(now) < whole and not told:
            return "rows of replay are missing without a word"
        if not np.array_equal(now, before[len(before) - len(now) :]):
            return "rows of replay are not what was saved"
    return ""


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
        meta = json.loads((step / "meta.json").read_bytes())
        meta["parts"][path.stem] = hashlib.sha256(data).hexdigest()
        reseal(step / "meta.json", meta)
        if rng.random() < 0.3:
            break


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


def reseal(path: Path, meta: dict[str, Any]) -> None:
    """Write a meta.json with the checksum that its content has now."""
    meta.pop("sha256", None)
    sha256 = hashlib.sha256(canonical(meta)).hexdigest()
    rewrite(path, json.dumps(meta | {"sha256": sha256}).encode())


FORGERY = (forge_meta, forge_meta, forge_config, forge_arrays)


# --- Cases -----------------------------------------------------------------------------------


def case(original: Original, folder: Path, seed: int) -> tuple[str, str]:
    """Harm a copy of the run; return what was done, and how it ended. Raises if it is a fault."""
    rng = random.Random(seed)
    forged = rng.random() < 0.25
    harms = [rng.choice(FORGERY if forged else DAMAGE) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    copy(original.path, folder)
    for harm in harms:
        with contextlib.suppress(Exception):  # what one has removed cannot be harmed again
            harm(folder, rng)
    what = "+".join(sorted({harm.__name__ for harm in harms}))
    with warnings.catch_warnings(record=True) as caught, limited():
        warnings.simplefilter("always")
        try:
            loop, rows = resume(original, folder)
        except Exception as error:
            if not cli._is_told(error):
                raise
            return what, "refused"
    told = [str(w.message) for w in caught if issubclass(w.category, RunWarning)]
    other = [w for w in caught if not issubclass(w.category, RunWarning)]
    assert not other, f"another warning: {other[0].message}"
    if not forged and (problem := wrong(original, loop, rows, told)):
        raise AssertionError(f"silent acceptance after {what}: {problem} (warnings: {told})")
    return what, "loaded with a warning" if told else "loaded"


def copy(run: Path, folder: Path) -> None:
    """Copy a run, links between its checkpoints included."""
    shutil.rmtree(folder, ignore_errors=True)
    copied: dict[int, Path] = {}
    for path in sorted(run.rglob("*")):
        to = folder / path.relative_to(run)
        if path.is_dir():
            to.mkdir(parents=True)
        elif (inode := path.stat().st_ino) in copied:
            to.hardlink_to(copied[inode])
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            copied[inode] = Path(shutil.copyfile(path, to))


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise where a case takes too much processor time."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def fuzz(cases: int, first: int, scratch: Path) -> tuple[Counter[str], list[str]]:
    """Try cases; return how they ended, and the faults."""
    original, ends, faults = Original(scratch / "run"), Counter(), []
    for seed in range(first, first + cases):
        try:
            what, end = case(original, scratch / "copy", seed)
            ends[f"{'forgery' if 'forge' in what else 'damage'}: {end}"] += 1
        except (Exception, Hang) as fault:
            faults.append(f"seed {seed}: {fault!r}\n{traceback.format_exc()}")
    original.envs.close()
    return ends, faults


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    args = parser.parse_args()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        ends, faults = fuzz(args.cases, args.seed, Path(scratch))
    for end, count in sorted(ends.items()):
        print(f"{count:>7,} {end}")
    print(f"{args.cases:>7,} cases from seed {args.seed}, {len(faults)} faults")
    print("\n".join(faults[:20]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
