"""Runs whose environments fail: they go on and say so, or end with the cause."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from faulty import Faulty, posix
from numpy.typing import NDArray
from small_runs import UNLEARNED, Counting, small_run
from small_runs import replay as replay_of

from posteriori import RunFailed, evaluate, resume
from posteriori.experience.envs import make_reference
from posteriori.experience.faults import EnvironmentFailed
from posteriori.runs import checkpoint
from posteriori.runs.artifacts import film
from posteriori.runs.evaluate import run_episodes
from posteriori.runs.journal import read_notices
from posteriori.runs.notices import RunWarning


def zeros(obs: NDArray) -> NDArray:
    """Act with zero, which lies within the bounds of `Counting`."""
    return np.zeros((len(obs), 2), np.float32)


class Late(Faulty):
    """Its second reset fails: the first is the one by which an environment is checked."""

    def __init__(self, flag: Path):
        super().__init__(flag, "none")
        self.resets = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        """Start an episode, or fail."""
        self.resets += 1
        if self.resets == 2 and self.first():
            raise OSError("locked")
        return super().reset(seed=seed, options=options)

    def step(self, action: NDArray) -> tuple:
        """Count on."""
        return Counting.step(self, action)


# --- Training --------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize(("backend", "fault"), [("gymnasium", "raise"), ("subprocess", "kill")])
def test_a_run_goes_on_and_says_what_happened(backend: str, fault: str, tmp_path: Path) -> None:
    flag, folder = tmp_path / "flag", tmp_path / "run"
    settings = UNLEARNED | {"envs": 1, "backend": backend, "steps": 40}
    with pytest.warns(RunWarning, match="step 2: environment-restarted: environment 0 failed"):
        run = small_run(lambda: Faulty(flag, fault), folder, **settings)
    (notice,) = run.warnings
    assert read_notices(folder / "warnings.jsonl") == [notice]
    assert (notice.step, notice.name) == (2, "environment-restarted")
    assert "its unfinished episode is closed as truncated, and not counted" in notice.text.lower()
    parts, meta = checkpoint.read(checkpoint.latest(folder / "checkpoints"))
    replay = replay_of(parts, 10**6)
    # The fault's step is no transition: 2 steps, then whole episodes of 5 until there are 40.
    assert replay["obs"][0, :9, 0].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5]
    assert replay["valid"][0, :9].tolist() == [True] * 2 + [False] + [True] * 5 + [False]
    assert (replay["discount"] == 1).all()
    assert (meta["steps"], meta["episodes"]) == (40, 38 // 5)


def test_a_failure_of_the_first_reset_is_told(tmp_path: Path) -> None:
    settings = UNLEARNED | {"envs": 1, "steps": 4}
    with pytest.warns(RunWarning, match=r"step 0: environment-restarted: .* \(OSError: locked\)"):
        small_run(lambda: Late(tmp_path / "flag"), tmp_path / "run", **settings)


def test_an_episode_that_fails_at_once_leaves_no_row(tmp_path: Path) -> None:
    class Reluctant(Counting):
        """Fails at its first step, four times out of five."""

        tries = itertools.count(1)

        def step(self, action: NDArray) -> tuple:
            if self.t == 0 and next(self.tries) % 5:
                raise RuntimeError("not yet")
            return super().step(action)

    settings = UNLEARNED | {"envs": 1, "steps": 20, "env_restarts": 100}
    with pytest.warns(RunWarning, match="not yet"):
        run = small_run(Reluctant, tmp_path / "run", **settings)
    parts, _ = checkpoint.read(checkpoint.latest(run.run_dir / "checkpoints"))
    valid = replay_of(parts, 10**6)["valid"][0]
    assert valid.tolist() == ([True] * 5 + [False]) * 3 + [True] * 5
    assert len(run.warnings) == 16


def test_a_run_whose_environments_keep_failing_ends_with_its_checkpoint(tmp_path: Path) -> None:
    class Ageing(Counting):
        """Fails for ever once eleven steps are made."""

        steps = itertools.count(1)

        def step(self, action: NDArray) -> tuple:
            if next(self.steps) > 11:
                raise RuntimeError("worn out")
            return super().step(action)

    folder = tmp_path / "run"
    settings = UNLEARNED | {"checkpoint_every": 4, "env_restarts": 2, "envs": 1}
    with (
        pytest.warns(RunWarning, match="worn out"),
        pytest.raises(
            RunFailed,
            match=r"Ageing, step 11: environments may fail 2 times .*RuntimeError: worn out\. .* "
            f"Go back to the last checkpoint with `posteriori resume {folder}`",
        ),
    ):
        small_run(Ageing, folder, **settings)
    names = [notice.name for notice in read_notices(folder / "warnings.jsonl")]
    assert names == ["environment-restarted"] * 2
    assert resume(folder, env=Counting, steps=20).steps == 20


# --- Evaluations -----------------------------------------------------------------------------


def test_an_evaluation_counts_no_episode_that_failed(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    envs = make_reference(lambda: Faulty(tmp_path / "flag", "raise"), num_envs=2)
    result = run_episodes(zeros, envs, env="x", episodes=4, seed=0, tell=lambda *x: told.append(x))
    assert result.lengths == [5] * 4
    assert result.returns == [15.0] * 4
    text = (
        "environment 0 in an evaluation failed (RuntimeError: contact solver diverged) and was "
        "rebuilt, 1 of 10 times. The unfinished episode is played again."
    )
    assert told == [("environment-restarted", text)]


def test_an_evaluation_without_an_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(Counting):
        def step(self, action: NDArray) -> tuple:
            obs, reward, *_ = super().step(action)
            return obs, reward, False, False, {}

    class Done(Exception):
        pass

    def tell(name: str, text: str) -> None:
        raise Done(f"{name}: {text}")

    monkeypatch.setattr("posteriori.runs.evaluate.ENDLESS", 20)
    envs = make_reference(Endless, num_envs=2)
    text = "episode-without-end: an episode of Endless in an evaluation has come to .*TimeLimit"
    with pytest.raises(Done, match=text):
        run_episodes(zeros, envs, env="Endless", episodes=2, seed=0, tell=tell)


def test_an_evaluation_may_fail_in_its_first_reset(tmp_path: Path) -> None:
    with pytest.warns(RunWarning, match=r"0 in an evaluation failed \(OSError: locked\)"):
        assert evaluate(zeros, lambda: Late(tmp_path / "flag"), episodes=1).lengths == [5]


@pytest.mark.parametrize("allowed", [2, 1])
def test_training_and_evaluation_fail_on_one_account(allowed: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = UNLEARNED | {"steps": 20, "evaluate_every": 10, "env_restarts": allowed}

    def train() -> None:
        small_run(
            lambda: Faulty(tmp_path / "flag", "raise"),
            folder,
            evaluation_env=lambda: Faulty(tmp_path / "other flag", "raise"),
            **settings,
        )

    with pytest.warns(RunWarning, match="environment-restarted"):
        if allowed == 2:
            train()
        else:
            text = r"step 10: environments may fail 1 times .* in an evaluation failed: RuntimeErr"
            with pytest.raises(RunFailed, match=text):
                train()
    notices = read_notices(folder / "warnings.jsonl")
    assert {notice.name for notice in notices} == {"environment-restarted"}
    told = [notice.text.partition(" failed")[0] for notice in notices]
    assert told == ["environment 0", "environment 0 in an evaluation"][:allowed]


def test_the_last_evaluation_of_a_run_says_what_failed(tmp_path: Path) -> None:
    settings = UNLEARNED | {"steps": 10, "final_episodes": 2}
    with pytest.warns(RunWarning, match="step 10: environment-restarted: environment 0 in an eval"):
        run = small_run(
            Counting,
            tmp_path / "run",
            evaluation_env=lambda: Faulty(tmp_path / "flag", "raise"),
            **settings,
        )
    assert run.final is not None
    assert run.final.lengths == [5] * 2
    assert [notice.step for notice in run.warnings] == [10]


def test_a_run_s_folder_is_evaluated_with_its_settings(tmp_path: Path) -> None:
    small_run(Counting, tmp_path / "run", **(UNLEARNED | {"steps": 4, "env_restarts": 0}))
    text = r"fail 0 times .* diverged\. Mend the environment\.$"
    with pytest.raises(EnvironmentFailed, match=text):
        evaluate(tmp_path / "run", lambda: Faulty(tmp_path / "flag", "raise"), episodes=1)


def test_a_video_ends_at_the_first_failure_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film(zeros, lambda: Lit(tmp_path / "flag"), tmp_path / "video.mp4")
    assert "No video: environments may fail 0 times" in caplog.text
    assert "in a video failed: RuntimeError: contact solver diverged" in caplog.text
    assert not list(tmp_path.glob("*.mp4"))


class Lit(Faulty):
    """Fails, and can be filmed until then."""

    def __init__(self, flag: Path):
        super().__init__(flag, "raise")
        self.render_mode = "rgb_array"

    def render(self) -> NDArray:
        """Return a black picture."""
        return np.zeros((16, 16, 3), np.uint8)
