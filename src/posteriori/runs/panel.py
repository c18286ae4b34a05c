"""What a run's panel shows: pace, returns, and the health of the constraints."""

import math

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from posteriori.runs.figures import clock, number
from posteriori.runs.journal import Notice
from posteriori.runs.sinks import Row

WIDTH = 100  # columns at most
METER = 16  # columns of a bar
LEVELS = "▁▂▃▄▅▆▇█"


class Board:
    """What was last heard of each metric, and the returns so far."""

    def __init__(self, total_steps: int):
        self.total, self.step = total_steps, 0
        self.last: dict[str, int | float] = {}
        self.evaluations: list[float] = []
        self.rollouts: list[float] = []
        self.best = -math.inf
        self.warnings: dict[str, int] = {}  # by name, the step of the last one
        self.best_step: int | None = None  # None: before this process, in a resumed run

    def add(self, step: int, metrics: Row) -> None:
        """Take in a row; a number that is not finite is passed over, since it cannot be drawn."""
        self.step = step
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self.last |= metrics
        if "rollout/return" in metrics:
            self.rollouts.append(metrics["rollout/return"])
        if (mean := metrics.get("evaluation/mean")) is None:
            return
        self.evaluations.append(mean)
        if mean > self.best:
            self.best, self.best_step = mean, step
        if (ever := metrics.get("evaluation/best", mean)) > self.best:
            self.best, self.best_step = ever, None

    def warn(self, notice: Notice) -> None:
        """Take in a warning."""
        self.warnings[notice.name] = notice.step

    def get(self, name: str) -> float:
        """Return the last value, NaN if there was none."""
        return float(self.last.get(name, math.nan))

    def seconds_left(self) -> float:
        """Return the seconds to the last step at the current speed, NaN before it is known."""
        speed = self.get("speed/steps")
        return (self.total - self.step) / speed if speed > 0 else math.nan

    def regions(self) -> list[str]:
        """Return the names of the trust regions, in the order of their metrics."""
        names = [name.split("/")[1] for name in self.last if name.startswith("kl/")]
        return list(dict.fromkeys(names))

    def spreads(self) -> list[str]:
        """Return which measures of exploration there are."""
        return [kind for kind in ("sigma", "entropy") if kind in self.last]


def panel(board: Board, name: str, width: int, note: str) -> Panel:
    """Draw the board on so many columns, with a note below; it is made for 80 columns and more."""
    body = [_bar(board)]
    if board.last:
        body += [Text(), _pace(board), Text(), _returns(board), Text(), _health(board)]
    if board.warnings:
        names = ", ".join(f"{name} at {step:,}" for name, step in board.warnings.items())
        body += [Text(), Text(f"warnings: {names}", style="yellow")]
    if note:
        body.append(Text(note, style="dim"))
    title = f"[bold]posteriori[/] · {escape(name)}"
    width = min(WIDTH, width)
    return Panel(Group(*body), title=title, title_align="left", width=width, border_style="cyan")


def _bar(board: Board) -> RenderableType:
    share = board.step / max(board.total, 1)
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(ratio=1)
    row.add_column(justify="right")
    bar = ProgressBar(max(board.total, 1), min(board.step, board.total), complete_style="cyan")
    row.add_row(bar, f"[bold]{share:.0%}[/]  {board.step:,} / {board.total:,} steps")
    return row


def _pace(board: Board) -> RenderableType:
    pairs = {
        "elapsed": clock(board.get("progress/seconds")),
        "left": clock(board.seconds_left()),
        "episodes": number(board.get("progress/episodes"), 0),
        "steps/s": number(board.get("speed/steps"), 0),
        "updates/s": number(board.get("speed/updates"), 0),
    }
    table = Table.grid(expand=True, padding=(0, 1))
    for _ in pairs:
        table.add_column(ratio=1, no_wrap=True)
    table.add_row(*pairs, style="dim")
    table.add_row(*pairs.values())
    return table


def _returns(board: Board) -> RenderableType:
    table, get = _grid(), board.get
    if board.evaluations:
        reach = f"{number(get('evaluation/min'))} to {number(get('evaluation/max'))}"
        note = f"± {number(get('evaluation/std'))}, {reach}"
        table.add_row(
            "evaluation", number(get("evaluation/mean")), sparkline(board.evaluations), note
        )
        where = "earlier" if board.best_step is None else f"at {board.best_step:,} steps"
        table.add_row("best", f"[green]{number(board.best)}[/]", "", where)
    length = f"{number(get('rollout/length'), 0)} steps, exploring"
    curve = sparkline(board.rollouts) if board.rollouts else ""
    table.add_row("training", number(get("rollout/return")), curve, length)
    return table


def _health(board: Board) -> RenderableType:
    table = _grid()
    for region in board.regions():
        ratio, worst = board.get(f"kl/{region}"), board.get(f"kl/{region}/max")
        note = f"{_coloured(health(ratio))}, largest {worst:.2f}"
        table.add_row(f"KL {region}/bound", f"{ratio:.2f}", meter(ratio / 2, mark=0.5), note)
    for name in [name for name in board.last if name.startswith("ess/")]:
        share = board.get(name)
        label = name.replace("ess/", "ESS ")
        table.add_row(label, f"{share:.0%}", meter(share), "of actions carry the weights")
    for kind in board.spreads():
        values = [v for k, v in board.last.items() if k.startswith(f"{kind}/")]
        note = f"{min(values):.2f} to {max(values):.2f} over dimensions" if len(values) > 1 else ""
        table.add_row(kind, f"{board.get(kind):.2f}", meter(board.get(kind)), note)
    clipped = board.get("rollout/clipped")
    if not math.isnan(clipped):
        table.add_row("clipped", f"{clipped:.0%}", meter(clipped), "of action entries")
    return table


def _grid() -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="dim", width=15, no_wrap=True)
    table.add_column(justify="right", width=9, no_wrap=True)
    table.add_column(width=METER, no_wrap=True)
    table.add_column(ratio=1, no_wrap=True)
    return table


def health(ratio: float) -> str:
    """Say how a constraint stands, from KL / bound; MPO's multipliers hold it near 1."""
    if ratio <= 0.8:
        return "inside"
    return "at the bound" if ratio <= 1.25 else "above" if ratio <= 2 else "far above"


def _coloured(word: str) -> str:
    colour = {"above": "yellow", "far above": "red"}.get(word, "green")
    return f"[{colour}]{word}[/]"


def meter(share: float, mark: float | None = None) -> str:
    """Draw a share of 0 to 1 as a bar with a track, and a mark on it; what lies outside is cut."""
    if math.isnan(share):
        return ""
    full = round(min(max(share, 0.0), 1.0) * METER)
    cells = ["━"] * full + ["[dim]─[/]"] * (METER - full)
    if mark is not None:
        cells[round(mark * METER)] = "┿" if full > mark * METER else "[dim]┼[/]"
    return "".join(cells)


def sparkline(values: list[float]) -> str:
    """Draw values as a row of blocks; more than fit are thinned, the last one kept."""
    n = min(len(values), METER)
    picked = [values[(i + 1) * len(values) // n - 1] for i in range(n)]
    low, high = min(picked), max(picked)
    span = (high - low) or 1.0
    return "".join(LEVELS[round((value - low) / span * (len(LEVELS) - 1))] for value in picked)
