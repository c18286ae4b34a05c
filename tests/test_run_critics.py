"""What benchmarks say of a run's critics: `benchmarks/agreement.py` and `benchmarks/falls.py`."""

import sys
from pathlib import Path

import agreement
import falls
import gymnasium as gym
import numpy as np
import pytest

import posteriori
from posteriori import Config
from posteriori.runs.estimate import load_estimate
from posteriori.runs.folder import RunFolder


def test_agreement_is_of_the_order_of_actions_and_of_no_scale() -> None:
    one = np.random.default_rng(0).standard_normal((20, 30))
    one -= one.mean(axis=0)
    assert agreement.agreement(one, 5 * one) == pytest.approx(1)
    assert agreement.agreement(one, -one) == pytest.approx(-1)
    other = np.random.default_rng(1).standard_normal((20, 30))
    assert abs(agreement.agreement(one, other - other.mean(axis=0))) < 0.2


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a short run."""
    folder = tmp_path_factory.mktemp("critics") / "run"
    small: dict = {"widths": (8,), "batch_size": 8, "support_points": 5, "learning_starts": 50}
    posteriori.train(
        "Pendulum-v1", run_dir=folder, steps=400, pictures=False, final_episodes=0, **small
    )
    return folder


def test_a_run_is_measured_and_fresh_critics_beside_it(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["agreement.py", str(run_dir), "--fresh", "3"])
    agreement.main()
    said = capsys.readouterr().out
    assert "400 steps: agreement" in said
    assert "fresh, 3 updates: agreement" in said


def test_one_critic_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", env="Pendulum-v1", seed=0)
    folder.write_config("Pendulum-v1", Config(critics=1))
    with pytest.raises(SystemExit, match="two critics"):
        agreement.load(folder.path)


def test_expectations_stand_beside_what_followed_a_fall() -> None:
    walk = falls.Episode(expected=np.full(400, 3.0), reward=np.ones(400))
    fall = falls.Episode(np.arange(12.0), np.r_[np.ones(11), -100.0])
    assert (walk.fell, fall.fell) == (False, True)
    np.testing.assert_allclose(fall.returns(0.5)[-3:], [1 + 0.5 * (1 - 50), 1 - 50, -100])
    said = falls.told([walk, fall, walk], discount=0.9).splitlines()
    assert said[0] == "1 of 3 fell"
    assert said[1] == "  without a fall: expected 3.0, followed by 10.0"
    assert said[2:] == [
        "  1 before: expected 11.0, followed by -100.0",
        f"  10 before: expected 2.0, followed by {fall.returns(0.9)[-10]:.1f}",
    ]


def test_greedy_episodes_of_a_run_are_judged_by_its_critics(run_dir: Path) -> None:
    policy, estimate = load_estimate(run_dir)
    envs = gym.make_vec("Pendulum-v1", num_envs=2)
    first, _ = envs.reset(seed=3)
    expected = estimate(first)
    _, reward, *_ = envs.step(posteriori.load_policy(run_dir)(first))
    episodes = falls.play(policy, estimate, envs, seed=3)
    assert [len(x.reward) for x in episodes] == [200, 200]
    np.testing.assert_allclose([x.expected[0] for x in episodes], expected, rtol=1e-5)
    np.testing.assert_allclose([x.reward[0] for x in episodes], reward, rtol=1e-5)
    assert all(np.isfinite(x.expected).all() for x in episodes)
