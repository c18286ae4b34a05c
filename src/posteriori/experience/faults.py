"""Environments that fail: how often they may be rebuilt, and what is said beyond that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# What an environment may raise; sys.exit() is how many a game ends itself.
FAULTS = (Exception, SystemExit)


@dataclass
class Patience:
    """What is put up with by all vectors of a run together, and how much of it is used up.

    Args:
        restarts: How often, over all environments of a process, a failed one is rebuilt.
        timeout: Seconds that an environment in a subprocess may take for a step or a reset.
        failures: How many there were so far.
    """

    restarts: int = 10
    timeout: float = 60.0
    failures: int = 0


class EnvironmentFailed(RuntimeError):
    """An environment failed once more than it may."""


class Failures:
    """Counts failures of the environments of one vector.

    Args:
        patience: How many are allowed, in this vector and others.
        name: The environments', for errors.
        where: What they are stepped for, if not for training: " in an evaluation".
    """

    def __init__(self, patience: Patience, name: str, where: str = ""):
        self.patience, self.name, self.where = patience, name, where

    def add(self, env: int | None, cause: BaseException) -> str:
        """Count one more, of an environment or of all at once; return what happened.

        Raises:
            EnvironmentFailed: it was one too many.
        """
        self.patience.failures += 1
        count, allowed = self.patience.failures, self.patience.restarts
        who, mended = "all environments", "were started anew"
        if env is not None:
            who, mended = f"environment {env}", "was rebuilt"
        if count > allowed:
            raise EnvironmentFailed(
                f"environments may fail {allowed} times (env_restarts), but then {who} of "
                f"{self.name}{self.where} failed: {told(cause)}. Mend the environment"
                f"{', or raise env_restarts' if allowed else ''}."
            ) from cause
        return f"{who}{self.where} failed ({told(cause)}) and {mended}, {count} of {allowed} times"


def announce(restarts: Mapping[int, str], then: str, tell: Callable[[str, str], None]) -> None:
    """Tell, by name and text, of environments that were rebuilt; of several at once a single time.

    Args:
        restarts: By environment, what happened.
        then: What becomes of their unfinished episodes.
        tell: Hears of it.
    """
    for text in dict.fromkeys(restarts.values()):
        tell("environment-restarted", f"{text}. {then}")


def told(cause: BaseException) -> str:
    """An exception in a line."""
    text = " ".join(str(cause).split()).rstrip(".")
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__
