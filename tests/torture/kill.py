"""A run that is killed again and again: every resume works, and at most an interval is lost.

    python tests/torture/kill.py --kills 100

A small run of Pendulum-v1 with small networks, rows of metrics and checkpoints every few steps, is
killed (SIGKILL) at random moments, half of them while a checkpoint is being written, and resumed,
over and over, in the same folder. After each kill: every checkpoint that has its name is whole, the
newest is no older than before and at most an interval behind the last row of metrics, and the rows
have every step once. At the end a few lives are stopped by SIGTERM, which must save the step and
leave with 143, and the curves of TensorBoard, with what it is told to forget, must be those rows.

Each life is a process of its own. It is forked from one that has imported JAX but not used it,
which saves seconds of imports each time.
"""

import argparse
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn

import jax

from posteriori.runs import checkpoint, loop
from posteriori.runs.run import resume, train
from posteriori.runs.sinks import read_rows

REPORT = CHECKPOINT = 40  # environment steps
ENVS = 2
SETTINGS: dict[str, Any] = {
    "steps": 10_000_000,
    "envs": ENVS,
    "backend": "gymnasium",
    "widths": (8,),
    "batch_size": 8,
    "samples": 3,
    "support_points": 11,
    "replay_size": 2_000,
    "learning_starts": 100,
    "steps_per_update": 10,
    "evaluate_every": 0,
    "final_episodes": 0,
    "pictures": False,
    "checkpoint_every": CHECKPOINT,
}


def live(folder: Path) -> NoReturn:
    """Train or resume until killed."""
    loop.REPORT_EVERY = REPORT
    try:
        if (folder / "checkpoints").exists():
            resume(folder)
        else:
            train("Pendulum-v1", run_dir=folder, **SETTINGS)
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    except BaseException as error:
        print(f"a life ended by itself: {error!r}", flush=True)
        os._exit(1)
    os._exit(2)  # it never comes to its last step


def kill_one(folder: Path, rng: random.Random) -> None:
    """Start a life, let it save once or a few times, and kill it at a random moment after."""
    pid = os.fork()
    if pid == 0:
        live(folder)
    wait_for_save(folder, pid)
    began, period = time.monotonic(), 0.2
    for n in range(1, rng.randrange(4)):
        wait_for_save(folder, pid)
        period = (time.monotonic() - began) / n
    time.sleep(rng.uniform(0, 1.5 * period))
    if rng.random() < 0.5:
        wait_for_write(folder, pid)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"a life ended by itself: {status}"


def stop_one(folder: Path) -> float:
    """Start a life and end it by SIGTERM; return the seconds that it took to save and leave."""
    pid = os.fork()
    if pid == 0:
        live(folder)
    wait_for_save(folder, pid)
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    took = time.monotonic() - began
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM
    rows = [row["step"] for row in read_rows(folder / "metrics.jsonl")]
    assert steps_saved(folder) == rows[-1], "what was done is not saved"
    return took


def wait_for_save(folder: Path, pid: int) -> None:
    """Wait until a life has written its next checkpoint."""
    before = steps_saved(folder)
    while steps_saved(folder) == before:
        refuse_end(pid)
        time.sleep(0.03)


def wait_for_write(folder: Path, pid: int) -> None:
    """Wait until a life writes a checkpoint."""
    while not any(name.startswith(".writing-") for name in os.listdir(folder / "checkpoints")):
        refuse_end(pid)
        time.sleep(0.001)


def refuse_end(pid: int) -> None:
    """Raise if a life has ended by itself."""
    if os.waitpid(pid, os.WNOHANG)[0]:
        raise AssertionError("a life ended by itself")


def steps_saved(folder: Path) -> int:
    """Return the step of the newest checkpoint, 0 if there is none."""
    try:
        return int(checkpoint.latest(folder / "checkpoints").name)
    except checkpoint.CheckpointError:
        return 0


def check(folder: Path, before: int) -> tuple[int, int, bool]:
    """Return the newest step, the steps lost, and whether the kill was inside a write."""
    names = [path.name for path in (folder / "checkpoints").iterdir()]
    for path in checkpoint.newest_first(folder / "checkpoints"):
        checkpoint.read(path)
    saved = steps_saved(folder)
    rows = [row["step"] for row in read_rows(folder / "metrics.jsonl")]
    assert saved >= before, f"the newest checkpoint is of {saved}, after one of {before}"
    assert rows == list(range(REPORT, rows[-1] + 1, REPORT)), f"rows of steps {rows}"
    lost = rows[-1] - saved
    assert lost <= CHECKPOINT, f"rows up to {rows[-1]}, a checkpoint of {saved}"
    return saved, lost, any(name.startswith(".") for name in names)


def curves(folder: Path) -> list[int]:
    """Return the steps that TensorBoard shows, in order, what it is told to forget left out."""
    protocol: Any = importlib.import_module("tensorboardX.proto.event_pb2")
    shown: list[int] = []
    for file in sorted((folder / "tensorboard").iterdir()):
        data, at = file.read_bytes(), 0
        while at + 12 <= len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            if at + size + 16 > len(data):
                break  # cut by a kill: TensorBoard goes on with the next file
            event = protocol.Event.FromString(data[at + 12 : at + 12 + size])
            if event.session_log.status == protocol.SessionLog.START:
                shown = [step for step in shown if step < event.step]
            if event.summary.value:
                shown.append(event.step)
            at += size + 16
    return shown


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--stops", type=int, default=5, help="lives ended by SIGTERM at the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-updates", action="store_true", help="only act: lives begin sooner")
    args = parser.parse_args()
    if args.no_updates:
        SETTINGS["learning_starts"] = SETTINGS["steps"]
    warnings.filterwarnings("ignore", message=r"os\.fork", category=RuntimeWarning)
    rng, saved, losses, inside = random.Random(args.seed), 0, [], 0
    with tempfile.TemporaryDirectory() as scratch:
        jax.config.update("jax_compilation_cache_dir", f"{scratch}/programs")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        folder = Path(scratch) / "run"
        for n in range(1, args.kills + 1):
            kill_one(folder, rng)
            saved, lost, writing = check(folder, saved)
            losses.append(lost)
            inside += writing
            print(json.dumps({"kill": n, "saved": saved, "lost": lost, "in write": writing}))
            sys.stdout.flush()
        stops = [stop_one(folder) for _ in range(args.stops)]
        rows = [row["step"] for row in read_rows(folder / "metrics.jsonl")]
        assert curves(folder) == rows, "TensorBoard shows other steps than metrics.jsonl has"
    print(
        f"{args.kills} kills, {inside} inside a write; every resume worked; {saved:,} steps; lost: "
        f"{max(losses)} steps at most, interval {CHECKPOINT}"
    )
    print(
        f"{len(stops)} stops by SIGTERM: exit code 143 after {max(stops, default=0):.1f} s at most"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
