"""A run on a disk that fills up, and has room again later.

    python tests/torture/disk.py

Mounts a file system of 3 MB in memory, for which it needs root, and trains a tiny run in it. After
step 200 everything that is free is taken; after step 600 it is given back. In between checkpoints
and rows must fail with warnings that name path and bytes, the last good checkpoint must stay whole,
and the run must go on. At its end nothing may be missing.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from kill import curves
from small_runs import UNLEARNED, Counting

from posteriori import train
from posteriori.runs import checkpoint, loop
from posteriori.runs.notices import RunWarning
from posteriori.runs.sinks import read_rows

REPORT, FULL, FREE = 20, 200, 600  # environment steps


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a file system of 3 MB."""
    with tempfile.TemporaryDirectory() as path:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", path], check=True)
        try:
            yield Path(path)
        finally:
            subprocess.run(["umount", path], check=True)


def fill(path: Path) -> None:
    """Take all that is free."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass


def main() -> int:
    """Run and print."""
    loop.REPORT_EVERY = REPORT
    told: list[str] = []
    with small_disk() as disk, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RunWarning)

        def act(step: int, metrics: Any) -> None:  # noqa: ARG001 - the signature of a sink
            if step == FULL:
                fill(disk / "ballast")
            elif step == FREE:
                newest = checkpoint.latest(disk / "run" / "checkpoints")
                checkpoint.read(newest)
                print(f"full since step {FULL}: at step {FREE}, {newest.name} is whole")
                os.unlink(disk / "ballast")

        settings: dict[str, Any] = UNLEARNED | {"steps": 1_000, "checkpoint_every": 100}
        run = train(Counting, run_dir=disk / "run", sinks=[act], **settings)
        told = [str(w.message) for w in caught if issubclass(w.category, RunWarning)]
        rows = [row["step"] for row in read_rows(disk / "run" / "metrics.jsonl")]
        assert run.steps == 1_000
        assert checkpoint.read(checkpoint.latest(disk / "run" / "checkpoints"))[1]["steps"] == 1_000
        assert rows == list(range(REPORT, 1_001, REPORT)), rows
        assert curves(disk / "run") == rows
    print("\n".join(told))
    refused = [text for text in told if "needs" in text]
    assert len(refused) >= 4, told
    print(f"{len(refused)} warnings; all {len(rows)} rows and the last checkpoint are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
