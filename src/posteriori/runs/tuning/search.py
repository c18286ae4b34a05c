"""What is tried next, and what is given up: Optuna, the only file that knows of it."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posteriori.runs.tuning.space import Space

STARTUP = 5  # trials that are never pruned, for there to be a median
WARM_UP = 0.3  # share of a trial in which it is not pruned: the curves of a start say little
TOP = 0.25  # share of trials that count as good: Optuna's tenth is one trial of ten
FEW = 5  # complete trials below which importances would be noise


class Search:
    """A study in a SQLite file: it is made, or gone on with.

    Trials are known by their numbers. Only one process may use it at a time.

    Args:
        path: Of the file.
        space: What is searched; the same each time.
        steps: Environment steps of a trial.

    Raises:
        ImportError: Optuna is not installed.
    """

    def __init__(self, path: Path, space: Space, steps: int):
        optuna = require_optuna()
        self._optuna, self.space, self.steps = optuna, space, steps
        optuna.logging.get_logger("optuna").setLevel(logging.WARNING)
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
        self._study = optuna.create_study(
            storage=self._storage,
            study_name="posteriori",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(STARTUP, round(WARM_UP * steps)),
        )
        # The same seed again would draw the same values again.
        self._study.sampler = optuna.samplers.TPESampler(seed=len(self._study.trials))
        self._trials: dict[int, Any] = {}

    def close(self) -> None:
        """Close the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def begin_with(self, values: Mapping[str, Any]) -> None:
        """Have a new study try these values first."""
        if not self._study.trials:
            self._study.enqueue_trial(self._stored(values))

    def begun(self) -> int:
        """Return how many trials were ever begun."""
        return sum(trial.state.name != "WAITING" for trial in self._study.trials)

    def left(self) -> dict[int, dict[str, Any]]:
        """Return the values of the trials that a study was stopped in, by number."""
        running = (self._optuna.trial.TrialState.RUNNING,)
        for trial in self._study.get_trials(states=running):
            self._trials[trial.number] = self._optuna.trial.Trial(self._study, trial._trial_id)
        return {number: self._values(trial.params) for number, trial in self._trials.items()}

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Return the number and the values of a new trial."""
        trial = self._study.ask(
            {name: self._distribution(axis) for name, axis in self.space.items()}
        )
        self._trials[trial.number] = trial
        return trial.number, self._values(trial.params)

    def hopeless(self, number: int, curve: Mapping[int, float]) -> bool:
        """Take in a trial's curve, and return whether the median rule gives it up.

        Args:
            number: Of the trial.
            curve: Mean evaluation by step, with what is new at its end.
        """
        trial, known = self._trials[number], self._study.trials[number].intermediate_values
        for step in sorted(set(curve) - set(known)):
            trial.report(curve[step], step)
            if step < self.steps and trial.should_prune():
                return True
        return False

    def tell(self, number: int, state: str, **facts: Any) -> None:
        """End a trial.

        Args:
            number: Of the trial.
            state: "complete", "pruned" or "fail".
            **facts: JSON values to keep beside it; of a complete one, `scores`, each seed's.
        """
        trial = self._trials.pop(number)
        for name, value in facts.items():
            trial.set_user_attr(name, value)
        scores = facts.get("scores")
        value = sum(scores) / len(scores) if scores else None
        self._study.tell(trial, value, state=self._optuna.trial.TrialState[state.upper()])

    def rows(self) -> list[dict[str, Any]]:
        """Return every trial that was begun, as JSON values."""
        return [self._row(trial) for trial in self._study.trials if trial.state.name != "WAITING"]

    def importances(self) -> dict[str, float]:
        """Return each setting's share of what makes a trial good, the largest first (PED-ANOVA)."""
        complete = [trial for trial in self._study.trials if trial.state.name == "COMPLETE"]
        if len(complete) < FEW or len({trial.value for trial in complete}) == 1:
            return {}
        evaluator = self._optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TOP)
        return self._optuna.importance.get_param_importances(self._study, evaluator=evaluator)

    def _row(self, trial: Any) -> dict[str, Any]:
        complete = trial.state.name == "COMPLETE"
        return {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "values": self._values(trial.params),
            "score": trial.value if complete else None,
            "scores": trial.user_attrs.get("scores", []),
            "text": trial.user_attrs.get("text", ""),
            "curve": [list(pair) for pair in sorted(trial.intermediate_values.items())],
        }

    def _distribution(self, axis: Mapping[str, Any]) -> Any:
        distributions = self._optuna.distributions
        if "choices" in axis:
            return distributions.CategoricalDistribution([_label(x) for x in axis["choices"]])
        whole = isinstance(axis["low"], int)
        kind = distributions.IntDistribution if whole else distributions.FloatDistribution
        return kind(axis["low"], axis["high"], log=axis["log"])

    def _stored(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: _label(value) if "choices" in self.space[name] else value
            for name, value in values.items()
        }

    def _values(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return values in the order of the space, with choices as the space has them."""
        return {
            name: next(x for x in axis["choices"] if _label(x) == stored[name])
            if "choices" in axis
            else stored[name]
            for name, axis in self.space.items()
            if name in stored
        }


def require_optuna() -> Any:
    """Return the package.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "`posteriori tune` needs the package optuna, but it is not installed. "
            'Install it with `pip install "posteriori[tune]"`.'
        ) from error
    return optuna


def _label(value: Any) -> Any:
    """Return a choice as Optuna takes it: lists are texts there."""
    return json.dumps(value) if isinstance(value, list) else value
