"""The progress of a run on a terminal: a live panel, or plain lines where there is no terminal."""

import math
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape

from posteriori.runs.figures import clock, number
from posteriori.runs.journal import Notice
from posteriori.runs.panel import Board, panel, sparkline
from posteriori.runs.sinks import Row, Sink

REFRESH = 0.1  # seconds between two drawings at least: rows of a fast run come more often
LINE_EVERY = 10.0  # seconds between plain lines, evaluations aside


def progress(total_steps: int, name: str, quiet: bool) -> AbstractContextManager[Sink]:
    """Choose how progress is shown: a live panel on a terminal, lines elsewhere, nothing if quiet.

    Args:
        total_steps: Environment steps that the run goes to.
        name: Of the run, in the panel's title.
        quiet: Whether to show nothing.
    """
    if quiet:
        return nullcontext(lambda _step, _metrics: None)
    return (LiveView if sys.stdout.isatty() else PlainLines)(total_steps, name)


class LiveView:
    """A panel that is redrawn in place; both a sink and a context manager.

    Args:
        total_steps: Environment steps that the run goes to.
        name: Of the run, for the title.
        console: Where to draw; standard output by default.
    """

    def __init__(self, total_steps: int, name: str, console: Console | None = None):
        self.board, self.name = Board(total_steps), name
        self._live = Live(self, console=console, auto_refresh=False)
        self._drawn = -math.inf
        self._open = True

    def __enter__(self) -> "LiveView":
        self._live.start()
        self._live.refresh()
        return self

    def __call__(self, step: int, metrics: Row) -> None:
        """Take in a row and show it."""
        self.board.add(step, metrics)
        if time.monotonic() - self._drawn >= REFRESH:
            self._live.refresh()
            self._drawn = time.monotonic()

    def warn(self, notice: Notice) -> None:
        """Say it above the panel, where it stays, and keep its name in the panel."""
        self.board.warn(notice)
        self._live.console.print(f"[yellow]warning[/] {escape(str(notice))}", highlight=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._live.transient = error is not None and not self.board.last
        self.close()

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._open = False
        self._live.stop()

    def __rich__(self) -> RenderableType:
        note = "" if self.board.last else "starting"
        if self.board.step >= self.board.total and self._open:
            note = "finishing: last evaluation, learning curves, video"
        return panel(self.board, self.name, self._live.console.width, note)


class PlainLines:
    """A line for every evaluation, and now and then one between; both a sink and a context manager.

    Args:
        total_steps: Environment steps that the run goes to.
        name: Of the run, for the first line.
    """

    def __init__(self, total_steps: int, name: str):
        self.board, self.name = Board(total_steps), name
        self._printed = -math.inf

    def __enter__(self) -> "PlainLines":
        print(self.name, flush=True)
        return self

    def __call__(self, step: int, metrics: Row) -> None:
        """Take in a row, and print it if it is time."""
        self.board.add(step, metrics)
        evaluated = "evaluation/mean" in metrics
        if evaluated or time.monotonic() - self._printed >= LINE_EVERY:
            print(_line(self.board, evaluated=evaluated), flush=True)
            self._printed = time.monotonic()

    def warn(self, notice: Notice) -> None:
        """Print a line."""
        print(f"warning: {notice}", flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is pending."""


def _line(board: Board, *, evaluated: bool) -> str:
    parts = [f"{board.step:>9,}/{board.total:,}", f"return {number(board.get('rollout/return'))}"]
    if evaluated:
        mean, std = board.get("evaluation/mean"), board.get("evaluation/std")
        text = f"evaluation {number(mean)} ± {number(std)} (best {number(board.best)})"
        parts.append(f"{text} {_curve(board)}".rstrip())
    kls = [f"{region} {board.get(f'kl/{region}'):.2f}" for region in board.regions()]
    parts += [f"KL/bound {' '.join(kls)}"] if kls else []
    parts += [f"{kind} {board.get(kind):.2f}" for kind in board.spreads()]
    parts.append(f"{number(board.get('speed/steps'), 0)} steps/s")
    parts.append(f"{clock(board.seconds_left())} left")
    return "  ".join(parts)


def _curve(board: Board) -> str:
    """Return the evaluations so far as a sparkline; nothing where the log cannot hold one."""
    curve = sparkline(board.evaluations)
    try:
        curve.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return ""
    return curve
