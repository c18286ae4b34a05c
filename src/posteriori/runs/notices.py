"""What a run says while it goes on: a Python warning, which the command line prints as a line."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class RunWarning(UserWarning):
    """Something that a user should know of, while the run goes on."""


def warn(text: str) -> None:
    """Warn of something that a user can see to while the run goes on."""
    warnings.warn(RunWarning(text), stacklevel=3)


@contextmanager
def told() -> Iterator[None]:
    """Within, a run's warning is a line on stderr, `warning: ...`, each time that it is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RunWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if issubclass(category, RunWarning):
                print(f"warning: {message}", file=sys.stderr, flush=True)
            else:
                others(message, category, *where)

        warnings.showwarning = show
        yield
