"""Search for settings: trials are begun, watched, given up or ended, and written down."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posteriori.experience.envs import make_reference
from posteriori.runs.config import Config, check
from posteriori.runs.folder import RunFolder, file_name
from posteriori.runs.lock import held
from posteriori.runs.stopping import stop_signals
from posteriori.runs.tuning import record
from posteriori.runs.tuning.attempt import Attempt, CannotBegin, RunLost, SeedRun
from posteriori.runs.tuning.record import StudyError, Tuned
from posteriori.runs.tuning.search import Search, require_optuna
from posteriori.runs.tuning.space import defaults_of, read_space, settled

POLL = 0.5  # seconds
EVALUATIONS = 10  # of a run, at which it may be given up
HOPE = 5  # failed trials, with no other, after which a study ends
SEEDS = 2


class TuningFailed(RuntimeError):
    """A study whose trials fail one after the other."""


def tune(
    env: str,
    *,
    out: Path | str | None = None,
    trials: int = 30,
    jobs: int | None = None,
    seeds: int | None = None,
    steps: int | None = None,
    space: Path | str | None = None,
    told: Callable[[str], None] | None = None,
) -> Tuned:
    """Search for the settings with the highest final return, by Optuna.

    A study that was stopped, however, goes on when it is called again; so do its runs.

    Args:
        env: A Gymnasium id.
        out: Folder of the study; `default_path(env)` by default.
        trials: Total of the study, those before included.
        jobs: Trials at a time; by default as many as have a core for each of their runs.
        seeds: Runs of a trial, two or more: one would tune its luck. By default the study's, 2 for
            a new one.
        steps: Environment steps of a run. By default the study's, `Config().steps` for a new one.
        space: A TOML file with a table for each setting to search. By default the study's, the
            package's own for a new one.
        told: Gets a line when a trial begins, and when it ends.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: the environment, the space or a number cannot be used, or the folder holds
            another study.
        TuningFailed: every trial fails.
        KeyboardInterrupt: After Ctrl-C, with everything saved.
        SystemExit: After SIGTERM, with everything saved; the code is 143.
    """
    require_optuna()
    if not isinstance(env, str):
        raise TypeError(f"env must be an id, since runs have their own processes, but it is {env}.")
    wanted = _wanted(env, Path(out or default_path(env)), seeds, steps, space)
    for name, number, least in (("trials", trials, 1), ("jobs", jobs, 1), ("seeds", seeds, 2)):
        if number is not None and number < least:
            raise ValueError(f"--{name} must be {least} or more, but it is {number}.")
    make_reference(env, num_envs=1).close()  # an environment that is missing is told now
    wanted.study.mkdir(parents=True, exist_ok=True)
    with held(wanted.study):
        record.write(wanted)
        return _Study(wanted, jobs, told or (lambda _: None)).run(trials)


def default_path(env: str) -> Path:
    """Return `runs/tune-{env}`, in letters for every file system: the same call goes on there."""
    return Path("runs") / f"tune-{file_name(env)}"


def _wanted(
    env: str, study: Path, seeds: int | None, steps: int | None, space: Path | str | None
) -> Tuned:
    """Return the study that is asked for, with what it has found if it was begun."""
    before = record.read(study) if (study / record.RECORD).is_file() else None
    if before is None and study.is_dir() and any(study.iterdir()):
        raise StudyError(
            f"--out must be the folder of a study, or a new or empty one, but {study} holds "
            "something else. Choose another --out."
        )
    given = {"seeds": seeds, "steps": steps, "space": space and read_space(space)}
    usual = before or Tuned(study, env, Config().steps, SEEDS, 0, {})
    found = {k: getattr(usual, k) if v is None else v for k, v in given.items()}
    found["space"] = found["space"] or read_space()
    check(dataclasses.replace(Config(), steps=found["steps"]))
    every = max(1, found["steps"] // EVALUATIONS)
    defaults = defaults_of(found["space"])
    now = Tuned(study, env, evaluate_every=every, defaults=defaults, **found)
    if before is None:
        return now
    record.agree(before, now)
    return before


class _Study:
    """The loop of a study, in the process that alone knows of all trials."""

    def __init__(self, tuned: Tuned, jobs: int | None, told: Callable[[str], None]):
        self.tuned, self.told = tuned, told
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.jobs = jobs or max(1, (cores or 1) // tuned.seeds)
        self.threads = max(1, (cores or 1) // (self.jobs * tuned.seeds))
        self.search = Search(tuned.study / "optuna.db", tuned.space, tuned.steps)
        self.left = self.search.left()
        self.attempts: dict[int, Attempt] = {}

    def run(self, trials: int) -> Tuned:
        """Go on until so many trials have ended."""
        if self.tuned.defaults:
            self.search.begin_with(self.tuned.defaults)
        with stop_signals() as stop:
            try:
                while self._fill(trials):
                    if stop():
                        stop.leave()
                    for number in list(self.attempts):
                        self._look(number)
                    time.sleep(POLL)
            finally:
                for attempt in self.attempts.values():
                    attempt.stop()
                self._write()
                self.search.close()
        return self.tuned

    def _fill(self, trials: int) -> bool:
        """Begin trials while there is room; return whether any are under way."""
        while len(self.attempts) < self.jobs and (self.left or self.search.begun() < trials):
            if self.left:
                number = min(self.left)
                values = self.left.pop(number)
            else:
                number, values = self.search.ask()
            try:
                check(settled(values))
                runs = [self._seed(number, values, seed) for seed in range(self.tuned.seeds)]
                self.attempts[number] = Attempt(runs, self.tuned.evaluate_every, self.threads)
                self.told(f"trial {number}: begins, {_words(values)}")
            except ValueError as error:  # settings that do not go together
                self._end(number, "fail", text=str(error))
            self._write()
        return bool(self.attempts)

    def _seed(self, number: int, values: dict[str, Any], seed: int) -> SeedRun:
        steps, every = self.tuned.steps, self.tuned.evaluate_every
        settings = {"seed": seed, "steps": steps, "evaluate_every": every, "pictures": False}
        return SeedRun(
            folder=RunFolder(self.tuned.study / "trials" / str(number) / f"seed{seed}"),
            env=self.tuned.env,
            settings=values | settings,
            command=self.tuned.words(values, seed),
        )

    def _look(self, number: int) -> None:
        """Take in what a trial's runs have done since."""
        attempt = self.attempts[number]
        try:
            scores = attempt.scores()
            curve = attempt.curve()
            hopeless = self.search.hopeless(number, curve)
        except RunLost as error:
            self._end(number, "fail", text=str(error))
        except CannotBegin as error:
            if not any(trial["state"] in ("complete", "pruned") for trial in self.search.rows()):
                raise
            self._end(number, "fail", text=str(error))
        else:
            if scores is not None:
                self._end(number, "complete", scores=scores)
            elif hopeless:
                self._end(number, "pruned", text=f"after {max(curve):,} steps")

    def _end(self, number: int, state: str, **facts: Any) -> None:
        attempt = self.attempts.pop(number, None)
        if attempt:
            attempt.stop()
            if state != "complete":
                attempt.forget_checkpoints()
        self.search.tell(number, state, **facts)
        self._write()
        self.told(self._line(number))
        states = [trial["state"] for trial in self.tuned.trials]
        if states.count("fail") >= HOPE and {*states} <= {"fail", "running"}:
            raise TuningFailed(
                f"{self.tuned.study}: each of {states.count('fail')} trials failed; the last: "
                f"{facts['text']} Change the space, or see the .log files beside the runs."
            )

    def _line(self, number: int) -> str:
        trial = next(trial for trial in self.tuned.trials if trial["number"] == number)
        head = f"trial {number}: "
        if trial["state"] == "complete":
            best = self.tuned.best
            mark = " (best so far)" if best and best["number"] == number else ""
            return f"{head}{trial['score']:,.1f}{mark}"
        return f"{head}{'failed' if trial['state'] == 'fail' else 'pruned'}, {trial['text']}"

    def _write(self) -> None:
        found = {"trials": self.search.rows(), "importances": self.search.importances()}
        self.tuned = dataclasses.replace(self.tuned, **found)
        record.write(self.tuned)


def _words(values: dict[str, Any]) -> str:
    texts = {k: f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in values.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())
