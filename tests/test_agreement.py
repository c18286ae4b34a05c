"""How far critics agree: `benchmarks/agreement.py`."""

import sys
from pathlib import Path

import agreement
import numpy as np
import pytest

import posteriori
from posteriori import Config
from posteriori.runs.folder import RunFolder


def test_agreement_is_of_the_order_of_actions_and_of_no_scale() -> None:
    one = np.random.default_rng(0).standard_normal((20, 30))
    one -= one.mean(axis=0)
    assert agreement.agreement(one, 5 * one) == pytest.approx(1)
    assert agreement.agreement(one, -one) == pytest.approx(-1)
    other = np.random.default_rng(1).standard_normal((20, 30))
    assert abs(agreement.agreement(one, other - other.mean(axis=0))) < 0.2


def test_a_run_is_measured_and_fresh_critics_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small: dict = {"widths": (8,), "batch_size": 8, "support_points": 5, "learning_starts": 50}
    run = posteriori.train(
        "Pendulum-v1",
        run_dir=tmp_path / "run",
        steps=400,
        pictures=False,
        final_episodes=0,
        **small,
    )
    monkeypatch.setattr(sys, "argv", ["agreement.py", str(run.run_dir), "--fresh", "3"])
    agreement.main()
    said = capsys.readouterr().out
    assert "400 steps: agreement" in said
    assert "fresh, 3 updates: agreement" in said


def test_one_critic_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", env="Pendulum-v1", seed=0)
    folder.write_config("Pendulum-v1", Config(critics=1))
    with pytest.raises(SystemExit, match="two critics"):
        agreement.load(folder.path)
