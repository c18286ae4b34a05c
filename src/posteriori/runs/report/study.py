"""A study as the page has it: its trials, what mattered in them, and the command of the best."""

from pathlib import Path
from typing import Any

from posteriori.runs.tuning.record import RECORD, Tuned, read


def is_study(folder: Path) -> bool:
    """Whether a folder is that of a study."""
    return (folder / RECORD).is_file()


def describe_study(folder: Path) -> dict[str, Any]:
    """Return everything that the page shows of a study, as plain values.

    Raises:
        ValueError: its record cannot be read.
    """
    tuned = read(folder)
    best, usual = tuned.best, tuned.of_defaults
    return {
        "path": str(folder),
        "env": tuned.env,
        "sentence": tuned.sentence(),
        "space": tuned.space,
        "trials": [{k: v for k, v in trial.items() if k != "curve"} for trial in tuned.trials],
        "importances": tuned.importances,
        "best": best and best["number"],
        "defaults": usual and usual["number"],
        "command": best and tuned.command(best),
    }


def telling_runs(folder: Path) -> list[Path]:
    """Return the folders of the best trial's runs and of the defaults', those that are there."""
    tuned: Tuned = read(folder)
    trials = [trial["number"] for trial in (tuned.best, tuned.of_defaults) if trial]
    runs = [
        folder / "trials" / str(number) / f"seed{seed}"
        for number in dict.fromkeys(trials)
        for seed in range(tuned.seeds)
    ]
    return [run for run in runs if (run / "config.json").is_file()]
