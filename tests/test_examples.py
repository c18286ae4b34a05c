"""Each example runs, with fewer steps, and says what it should."""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("name", "steps", "said"),
    [
        ("pendulum", 200, r"mean return -\d+ over 20 episodes\none more episode: -\d+\n"),
        (
            "own_environment",
            600,
            r" +600 +-\d+\.\d\nmean return -\d+\.\d, actions such as \[.* .*\]\n",
        ),
        ("own_networks", 600, r"mean length \d+ steps\n"),
        ("own_preference", 200, r"(?:[\w ]+: mean return -\d+, effort \d+\.\d\d\n){2}"),
    ],
)
def test_example(
    name: str,
    steps: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "--steps", str(steps)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert re.fullmatch(said, capsys.readouterr().out)
    assert all((run / "config.json").exists() for run in (tmp_path / "runs").iterdir())


def test_every_example_is_run_and_short() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert [script.stem for script in scripts] == [
        "own_environment",
        "own_networks",
        "own_preference",
        "pendulum",
    ]
    assert all(len(script.read_text().splitlines()) <= 40 for script in scripts)
