"""The command that searches for settings: tune."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from posteriori.runs.tuning.record import Tuned


def tune(
    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")],
    *,
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="STUDY", help_behavior_hint="(default: runs/tune-ENV)"),
    ] = None,
    trials: int = 30,
    jobs: Annotated[
        int | None,
        tyro.conf.arg(metavar="INT", help_behavior_hint="(default: cores / seeds)"),
    ] = None,
    seeds: Annotated[
        int | None,
        tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the study's, 2 for a new one)"),
    ] = None,
    steps: Annotated[
        int | None,
        tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the study's, else `train`'s)"),
    ] = None,
    space: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: the study's, else our own)"),
    ] = None,
) -> None:
    """Search for the settings with the highest return; the same command again goes on.

    Args:
        env: A Gymnasium id.
        out: Folder of the study.
        trials: Total of the study, those before included.
        jobs: Trials at a time; each takes a process for each seed.
        seeds: Runs of a trial, two or more; its score is their mean.
        steps: Environment steps of a run.
        space: A TOML file with a table for each setting to search.
    """
    from posteriori.runs.tuning import record
    from posteriori.runs.tuning.tune import default_path
    from posteriori.runs.tuning.tune import tune as search

    study = out or default_path(env)
    print(f"Tuning {env} in {study}; watch it with `posteriori dashboard {study}`.", flush=True)
    try:
        tuned = search(
            env,
            out=study,
            trials=trials,
            jobs=jobs,
            seeds=seeds,
            steps=steps,
            space=space,
            told=lambda line: print(line, flush=True),
        )
    except (KeyboardInterrupt, SystemExit):
        if (study / record.RECORD).is_file():
            _show(record.read(study))
            words = ["tune", env, "--out", str(study), "--trials", str(trials)]
            words += [] if jobs is None else ["--jobs", str(jobs)]
            command = shlex.join(["posteriori", *words])
            print(f"\nStopped. Continue with:\n  {command}", file=sys.stderr)
        raise
    _show(tuned)
    print(f"See the study with:\n  posteriori report {study}")


def _show(tuned: "Tuned") -> None:
    print(tuned.sentence())
    if tuned.best:
        print(f"Train with its settings:\n  {tuned.command(tuned.best)}")
