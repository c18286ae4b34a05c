"""Environments that fail: how often they may be rebuilt, and what is said beyond that."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """What is put up with.

    Args:
        restarts: How often, over all environments of a process, a failed one is rebuilt.
        timeout: Seconds that an environment in a subprocess may take for a step or a reset.
    """

    restarts: int = 10
    timeout: float = 60.0


class EnvironmentFailed(RuntimeError):
    """An environment failed once more than it may."""


class Failures:
    """Counts failures of the environments of one vector.

    Args:
        patience: How many are allowed.
        name: The environments', for errors.
    """

    def __init__(self, patience: Patience, name: str):
        self.patience, self.name = patience, name
        self.count = 0

    def add(self, env: int | None, cause: Exception) -> str:
        """Count one more, of an environment or of all at once; return what happened.

        Raises:
            EnvironmentFailed: it was one too many.
        """
        self.count += 1
        who, mended = "all environments", "were started anew"
        if env is not None:
            who, mended = f"environment {env}", "was rebuilt"
        allowed = self.patience.restarts
        if self.count > allowed:
            raise EnvironmentFailed(
                f"environments may fail {allowed} times (env_restarts), but {who} of {self.name} "
                f"then failed again: {told(cause)}. Mend the environment, or raise env_restarts."
            ) from cause
        return f"{who} failed ({told(cause)}) and {mended}, {self.count} of {allowed} times"


def told(cause: Exception) -> str:
    """An exception in a line."""
    text = " ".join(str(cause).split()).rstrip(".")
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__
