"""Signals: the first asks, the second ends."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from posteriori.runs.stopping import stop_signals

PROGRAM = """
import signal, sys
from posteriori.runs.stopping import stop_signals
with stop_signals() as stop:
    for name in sys.argv[1:]:
        print(stop(), flush=True)
        try:
            signal.raise_signal(getattr(signal, name))
        finally:
            print("after", name, flush=True)
    stop.leave()
"""


def run(*signals: str) -> tuple[int, list[str]]:
    """Raise signals in a program that waits for a good moment; return its exit code and words."""
    command = [sys.executable, "-c", PROGRAM, *signals]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(
    ("signals", "code", "words"),
    [
        (["SIGTERM"], 143, ["False", "after SIGTERM"]),
        (["SIGINT"], -signal.SIGINT, ["False", "after SIGINT"]),
        (["SIGTERM", "SIGTERM"], 143, ["False", "after SIGTERM", "True"]),  # nothing is tidied up
        (["SIGINT", "SIGTERM"], 143, ["False", "after SIGINT", "True"]),
        (
            ["SIGTERM", "SIGINT"],
            -signal.SIGINT,
            ["False", "after SIGTERM", "True", "after SIGINT"],
        ),
    ],
)
def test_the_first_signal_asks_and_a_second_ends(
    signals: list[str], code: int, words: list[str]
) -> None:
    assert run(*signals) == (code, words)


@pytest.fixture
def own_handler() -> Iterator[list[int]]:
    """Install a handler of a program's own; return what it was called with."""
    called: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: called.append(signum))
    yield called
    signal.signal(signal.SIGTERM, before)


def test_a_second_signal_goes_to_the_handler_that_a_program_has(own_handler: list[int]) -> None:
    with stop_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        assert own_handler == []
        signal.raise_signal(signal.SIGTERM)
        assert own_handler == [signal.SIGTERM]
    signal.raise_signal(signal.SIGTERM)
    assert len(own_handler) == 2
