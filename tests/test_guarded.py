"""Environments that raise, hang, die or answer nonsense: rebuilt, up to a number of times."""

import itertools
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from faulty import AT, Faulty, posix
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from small_runs import UNLEARNED, Counting, small_run
from small_runs import replay as replay_of

from posteriori.experience import envpool
from posteriori.experience.envs import make_vector
from posteriori.experience.faults import EnvironmentFailed, Patience
from posteriori.runs import checkpoint
from posteriori.runs.notices import RunWarning

ACTION = np.zeros((2, 2), np.float32)


TOLD = {
    "raise": r"RuntimeError: contact solver diverged",
    "raise in reset": r"OSError: no reset",
    "shape": r"ValueError: an observation must fit Box\(.*\), but float32\[2\] was given",
    "dtype": r"ValueError: an observation must fit Box\(.*\), but <U1\[3\] was given",
    "complex": r"ValueError: an observation must fit Box\(.*\), but complex64\[3\] was given",
    "four values": r"ValueError: not enough values to unpack \(expected 5, got 4\)",
    "no reward": r"TypeError: float\(\) argument must be .* not 'NoneType'",
    "flags": r"ValueError: The truth value of an array .* ambiguous.*",
    "hang": r"TimeoutError: no answer in 2 s \(env_timeout\)",
    "kill": r"WorkerFailed: its process was killed \(SIGKILL\)",
    "exit": r"WorkerFailed: its process ended with 3",
}
INSIDE = ["raise", "raise in reset", "shape", "dtype", "complex", "four values", "no reward"]
CASES = [("gymnasium", fault) for fault in [*INSIDE, "flags"]] + [
    ("subprocess", fault) for fault in ("raise", "raise in reset", "shape", "hang", "kill", "exit")
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


# --- Whole vectors ---------------------------------------------------------------------------


def test_envpool_is_started_anew_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = envpool.Pool.step, itertools.count(1)

    def failing(self: envpool.Pool, actions: NDArray) -> Any:
        if next(calls) == 4:
            raise RuntimeError("std::bad_alloc")
        return step(self, actions)

    monkeypatch.setattr(envpool.Pool, "step", failing)
    envs = make_vector("CartPole-v1", num_envs=2, seed=0, backend="envpool")
    envs.reset(seed=0)
    infos = [envs.step(np.zeros(2, int)) for _ in range(6)]
    told = "all environments failed (RuntimeError: std::bad_alloc) and were started anew, 1 of 10"
    restarts = [info.get("restarts") for *_, info in infos]
    assert restarts == [None] * 3 + [dict.fromkeys((0, 1), f"{told} times")] + [None] * 2
    obs, reward, terminated, truncated, _ = infos[3]
    assert (np.abs(obs) < 0.05).all() and not (reward.any() or terminated.any() or truncated.any())


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_a_vector_of_ones_own_is_reset_where_it_fails(mode: AutoresetMode, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    env = SyncVectorEnv([lambda: Faulty(flag, "raise")] * 2, autoreset_mode=mode)
    with pytest.warns(RunWarning, match=r"all environments failed \(RuntimeError: contact"):
        run = small_run(env, tmp_path / "run", evaluation_env=Counting, **UNLEARNED)
    parts, _ = checkpoint.read(checkpoint.latest(run.run_dir / "checkpoints"))
    replay = replay_of(parts, 10**6)
    # Two transitions, and the row that closes their episode; then whole episodes.
    for e in range(2):
        assert replay["valid"][e, :9].tolist() == [True] * 2 + [False] + [True] * 5 + [False]
        assert replay["obs"][e, :9, 0].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5]
    assert (replay["discount"] == 1)[replay["valid"]].all()
