"""The fuzzer of run folders, for a moment; `make torture` runs it for long."""

from pathlib import Path

from fuzz import fuzz


def test_mutated_run_folders_are_loaded_right_or_refused(tmp_path: Path) -> None:
    ends, faults = fuzz(100, 1_000_000, tmp_path)
    assert faults == []
    assert {"damage: loaded", "damage: loaded with a warning", "damage: refused"} <= ends.keys()
