"""Progress: what a user reads of a run, on a terminal, in a log, or not at all."""

import io
import math
import sys
import time

import pytest
from rich.console import Console

from posteriori.runs.figures import clock, number
from posteriori.runs.journal import Notice
from posteriori.runs.panel import METER, Board, health, meter, panel, sparkline
from posteriori.runs.terminal import LiveView, PlainLines, progress

ROW = {
    "rollout/return": 231.5,
    "rollout/length": 912.0,
    "rollout/clipped": 0.12,
    "progress/episodes": 312,
    "progress/seconds": 3725.0,
    "speed/steps": 100.0,
    "speed/updates": 50.0,
    "kl/mean": 0.97,
    "kl/mean/max": 1.9,
    "kl/cov": 2.4,
    "kl/cov/max": 3.1,
    "ess/return": 0.34,
    "sigma": 0.31,
    "sigma/0": 0.22,
    "sigma/1": 0.41,
}
EVALUATION = {
    "evaluation/mean": 287.4,
    "evaluation/std": 12.3,
    "evaluation/min": 251.0,
    "evaluation/max": 301.0,
    "evaluation/best": 287.4,
}


def shown(board: Board, width: int = 80, name: str = "Walker") -> list[str]:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(panel(board, name, width, ""))
    return console.export_text().splitlines()


def board() -> Board:
    made = Board(400_000)
    made.add(248_000, ROW)
    made.add(250_000, EVALUATION)
    return made


def test_the_panel_tells_pace_returns_and_health() -> None:
    text = "\n".join(shown(board()))
    assert "62%  250,000 / 400,000 steps" in text
    # 150,000 steps are left, at 100 a second: 1500 s.
    for words in ("1:02:05", "25:00", "312", "287.4", "± 12.3, 251.0 to 301.0", "at 250,000 steps"):
        assert words in text
    for words in ("at the bound, largest 1.90", "far above, largest 3.10", "34%", "0.22 to 0.41"):
        assert words in text


def test_the_panel_fits_eighty_columns_without_cuts() -> None:
    lines = shown(board())
    assert {len(line) for line in lines} == {80}
    assert not any("…" in line for line in lines)


def test_a_name_is_no_markup() -> None:
    assert "runs/[red]x" in shown(board(), name="runs/[red]x")[0]


def test_a_row_without_news_keeps_the_last_news() -> None:
    made = board()
    made.add(251_000, {"rollout/return": math.nan, "sigma": math.inf, "evaluation/mean": math.nan})
    assert made.get("rollout/return") == 231.5
    assert made.get("sigma") == 0.31
    assert made.evaluations == [287.4]
    assert shown(made)


def test_the_best_evaluation_keeps_its_step_and_one_from_before_has_none() -> None:
    made = board()
    made.add(260_000, EVALUATION | {"evaluation/mean": 200.0})
    assert (made.best, made.best_step) == (287.4, 250_000)
    resumed = Board(400_000)
    resumed.add(260_000, EVALUATION | {"evaluation/mean": 200.0})
    assert (resumed.best, resumed.best_step) == (287.4, None)
    assert any("earlier" in line for line in shown(resumed))


def test_a_categorical_policy_has_its_entropy_shown() -> None:
    made = Board(100)
    made.add(1, {"entropy": 0.69, "entropy/0": 0.69, "kl/policy": 0.5, "kl/policy/max": 0.5})
    text = "\n".join(shown(made))
    assert "entropy" in text
    assert "KL policy/bound" in text


@pytest.mark.parametrize(
    ("ratio", "word"),
    [(0.5, "inside"), (1.0, "at the bound"), (1.5, "above"), (2.5, "far above")],
)
def test_health_is_a_word(ratio: float, word: str) -> None:
    assert health(ratio) == word


def test_a_meter_is_as_full_as_its_share() -> None:
    for share, full in ((-1.0, 0), (0.0, 0), (0.5, METER // 2), (1.0, METER), (7.0, METER)):
        assert meter(share).count("━") == full
    assert meter(math.nan) == ""


def test_a_sparkline_keeps_the_last_value_and_its_width() -> None:
    assert sparkline([0.0, 7.0]) == "▁█"
    assert sparkline([3.0]) == "▁"
    line = sparkline([0.0] * 100 + [1.0])
    assert line == "▁" * (METER - 1) + "█"


def test_numbers_and_times_are_short() -> None:
    assert [number(v) for v in (1.25, -12345.6, math.nan)] == ["1.2", "-12,346", "–"]
    assert [clock(v) for v in (65.2, 3605.0, math.inf)] == ["1:05", "1:00:05", "–"]


def test_the_live_view_draws_and_leaves_the_last_state() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    with LiveView(250_000, "Walker", console) as view:
        assert "starting" in out.getvalue()
        view(248_000, ROW)
        view(250_000, EVALUATION)  # too soon to be drawn by itself
    last = out.getvalue().rpartition("posteriori")[2]
    assert "250,000 / 250,000 steps" in last
    assert "finishing" not in last


def test_the_live_view_says_that_a_run_is_finishing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posteriori.runs.terminal.REFRESH", 0.0)
    out = io.StringIO()
    with LiveView(248_000, "Walker", Console(file=out, force_terminal=True, width=80)) as view:
        view(248_000, ROW)
        assert "finishing: last evaluation" in out.getvalue()


NOTICE = Notice(12_000, "kl-runaway", "[x] is large. Likely cause: y Try: z")


def test_a_warning_stays_above_the_panel_and_its_name_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("posteriori.runs.terminal.REFRESH", 0.0)
    out = io.StringIO()
    with LiveView(250_000, "Walker", Console(file=out, force_terminal=True, width=80)) as view:
        view.warn(NOTICE)
        view(248_000, ROW)
    above, _, last = out.getvalue().rpartition("posteriori")
    assert "step 12,000: kl-runaway: [x] is large." in " ".join(above.split())
    assert "warnings: kl-runaway at 12,000" in last


def test_a_warning_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    PlainLines(400_000, "Walker").warn(NOTICE)
    assert capsys.readouterr().out == f"warning: step 12,000: kl-runaway: {NOTICE.text}\n"


def test_lines_are_printed_at_evaluations_and_else_seldom(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with PlainLines(400_000, "Walker in runs/x") as lines:
        lines(1000, ROW)
        lines(2000, ROW)
        lines(3000, EVALUATION)
        now = 11.0
        lines(4000, ROW)
    name, *rest = capsys.readouterr().out.splitlines()
    assert name == "Walker in runs/x"
    assert [line.split("/")[0].strip() for line in rest] == ["1,000", "3,000", "4,000"]
    assert "evaluation 287.4 ± 12.3 (best 287.4) ▁  KL" in rest[1]
    assert "KL/bound mean 0.97 cov 2.40  sigma 0.31  100 steps/s  1:06:10 left" in rest[1]


def test_progress_is_live_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(progress(1, "x", quiet=False), PlainLines)
    with progress(1, "x", quiet=True) as sink:
        sink(1, EVALUATION)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert isinstance(progress(1, "x", quiet=False), LiveView)


def test_training_returns_are_a_sparkline_beside_the_evaluations_one() -> None:
    made = board()
    made.add(251_000, {"rollout/return": 300.0})
    made.add(252_000, EVALUATION | {"evaluation/mean": 300.0})
    lines = shown(made)
    assert any("evaluation" in line and "▁█" in line for line in lines)
    assert any("training" in line and "▁█" in line for line in lines)
    assert {len(line) for line in lines} == {80}


def test_a_log_that_cannot_hold_a_sparkline_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", log)
    with PlainLines(400_000, "Walker") as lines:
        lines(3000, ROW | EVALUATION)
    log.seek(0)
    assert "(best 287.4)  KL" in log.read()
