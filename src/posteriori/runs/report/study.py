"""A study as the page has it: its trials, what mattered in them, and the command of the best."""

from pathlib import Path
from typing import Any

from posteriori.runs.tuning.record import RECORD, Tuned


def is_study(folder: Path) -> bool:
    """Whether a folder is that of a study."""
    return (folder / RECORD).is_file()


def describe_study(tuned: Tuned) -> dict[str, Any]:
    """Return everything that the page shows of a study, as plain values."""
    best, usual = tuned.best, tuned.of_defaults
    return {
        "path": str(tuned.study),
        "env": tuned.env,
        "sentence": tuned.sentence(),
        "space": tuned.space,
        "trials": [{k: v for k, v in trial.items() if k != "curve"} for trial in tuned.trials],
        "importances": tuned.importances,
        "best": best and best["number"],
        "defaults": usual and usual["number"],
        "command": best and tuned.command(best),
    }


def telling_runs(tuned: Tuned) -> list[Path]:
    """Return the folders of the best trial's runs and of the defaults', those that are there."""
    trials = [trial["number"] for trial in (tuned.best, tuned.of_defaults) if trial]
    runs = [
        tuned.study / "trials" / str(number) / f"seed{seed}"
        for number in dict.fromkeys(trials)
        for seed in range(tuned.seeds)
    ]
    return [run for run in runs if (run / "config.json").is_file()]
