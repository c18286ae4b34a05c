"""Health warnings: silent on sound runs, and each named when its metrics go wrong."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from small_runs import Counting, small_run

from posteriori import Config, Mpo, resume
from posteriori.runs import loop
from posteriori.runs.health import RULES, Health, documentation
from posteriori.runs.journal import Journal, Notice, read_notices
from posteriori.runs.notices import RunWarning
from posteriori.runs.sinks import Row

# A row of BipedalWalker-v3 with the defaults, after 150,000 steps.
SOUND = {
    "alpha/cov": 24.5,
    "alpha/mean": 0.17,
    "ess/bounds": 0.998,
    "ess/return": 0.897,
    "kl/cov": 1.0,
    "kl/cov/max": 5.9,
    "kl/mean": 0.94,
    "kl/mean/max": 3.7,
    "loss/critic": 0.015,
    "rollout/clipped": 0.41,
    "sigma": 0.2,
    "sigma/0": 0.08,
    "sigma/1": 0.3,
    "temperature/return": 0.0019,
    "value": 2.0,
}
SCALAR = Config(critic="scalar")
TUTORIAL = Config(critic="scalar", scale_rewards=False, clip_rewards=1.0)
SICK: dict[str, tuple[dict[str, float], Config]] = {
    "sigma-collapsed": ({"sigma/0": 0.009}, Config()),
    "sigma-exploding": ({"sigma/1": 2.1}, Config()),
    "temperature-at-bound": ({"temperature/return": 2e-6}, Config()),
    "ess-one-action": ({"ess/return": 0.11}, Config()),
    "ess-all-actions": ({"ess/return": 0.9999}, Config()),
    "kl-runaway": ({"kl/cov": 6.0}, Config()),
    "multiplier-runaway": ({"alpha/mean": 2e5}, Config()),
    "actions-clipped": ({"rollout/clipped": 0.97}, Config()),
    "critic-outside-support": ({"value": -4.8}, Config()),
    "critic-diverging": ({"value": 11.0}, SCALAR),
    "critic-not-fitting": ({"loss/critic": 2.2}, Config()),
    "entropy-collapsed": ({"entropy": 0.002}, Config(policy="categorical")),
}
by_name = {rule.name: rule for rule in RULES}


def warned(rows: list[Row], config: Config) -> list[str]:
    """Return the names that rows warn of, in order."""
    health = Health(config)
    return [name for row in rows for name, _ in health.check(row)]


@pytest.mark.parametrize("name", by_name)
def test_a_rule_warns_after_so_many_rows_on_end_and_not_before(name: str) -> None:
    change, config = SICK[name]
    sick, rows = SOUND | change, by_name[name].rows
    assert warned([sick] * (rows - 1), config) == []
    assert warned([sick] * rows, config) == [name]
    sound = SOUND if name != "entropy-collapsed" else SOUND | {"entropy": 0.5}
    assert warned([*([sick] * (rows - 1)), sound, sick], config) == []


def test_a_row_that_cannot_tell_changes_nothing() -> None:
    sick = SOUND | {"kl/mean": 9.0}
    assert warned([sick, {}, sick, {"evaluation/mean": 1.0}, sick], Config()) == ["kl-runaway"]


@pytest.mark.parametrize(
    "config", [Config(), SCALAR, TUTORIAL, Config(mpo=Mpo(samples=1))], ids=lambda c: c.critic
)
def test_a_sound_row_warns_of_nothing(config: Config) -> None:
    assert warned([SOUND] * 100, config) == []


def test_thresholds_follow_the_settings() -> None:
    raw = SOUND | {"value": 90.0}  # of a largest possible return of 1 / (1 - 0.99) = 100
    assert warned([raw] * 10, TUTORIAL) == []
    assert warned([SOUND | {"value": 210.0}] * 10, TUTORIAL) == ["critic-diverging"]
    assert warned([SOUND | {"value": 1e6}] * 10, Config(critic="scalar", scale_rewards=False)) == []
    # With epsilon 0.001 the weights are nearly equal at the bound: exp(-0.002) = 0.998.
    narrow = Config(mpo=Mpo(epsilon=0.001))
    assert warned([SOUND | {"ess/return": 0.998}] * 20, narrow) == []
    # Two actions of which each counts: 1.6 of 2 are in use, 0.6 of the one beside the best.
    assert warned([SOUND | {"ess/return": 0.8}] * 20, Config(mpo=Mpo(samples=2))) == []


def test_a_categorical_policy_may_become_certain_of_an_action() -> None:
    row = {k: v for k, v in SOUND.items() if not k.startswith("sigma")}
    certain = row | {"entropy": 0.1, "ess/return": 0.5, "temperature/return": 1e-7}
    assert warned([certain] * 20, Config()) == []


RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "exploratory"


def test_there_are_real_runs() -> None:
    assert len(list(RESULTS.glob("*.jsonl"))) > 40


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_real_runs_warn_of_what_went_wrong_in_them(file: Path) -> None:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    # Their multipliers reached 1e7, and the policy drifted: docs/mpo.md, *Differs*.
    sick = file.stem.startswith("runaway")
    assert set(warned(rows, Config())) == ({"multiplier-runaway"} if sick else set())


def test_the_documentation_is_the_rules() -> None:
    page = (Path(__file__).parent.parent / "docs" / "health.md").read_text()
    assert documentation() in page


def test_every_cure_names_settings_that_there_are() -> None:
    settings = {f.name for owner in (Config, Mpo) for f in dataclasses.fields(owner)}
    words = {word for rule in RULES for word in re.findall(r"[a-z]+(?:_[a-z]+)+", rule.cure)}
    assert len(words) > 5
    assert words <= settings


# --- Where warnings go -----------------------------------------------------------------------


class Listening:
    """A sink that takes warnings."""

    def __init__(self) -> None:
        self.heard: list[Notice] = []

    def __call__(self, step: int, metrics: Row) -> None:
        """Take a row."""

    def warn(self, notice: Notice) -> None:
        """Take a warning."""
        self.heard.append(notice)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report every 40 steps, and find something wrong in each row."""
    monkeypatch.setattr(loop, "REPORT_EVERY", 40)
    monkeypatch.setattr(Health, "check", lambda _, row: [("much-ado", f"{len(row)} metrics")])


@pytest.mark.usefixtures("always")
def test_a_warning_is_given_once_and_kept_with_the_run(tmp_path: Path) -> None:
    sink, folder = Listening(), tmp_path / "run"
    run = small_run(Counting, folder, sinks=[sink], learning_starts=10_000, steps=120)
    assert [(notice.step, notice.name) for notice in sink.heard] == [(40, "much-ado")]
    assert list(run.warnings) == sink.heard == read_notices(folder / "warnings.jsonl")
    again = resume(folder, env=Counting, steps=200, sinks=[later := Listening()])
    assert (later.heard, again.warnings) == ([], run.warnings)


@pytest.mark.usefixtures("always")
def test_without_a_sink_that_listens_a_warning_is_pythons(tmp_path: Path) -> None:
    with pytest.warns(RunWarning, match="step 40: much-ado: . metrics"):
        small_run(Counting, tmp_path / "run", learning_starts=10_000, steps=120)


def test_a_resumed_journal_forgets_what_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "warnings.jsonl"
    first = Journal()
    first.listen([Listening()])
    first.open(path)
    assert path.read_text() == ""  # a run without warnings says so
    for step in (10, 20, 30):
        first.tell(step, f"at-{step}", "σ is small")
    with path.open("a") as file:
        file.write('{"step": 40, "na')  # a crash
    resumed = Journal()
    resumed.open(path, resume_step=20)
    assert resumed.notices == first.notices[:2] == read_notices(path)
    assert resumed.told("at-20") and not resumed.told("at-30")


def test_a_warning_that_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    journal = Journal()
    journal.listen([sink := Listening()])
    journal.open(tmp_path / "warnings.jsonl")
    (tmp_path / "warnings.jsonl").unlink()
    (tmp_path / "warnings.jsonl").mkdir()  # which nobody can append to, not even root
    journal.tell(1, "x", "y")
    assert sink.heard == [Notice(1, "x", "y")]
