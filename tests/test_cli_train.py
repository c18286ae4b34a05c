"""`posteriori train` and `resume`: what reaches the library, what is printed, and the exit code."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from commands import RESULT, fails

from posteriori import cli
from posteriori.algorithms.mpo import Mpo
from posteriori.runs import run
from posteriori.runs.config import PRESETS, Config
from posteriori.runs.folder import RunFolder
from posteriori.runs.notices import warn
from posteriori.runs.run import Run, RunFailed


class Trainer:
    """Stands for `train` and `resume`: keeps what it was given, reports a row, and ends as told."""

    def __init__(self, end: BaseException | None = None):
        self.end = end
        self.given: dict[str, Any] = {}

    def __call__(self, subject: Any, *, sinks: Sequence[Any], **given: Any) -> Run:
        self.given = {"subject": subject, **given}
        sinks[0](1000, {"evaluation/mean": 1.5})
        if self.end:
            raise self.end
        return finished(given.get("run_dir", subject))


def finished(run_dir: Path) -> Run:
    """Make a run without networks."""
    made = object.__new__(Run)
    values = {"run_dir": run_dir, "env": "CartPole-v1", "final": RESULT, "steps": 1000}
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trainer:
    made = Trainer()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "train", made)
    monkeypatch.setattr(run, "resume", made)
    return made


def test_train_uses_the_defaults_and_names_a_folder(trainer: Trainer) -> None:
    assert cli.main(["train", "CartPole-v1"]) == 0
    assert trainer.given["subject"] == "CartPole-v1"
    assert trainer.given["config"] == Config()
    assert trainer.given["run_dir"].parent == Path("runs")
    assert trainer.given["run_dir"].name.startswith("CartPole-v1-seed0-")


def test_every_setting_is_an_option(trainer: Trainer) -> None:
    words = ["--seed", "3", "--steps", "5000", "--envs", "2", "--widths", "64", "32"]
    words += ["--epsilon", "0.2", "--no-scale-rewards", "--policy", "full", "--run-dir", "r"]
    assert cli.main(["train", "CartPole-v1", *words]) == 0
    expected = Config(
        seed=3,
        steps=5000,
        envs=2,
        widths=(64, 32),
        scale_rewards=False,
        policy="full",
        mpo=Mpo(epsilon=0.2),
    )
    assert trainer.given == {"subject": "CartPole-v1", "config": expected, "run_dir": Path("r")}


@pytest.mark.parametrize("words", [["--preset", "tutorial"], ["--preset=tutorial"]])
def test_a_preset_changes_defaults_but_not_what_is_given(
    trainer: Trainer, words: list[str]
) -> None:
    assert cli.main(["train", "CartPole-v1", "--n-step", "7", *words]) == 0
    given, tutorial = trainer.given["config"], PRESETS["tutorial"]
    assert given.n_step == 7
    assert given.critic == tutorial.critic
    assert given.mpo == tutorial.mpo


def test_presets_of_the_command_line_are_the_library_s() -> None:
    assert set(get_args(cli.Preset)) == set(PRESETS)


def test_a_setting_that_cannot_work_is_refused_before_a_run_is_announced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["train", "Pendulum-v1", "--epsilon", "nan"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: epsilon must be greater than 0 and finite, but it is nan.")


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(["train", "--help"]) == 0
    text = capsys.readouterr().out
    names = {field.name for field in (*fields(Config), *fields(Mpo))} - {"mpo"}
    for name in names:
        assert f"--{name.replace('_', '-')}" in text
    assert "KL bound of the E-step, nats" in text
    assert f"(default: {Config().steps})" in text


def test_train_ends_with_the_result_and_the_next_commands(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["train", "CartPole-v1", "--run-dir", "r", "--quiet"])
    first, *rest = capsys.readouterr().out.splitlines()
    assert trainer.given
    assert first == (
        "CartPole-v1: mean return 1.5 ± 0.5 over 2 greedy episodes (worst 1.0, best 2.0)"
    )
    assert rest == [
        "The run is in r. Next:",
        "  posteriori evaluate r",
        "  posteriori watch r",
        "  posteriori report r",
    ]


def test_resume_passes_the_folder_and_the_new_total(trainer: Trainer, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "r", env="CartPole-v1", seed=0)
    folder.write_config("CartPole-v1", Config())
    assert cli.main(["resume", str(folder.path), "--steps", "9000"]) == 0
    assert trainer.given == {"subject": folder.path, "env": None, "steps": 9000}


def test_an_interrupted_run_says_how_to_go_on(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.end = KeyboardInterrupt()
    Path("r/checkpoints").mkdir(parents=True)
    assert cli.main(["train", "CartPole-v1", "--run-dir", "r"]) == 130
    assert "posteriori resume r" in capsys.readouterr().err


def test_a_run_interrupted_before_it_was_saved_promises_nothing(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.end = KeyboardInterrupt()
    assert cli.main(["train", "CartPole-v1", "--run-dir", "r"]) == 130
    assert capsys.readouterr().err == ""


def test_a_terminated_run_says_how_to_go_on_and_leaves_with_its_code(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.end = SystemExit(143)
    Path("r/checkpoints").mkdir(parents=True)
    assert fails(["train", "CartPole-v1", "--run-dir", "r"]) == 143
    assert capsys.readouterr().err.endswith("Continue with:\n  posteriori resume r\n")


def test_a_warning_of_a_run_is_a_line_each_time(
    trainer: Trainer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned(subject: Any, **given: Any) -> Run:
        for _ in range(2):
            warn("the disk is full.")
        return trainer(subject, **given)

    monkeypatch.setattr(run, "train", warned)
    assert cli.main(["train", "CartPole-v1", "--quiet"]) == 0
    assert capsys.readouterr().err == "warning: the disk is full.\n" * 2


def test_a_failed_run_is_one_line_and_exit_code_1(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.end = RunFailed("CartPole-v1, step 7: loss is not finite.")
    assert cli.main(["train", "CartPole-v1"]) == 1
    assert capsys.readouterr().err == "error: CartPole-v1, step 7: loss is not finite.\n"


def test_a_fault_of_the_code_keeps_its_traceback(trainer: Trainer) -> None:
    trainer.end = ValueError("raised by this test, not by the library")
    with pytest.raises(ValueError, match="raised by this test"):
        cli.main(["train", "CartPole-v1"])
