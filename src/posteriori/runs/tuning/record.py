"""What a study says of itself: `trials.json`, for reports and for later calls."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from posteriori.runs.folder import write_atomically
from posteriori.runs.report.run import options

RECORD = "trials.json"
AGREED = ("env", "steps", "seeds", "space")  # what must be the same in every call of a study


class StudyError(ValueError):
    """A folder that holds no study, or another one."""


@dataclass(frozen=True)
class Tuned:
    """A study: what it searches, and what it has found.

    Args:
        study: Its folder.
        env: The environment's id.
        steps: Environment steps of a run.
        seeds: Runs of a trial, with the seeds 0, 1 and so on.
        evaluate_every: Environment steps between evaluations.
        space: By setting, its range or choices.
        defaults: The settings' defaults; None where one lies outside of the space.
        trials: Each with number, state ("running", "complete", "pruned" or "fail"), values, score
            (the mean over seeds of the final evaluation, None unless complete), scores (by seed),
            text (why it failed) and curve, pairs of a step and the mean evaluation over seeds.
        importances: By setting, its share of what makes a trial good; empty while trials are few.
    """

    study: Path
    env: str
    steps: int
    seeds: int
    evaluate_every: int
    space: dict[str, dict[str, Any]]
    defaults: dict[str, Any] | None = None
    trials: list[dict[str, Any]] = field(default_factory=list)
    importances: dict[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> list[dict[str, Any]]:
        """The trials that have a score."""
        return [trial for trial in self.trials if trial["state"] == "complete"]

    @property
    def best(self) -> dict[str, Any] | None:
        """The trial with the highest score; None while none is complete."""
        return max(self.complete, key=lambda trial: trial["score"], default=None)

    @property
    def of_defaults(self) -> dict[str, Any] | None:
        """The complete trial of the settings' defaults, if there is one: the first of a study."""
        return next((trial for trial in self.complete if trial["values"] == self.defaults), None)

    @property
    def settings(self) -> dict[str, Any]:
        """The best trial's settings, to be passed to `posteriori.train`.

        Raises:
            ValueError: no trial is complete.
        """
        if self.best is None:
            raise StudyError(f"{self.study} must have a complete trial, but it has none.")
        return {"steps": self.steps, **self.best["values"]}

    def command(self, trial: Mapping[str, Any], seed: int = 0) -> str:
        """Return the command that repeats a run of a trial."""
        return shlex.join(self.words(trial["values"], seed))

    def words(self, values: Mapping[str, Any], seed: int) -> list[str]:
        """Return the words of the command that trains with a trial's values."""
        words = options({"steps": self.steps, **values, "seed": seed})
        return ["posteriori", "train", self.env, *words]

    def sentence(self) -> str:
        """Return how the study stands, in a line."""
        states = Counter(trial["state"] for trial in self.trials)
        counts = ", ".join(f"{n} {'failed' if s == 'fail' else s}" for s, n in states.items())
        total = len(self.trials)
        told = f"{total} trial{'' if total == 1 else 's'} ({counts or 'none begun'})"
        if self.best is None:
            return f"{told}: none is complete yet."
        best, usual = self.best, self.of_defaults
        text = f"{told}. Best is trial {best['number']}: {best['score']:,.1f}"
        text += f", the mean of {self.seeds} seeds after {self.steps:,} steps"
        if usual:
            had = (
                "these are the defaults"
                if best is usual
                else f"the defaults had {usual['score']:,.1f}"
            )
            text += f"; {had}"
        return f"{text}."


def read(study: Path | str) -> Tuned:
    """Read a study's record.

    Raises:
        FileNotFoundError: there is none.
        StudyError: it cannot be read.
    """
    path = Path(study) / RECORD
    if not path.is_file():
        raise FileNotFoundError(
            f"{study} must be the folder of a study, but it has no {RECORD}. "
            "Give the folder that `posteriori tune` named."
        )
    try:
        data = json.loads(path.read_bytes())
        data.pop("version")
        return Tuned(study=Path(study), **data)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StudyError(
            f"{path} must be the record of a study, but reading it failed: {error}. "
            "Restore the file, or give another --out."
        ) from error


def write(tuned: Tuned) -> None:
    """Write a study's record."""
    data = asdict(tuned) | {"version": metadata.version("posteriori")}
    del data["study"]
    write_atomically(tuned.study / RECORD, (json.dumps(data, indent=1) + "\n").encode())


def agree(before: Tuned, now: Tuned) -> None:
    """Refuse to go on with a study that is another one.

    Raises:
        StudyError: it names what differs.
    """
    for name in AGREED:
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            raise StudyError(
                f"{before.study} is a study with {name} {_brief(old)}, but {_brief(new)} was "
                "given, and their scores cannot be compared. Give another --out for a new study, "
                f"or leave the {name} as it was."
            )


def _brief(value: Any) -> str:
    return f"of {', '.join(value)}" if isinstance(value, dict) else str(value)
