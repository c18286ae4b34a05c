"""Vectors that fail as a whole, EnvPool's or a user's own: started anew, and looked at."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty import ACTION, Faulty
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from small_runs import UNLEARNED, Counting, small_run
from small_runs import replay as replay_of

from posteriori.experience import envpool
from posteriori.experience.envs import make_vector
from posteriori.experience.faults import EnvironmentFailed, Patience
from posteriori.runs import checkpoint
from posteriori.runs.notices import RunWarning


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


class Misshapen(SyncVectorEnv):
    """A vector of two, one of whose answers is spoilt.

    Args:
        which: Entry of what `step` returns.
        spoil: What is made of it.
    """

    def __init__(self, which: int, spoil: Callable[[Any], Any]):
        super().__init__([Counting] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
        self.which, self.spoil = which, spoil

    def step(self, actions: NDArray) -> Any:
        """Step, and spoil it."""
        answer = list(super().step(actions))
        answer[self.which] = self.spoil(answer[self.which])
        return tuple(answer)


@pytest.mark.parametrize(
    ("which", "spoil", "text"),
    [
        (0, lambda x: x[:, :2], "ValueError: observation must have shape [2, 3], but [2, 2] was"),
        (0, lambda x: np.concatenate([x, x]), "observation must have shape [2, 3], but [2, 6] was"),
        (1, lambda x: x[:, None], "ValueError: reward must have shape [2], but [2, 1] was given"),
        (2, lambda x: x[:1], "ValueError: terminated must have shape [2], but [1] was given"),
        (3, lambda x: x.any(), "ValueError: truncated must have shape [2], but [] was given"),
    ],
    ids=["narrow", "long", "column", "one flag", "a flag"],
)
def test_a_vector_of_ones_own_must_answer_for_each_environment(
    which: int, spoil: Callable[[Any], Any], text: str
) -> None:
    envs = make_vector(Misshapen(which, spoil), num_envs=2, seed=0, patience=Patience(restarts=1))
    envs.reset(seed=0)
    obs, reward, *_, info = envs.step(ACTION)
    assert text in info["restarts"][0]
    assert (obs[:, 0].tolist(), reward.tolist()) == ([0, 0], [0, 0])
    with pytest.raises(EnvironmentFailed, match="all environments of Misshapen failed"):
        envs.step(ACTION)
