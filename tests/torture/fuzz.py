"""Mutated run folders: each is loaded right, or refused with a message; nothing else.

    python tests/torture/fuzz.py --cases 10000 --seed 0

Trains a tiny run for its folder. Then, for each case, copies the folder, harms it, and loads it as
`posteriori resume` does: settings, checkpoint, learner, replay, statistics, metrics.

*Damage* is what disks and people do: flipped bits, cut files, files that are missing, swapped,
empty, doubled, or of another checkpoint. What is then loaded must be a checkpoint as the run wrote
it, bit for bit; where it is not the newest, or lacks rows of replay or of metrics, a warning must
have said so. *Forgery* is damage with right checksums: other values, types, shapes, names. It may
be loaded where it makes sense, but nothing may fail with anything but the library's own message.
A *demand* is a forgery that asks for more memory than any machine has: it must be refused before
any of it is taken, which a limit on the process sees to.
"""

import argparse
import contextlib
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from harm import DAMAGE, FORGERY, forge_demand
from small_runs import Counting, replay, small_run

from posteriori import cli, load_policy
from posteriori.experience.envs import make_vector
from posteriori.runs import checkpoint
from posteriori.runs.assemble import assemble
from posteriori.runs.config import Config, fingerprint
from posteriori.runs.folder import RunFolder, trusted
from posteriori.runs.gathering import Gathering
from posteriori.runs.learner import Learner
from posteriori.runs.memory import check_run
from posteriori.runs.notices import RunWarning
from posteriori.runs.restoring import newest_saved
from posteriori.runs.saving import restore
from posteriori.runs.segments import Segments
from posteriori.runs.sinks import JsonLines, check_mark, read_rows

SECONDS = 10.0  # of processor time that a case may take; a sound folder takes some 20 ms
MORE = 4 * 2**30  # bytes of address space that a case may take
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

    def loop(self, config: Config) -> Any:
        """Return as much of a training loop, of some settings, as a restored one needs."""
        check_run(config, 3, self.agent.actions.size)
        self.learner.restore(self.first)
        gathering = Gathering(config, self.envs, self.agent.actions.size, seed=0)
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
    loop = original.loop(config)
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


# --- Cases -----------------------------------------------------------------------------------


def case(original: Original, folder: Path, seed: int) -> tuple[str, str]:
    """Harm a copy of the run; return the kind of harm, and how it ended. Raises if at fault."""
    rng = random.Random(seed)
    kind = rng.choices(["damage", "forgery", "demand"], [72, 25, 3])[0]
    forged = kind != "damage"
    harms = [rng.choice(FORGERY if forged else DAMAGE) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    if kind == "demand":
        harms = [forge_demand]
    copy(original.path, folder)
    for harm in harms:
        with contextlib.suppress(Exception):  # what one has removed cannot be harmed again
            harm(folder, rng)
    what = "+".join(sorted({harm.__name__ for harm in harms}))
    with warnings.catch_warnings(record=True) as caught, limited():
        warnings.simplefilter("always")
        try:
            if kind == "demand" and rng.random() < 0.2:
                load_policy(folder)  # some of what is too much for a run is no matter for a policy
            loop, rows = resume(original, folder)
        except Exception as error:
            if not cli._is_told(error):
                raise
            return kind, "refused"
    told = [str(w.message) for w in caught if issubclass(w.category, RunWarning)]
    other = [w for w in caught if not issubclass(w.category, RunWarning)]
    assert not other, f"another warning: {other[0].message}"
    assert kind != "demand", "more memory than there is was not refused"
    if not forged and (problem := wrong(original, loop, rows, told)):
        raise AssertionError(f"silent acceptance after {what}: {problem} (warnings: {told})")
    return kind, "loaded with a warning" if told else "loaded"


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
    """Raise where a case takes too much processor time, or too much memory."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {SECONDS} s")

    memory = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MORE, memory[1]))
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, memory)


def fuzz(cases: int, first: int, scratch: Path) -> tuple[Counter[str], list[str]]:
    """Try cases; return how they ended, and the faults."""
    original, ends, faults = Original(scratch / "run"), Counter(), []
    for seed in range(first, first + cases):
        try:
            kind, end = case(original, scratch / "copy", seed)
            ends[f"{kind}: {end}"] += 1
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
