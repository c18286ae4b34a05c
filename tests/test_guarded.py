"""Environments that raise, hang, die or answer nonsense: rebuilt, up to a number of times."""

import itertools
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from faulty import ACTION, AT, Faulty, posix
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from small_runs import UNLEARNED, Counting, small_run
from small_runs import replay as replay_of

from posteriori.experience.envs import make_vector
from posteriori.experience.faults import EnvironmentFailed, Patience
from posteriori.runs import checkpoint

TOLD = {
    "raise": r"RuntimeError: contact solver diverged",
    "raise in reset": r"OSError: no reset",
    "shape": r"ValueError: an observation must fit Box\(.*\), but float32\[2\] was given",
    "dtype": r"ValueError: an observation must fit Box\(.*\), but <U1\[3\] was given",
    "complex": r"ValueError: an observation must fit Box\(.*\), but complex64\[3\] was given",
    "four values": r"ValueError: not enough values to unpack \(expected 5, got 4\)",
    "no reward": r"TypeError: float\(\) argument must be .* not 'NoneType'",
    "rewards": r"ValueError: a reward must be one number, but an array \[2\] was given",
    "flags": r"ValueError: The truth value of an array .* ambiguous.*",
    "hang": r"TimeoutError: no answer in 2 s \(env_timeout\)",
    "kill": r"WorkerFailed: its process was killed \(SIGKILL\)",
    "exit": r"WorkerFailed: its process ended with 3",
    "sys.exit": r"SystemExit: 3",
}
INSIDE = [
    "raise",
    "sys.exit",
    "raise in reset",
    "shape",
    "dtype",
    "complex",
    "four values",
    "no reward",
    "rewards",
]
CASES = [("gymnasium", fault) for fault in [*INSIDE, "flags"]] + [
    ("subprocess", fault)
    for fault in ("raise", "sys.exit", "raise in reset", "shape", "hang", "kill", "exit")
]


@posix
@pytest.mark.parametrize(("backend", "fault"), CASES, ids=lambda case: case)
def test_a_failed_environment_starts_anew_and_leaves_the_others_alone(
    backend: Any, fault: str, tmp_path: Path
) -> None:
    patience = Patience(restarts=1, timeout=2.0 if fault == "hang" else 60.0)
    envs = make_vector(
        lambda: Faulty(tmp_path / "flag", fault),
        num_envs=2,
        seed=0,
        backend=backend,
        patience=patience,
    )
    try:
        envs.reset(seed=0)
        seen, restarts = [], []
        for _ in range(9):
            obs, reward, terminated, truncated, info = envs.step(ACTION)
            seen.append(obs[:, 0].astype(int).tolist())
            restarts.append(info.get("restarts", {}))
            for e in restarts[-1]:
                assert (reward[e], terminated[e], truncated[e]) == (0.0, False, False)
    finally:
        envs.close()
    # Episodes of five steps, and a step for the reset; the fault comes in the reset, or at AT.
    at = 5 if fault == "raise in reset" else AT - 1
    whole = [1, 2, 3, 4, 5, 0, 1, 2, 3]
    anew = [*whole[:at], 0, *([1, 2, 3, 4, 5, 0])][:9]
    columns = [list(column) for column in zip(*seen, strict=True)]
    failed = next(iter(restarts[at]))
    assert columns[failed] == anew
    assert columns[1 - failed] == whole
    assert [bool(one) for one in restarts] == [i == at for i in range(9)]
    (text,) = restarts[at].values()
    cause = rf"\((WorkerFailed: )?{TOLD[fault]}\)"
    told = rf"environment {failed} failed {cause} and was rebuilt, 1 of 1 times"
    assert re.fullmatch(told, text), text


def test_a_failure_too_many_ends_it_and_names_the_cause() -> None:
    class Hopeless(Counting):
        def step(self, action: NDArray) -> tuple:  # noqa: ARG002 - the signature of a step
            raise KeyError("joint")

    envs = make_vector(Hopeless, num_envs=2, seed=0, patience=Patience(restarts=3))
    envs.reset(seed=0)
    with pytest.raises(
        EnvironmentFailed,
        match=r"may fail 3 times \(env_restarts\), but then environment 1 of Hopeless failed: "
        r"KeyError: 'joint'\. Mend the environment, or raise env_restarts\.",
    ):
        for _ in range(4):
            envs.step(ACTION)


def test_an_environment_that_cannot_be_rebuilt_is_given_up() -> None:
    made = itertools.count()

    def make() -> gym.Env:
        if next(made) >= 2:
            raise MemoryError("no room")
        return Counting()

    envs = make_vector(make, num_envs=2, seed=0, patience=Patience(restarts=5))
    envs.reset(seed=0)
    envs.step(ACTION)
    with pytest.raises(EnvironmentFailed, match=r"fail 5 times .* MemoryError: no room"):
        envs.step(np.full((2, 2), np.nan))  # which no action space contains


def test_what_is_rebuilt_starts_from_a_seed_of_its_own(tmp_path: Path) -> None:
    def first_observation(name: str, seed: int) -> float:
        flag = tmp_path / name
        envs = make_vector(lambda: Faulty(flag, "raise"), num_envs=2, seed=0)
        first, _ = obs, _ = envs.reset(seed=seed)
        for _ in range(AT):
            obs, *_ = envs.step(ACTION)
        assert obs[0, 1] != first[0, 1]
        return float(obs[0, 1])

    one, again, other = (first_observation(*x) for x in (("a", 0), ("b", 0), ("c", 1)))
    assert one == again != other


@pytest.mark.parametrize("seed", [0, 7])
def test_sound_environments_do_what_gymnasiums_vector_does(seed: int) -> None:
    ours = make_vector("CartPole-v1", num_envs=3, seed=0, backend="gymnasium")
    theirs = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3)
    np.testing.assert_array_equal(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
    rng = np.random.default_rng(seed)
    ends = 0
    for _ in range(100):
        action = rng.integers(2, size=3)
        for mine, other in zip(ours.step(action)[:4], theirs.step(action)[:4], strict=True):
            np.testing.assert_array_equal(mine, other)
            ends += int(mine.dtype == bool and mine.any())
    assert ends > 3


class Overwriting(Counting):
    """Gives the same array every time, with other numbers in it."""

    array: NDArray

    def _observation(self, action: float) -> NDArray:
        self.__dict__.setdefault("array", np.zeros(3, np.float32))[:] = super()._observation(action)
        return self.array


class Momentary(Counting):
    """Terminates at the first step."""

    def step(self, action: NDArray) -> tuple:
        """Count to one."""
        obs, reward, *_ = super().step(action)
        return obs, reward, True, False, {}


class Boxed(Counting):
    """Gives its reward in an array of one, as many environments do that compute with arrays."""

    def step(self, action: NDArray) -> tuple:
        """Count on."""
        obs, reward, *rest = super().step(action)
        return obs, np.array([reward]), *rest


@pytest.mark.parametrize("backend", ["gymnasium", "subprocess"])
def test_a_reward_may_come_in_an_array_of_one(backend: Any) -> None:
    rewards = []
    for env in (Counting, Boxed):
        envs = make_vector(env, num_envs=2, seed=0, backend=backend)
        try:
            envs.reset(seed=0)
            rewards.append([envs.step(ACTION)[1].tolist() for _ in range(3)])
        finally:
            envs.close()
    assert rewards[0] == rewards[1]
    assert rewards[0][0] != [0.0, 0.0]


def test_an_observation_that_is_overwritten_is_kept_as_it_was(tmp_path: Path) -> None:
    vector = SyncVectorEnv([Counting] * 2, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP)
    rows = []
    for name, env, evaluation in (
        ("copied", Counting, None),
        ("environment", Overwriting, None),
        ("vector", vector, Counting),
    ):
        small_run(env, tmp_path / name, **(UNLEARNED | {"steps": 30}), evaluation_env=evaluation)
        parts, _ = checkpoint.read(checkpoint.latest(tmp_path / name / "checkpoints"))
        rows.append(replay_of(parts, 10**6)["obs"])
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


def test_an_episode_of_one_step_is_learnt_from(tmp_path: Path) -> None:
    run = small_run(Momentary, tmp_path / "run", steps=60)
    parts, meta = checkpoint.read(checkpoint.latest(run.run_dir / "checkpoints"))
    replay = replay_of(parts, 10**6)
    assert meta["episodes"] == 60
    np.testing.assert_array_equal(replay["discount"] == 0, replay["valid"])


class Scribbling(Counting):
    """Writes over the action that it is given."""

    def step(self, action: NDArray) -> tuple:
        """Count on, and leave nothing of it."""
        answer = super().step(action)
        action[:] = 9.0
        return answer


def test_an_action_may_be_written_over(tmp_path: Path) -> None:
    rows = []
    for name, env in (("kept", Counting), ("over", Scribbling)):
        small_run(env, tmp_path / name, **(UNLEARNED | {"steps": 30}))
        parts, _ = checkpoint.read(checkpoint.latest(tmp_path / name / "checkpoints"))
        rows.append(replay_of(parts, 10**6)["action"])
    np.testing.assert_array_equal(rows[0], rows[1])


def test_what_overflows_is_infinite_without_a_word_of_numpys() -> None:
    class Huge(Counting):
        def _observation(self, action: float) -> NDArray:
            return super()._observation(action).astype(np.float64) + (1e300 if self.t else 0.0)

    for space in (Counting.observation_space, gym.spaces.Box(-1e301, 1e301, (3,), np.float64)):
        Huge.observation_space = space
        envs = make_vector(Huge, num_envs=2, seed=0)
        envs.reset(seed=0)
        obs, *_, info = envs.step(ACTION)
        assert np.isposinf(obs).all()
        assert not info


class Unclosable(Counting):
    """Fails when it is closed."""

    def close(self) -> None:
        """Fail."""
        raise OSError("no such window")


def test_a_failure_to_close_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    vector = SyncVectorEnv([Unclosable] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    for env, times in ((Unclosable, 2), (vector, 1)):
        caplog.clear()
        make_vector(env, num_envs=2, seed=0).close()
        assert caplog.text.count("failed when it was closed: OSError: no such window") == times
