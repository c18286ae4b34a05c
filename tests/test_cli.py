"""The command line: its help, its other commands, bad usage and bad input, and the exit code."""

import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from commands import RESULT, fails

from posteriori import cli
from posteriori.algorithms.mpo import Mpo
from posteriori.runs import evaluate
from posteriori.runs.config import Config
from posteriori.runs.evaluate import Evaluation


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["train", "Cartpoel-v1"], "error: env must be a registered environment id"),
        (["train", "CartPole-v1", "--steps", "-5"], "error: steps must be"),
        (["evaluate", "nowhere"], "error: nowhere must be the folder of a run"),
        (["watch", "nowhere"], "error: nowhere must be the folder of a run"),
        (["resume", "nowhere"], "error: nowhere must be the folder of a run"),
        (["plot"], "error: There must be a run to plot"),
        (["envs", "no such id"], "error: PATTERN must be part of an environment's id"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(text)
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["train", "CartPole-v1", "--epsiln", "1"], "--epsilon"),
        (["train", "CartPole-v1", "--preset", "nope"], "tutorial"),
        (["trian"], "train"),
        (["evaluate", "r", "--episodes", "many"], "many"),
    ],
)
def test_bad_usage_is_told_and_exit_code_2(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(words) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.out == ""


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    given: dict[str, Any] = {}

    def fake(run_dir: Path, env: str | None, **options: Any) -> Evaluation:
        given.update(run_dir=run_dir, env=env, **options)
        return RESULT

    monkeypatch.setattr(evaluate, "evaluate", fake)
    return given


def test_evaluate_prints_one_json_object(
    evaluated: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "r", "--episodes", "2", "--seed", "5", "--json", "--best"]
    assert cli.main(words) == 0
    assert evaluated == {"run_dir": Path("r"), "episodes": 2, "seed": 5, "best": True, "env": None}
    printed = json.loads(capsys.readouterr().out)
    expected = {
        "env": "CartPole-v1",
        "episodes": 2,
        "mean": 1.5,
        "std": 0.5,
        "min": 1.0,
        "max": 2.0,
    }
    assert printed == expected | {"returns": [1.0, 2.0], "lengths": [10, 20], "steps": 30}


def test_evaluate_prints_a_sentence(
    evaluated: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", "r"]) == 0
    assert evaluated["episodes"] == 100
    assert capsys.readouterr().out.startswith("CartPole-v1: mean return 1.5 ± 0.5 over 2")


def test_envs_lists_ids_and_what_runs_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["envs", "cartpole-v1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("CartPole-v1 ") and "gymnasium" in line for line in lines)


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("posteriori 0.")


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_no_words_or_help_list_the_commands(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(words) == 0
    text = capsys.readouterr().out
    for command in ("train", "resume", "evaluate", "watch", "plot", "tune", "envs"):
        assert f"• {command} " in text


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    """`posteriori envs | head -1`: the pipe may close before the list is written."""
    program = "import sys; from posteriori.cli import main; sys.exit(main(['envs', 'cartpole-v1']))"
    lister = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # so that it is written at the end, at once
    )
    assert lister.stdout
    lister.stdout.close()
    assert lister.stderr
    assert b"Broken" not in lister.stderr.read()
    lister.stderr.close()
    assert lister.wait() == 0


def test_help_does_not_wait_for_jax() -> None:
    program = (
        "import sys; from posteriori.cli import main; main(['--version'])\n"
        "try: main(['--help'])\n"
        "except SystemExit: assert 'jax' not in sys.modules; print('quick')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.endswith("quick\n")


def test_the_completion_script_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of `train` too, whose options are otherwise left out until they are needed."""
    with contextlib.suppress(SystemExit):
        cli.main(["--tyro-print-completion", "bash"])
    script = capsys.readouterr().out
    for field in [*fields(Mpo), *fields(Config)]:
        assert field.name == "mpo" or f"--{field.name.replace('_', '-')}'" in script
    assert "--trials'" in script
    # A line of a docstring that begins with no letter stays a line of its own, which bash would
    # offer as an option.
    assert not re.search(r"'description': ('[^']*|\"[^\"]*)\\n", script)
