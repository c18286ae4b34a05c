"""SIGINT and SIGTERM: the first asks for a stop after the current step, a second stops at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

TERMINATED = 128 + signal.SIGTERM  # the exit code, by the shells' convention


class Stop:
    """Whether somebody has asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.signum is not None

    def leave(self) -> NoReturn:
        """End as the signal asks: KeyboardInterrupt after SIGINT, SystemExit(143) after SIGTERM."""
        if self.signum == signal.SIGTERM:
            raise SystemExit(TERMINATED)
        raise KeyboardInterrupt


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Within, note the first SIGINT or SIGTERM; outside the main thread, leave signals alone."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's signature
        stop.signum = signum
        for each, handler in _AT_ONCE.items():
            signal.signal(each, handler if previous[each] in _OWN else previous[each])

    previous = {each: signal.signal(each, ask) for each in _AT_ONCE}
    try:
        yield stop
    finally:
        for each, handler in previous.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)


def _end(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a handler's signature
    os._exit(TERMINATED)


_AT_ONCE = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _end}
# What a process begins with, or a shell gave one in the background; other handlers are a program's.
_OWN = (None, signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
