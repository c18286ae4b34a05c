"""Run one cell in this process: what `run.py` starts.

    python benchmarks/cell.py '{"experiment": "walker", ...}' FOLDER RESULTS

A cell of ours that was stopped is resumed, a peer's is started again. The rows are written at the
end. Exit codes: 0 done, 75 the cell runs already, 130 interrupted, else it failed: see its log.
"""

import fcntl
import json
import shutil
import sys
from pathlib import Path

import ours
import peers
import rows
from experiments import OURS, Cell
from protocol import EVALUATIONS, read

TAKEN, INTERRUPTED = 75, 130  # EX_TEMPFAIL, and as after Ctrl-C


def main() -> int:
    """Run the cell that the arguments name."""
    cell, folder, results = Cell.from_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return TAKEN
        try:
            return run(cell, folder, results)
        except KeyboardInterrupt:
            return INTERRUPTED


def run(cell: Cell, folder: Path, results: Path) -> int:
    """Run a cell that nobody else runs, and write its rows."""
    if cell.method != OURS or stale(cell, folder):
        shutil.rmtree(folder)
        folder.mkdir()
    if cell.method == OURS:
        code = ours.train(cell, folder)
        if code:
            return code
    else:
        peers.train(cell, folder)
    print(keep(cell, folder, results))
    return 0


def keep(cell: Cell, folder: Path, results: Path) -> Path:
    """Write the rows that a cell has so far; return their file."""
    found = ours.rows(folder) if cell.method == OURS else read(folder / EVALUATIONS)
    return rows.write(cell, found, json.loads((folder / "record.json").read_text()), results)


def stale(cell: Cell, folder: Path) -> bool:
    """Whether the folder holds another run: the cell was declared otherwise then."""
    record = folder / "record.json"
    return not record.exists() or json.loads(record.read_text())["cell"] != cell.to_json()


if __name__ == "__main__":
    sys.exit(main())
