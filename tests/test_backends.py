"""EnvPool and Gymnasium run the same tasks: what is learnt in one is worth the same in the other.

Their starts are random, from different generators, so one is given the other's: BipedalWalker's
random numbers, MuJoCo's state. What then remains between them:

* BipedalWalker: nothing in observations and ends, whole episodes long, through terrain and resets;
  in the Hardcore version the last digit of the lidar at obstacles. Rewards are float32 in EnvPool.
* MuJoCo: rounding, 1e-12 after one step from the same state. Episodes cannot be compared: two of
  Gymnasium's own HalfCheetahs that start 1e-15 apart are 0.1 apart after 100 steps. Ant and
  Humanoid agree as well where Gymnasium runs the MuJoCo that EnvPool 1.2.5 is built with, 3.6.0;
  newer ones solve many contacts otherwise (4.0.0: up to 0.2 in one step of Ant).
* An episode that terminates in the very step of its time limit: Gymnasium says so, EnvPool calls
  it truncated only.
"""

import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from scipy import stats

envpool: Any = pytest.importorskip("envpool")

SEED = 7
ENVS = 4

Gait = Callable[[NDArray], NDArray]


class NumbersOfEnvPool:
    """Stands in for Gymnasium's `np_random` and gives BipedalWalker the numbers that EnvPool draws.

    EnvPool draws from a Mersenne twister as GNU's C++ library does: `uniform_real_distribution`
    from two words, the low one first, and `uniform_int_distribution` by Lemire's method,
    arXiv:1805.10941.
    """

    def __init__(self, seed: int):
        self._twister = np.random.RandomState(seed)  # seeded as C++'s mt19937 is

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()

    def random(self) -> float:
        return (self._word() + self._word() * 2**32) / 2**64

    def integers(self, low: int, high: int) -> int:
        count = high - low
        if count == 1:  # a constant in EnvPool
            return low
        product = self._word() * count
        while product % 2**32 < 2**32 % count:
            product = self._word() * count
        return low + product // 2**32

    def _word(self) -> int:
        return int(self._twister.randint(0, 2**32, dtype=np.uint32))


def walkers(env_id: str) -> tuple[Any, SyncVectorEnv]:
    """EnvPool's walkers and Gymnasium's, about to start alike."""

    def walker(seed: int) -> gym.Env:
        env = gym.make(env_id, disable_env_checker=True)
        env.unwrapped._np_random = NumbersOfEnvPool(seed)  # pyright: ignore[reportAttributeAccessIssue]
        return env

    factories = [lambda s=s: walker(s) for s in range(SEED, SEED + ENVS)]
    pool = envpool.make_gymnasium(env_id, num_envs=ENVS, seed=SEED)
    return pool, SyncVectorEnv(factories, autoreset_mode=AutoresetMode.NEXT_STEP)


def walking() -> Gait:
    """Gymnasium's own hand-written gait, which walks some way before it falls."""
    box2d = pytest.importorskip("gymnasium.envs.box2d.bipedal_walker")
    gaits = [box2d.BipedalWalkerHeuristics() for _ in range(ENVS)]
    return lambda obs: np.stack([g.step_heuristic(o) for g, o in zip(gaits, obs, strict=True)])


def flailing() -> Gait:
    rng = np.random.default_rng(0)
    return lambda obs: rng.uniform(-1, 1, (len(obs), 4))


@pytest.mark.skipif(sys.platform != "linux", reason="draws random numbers as GNU's C++ library")
@pytest.mark.parametrize(
    ("env_id", "gait", "steps", "atol", "timeouts"),
    [
        # One of these walkers stays up for the 1600 steps that an episode may last.
        ("BipedalWalker-v3", walking, 1610, 0.0, 1),
        ("BipedalWalker-v3", flailing, 200, 0.0, 0),
        # The lidar's fractions, up to 1, of obstacles: a few roundings of float32 of 6e-8 each.
        ("BipedalWalkerHardcore-v3", walking, 345, 1e-6, 0),
    ],
)
def test_walkers_are_the_same(
    env_id: str, gait: Callable[[], Gait], steps: int, atol: float, timeouts: int
) -> None:
    act = gait()
    pool, reference = walkers(env_id)
    (obs, _), (expected, _) = pool.reset(), reference.reset()
    np.testing.assert_array_equal(obs, expected)
    ends = np.zeros(2, np.int64)  # terminated, truncated
    for _ in range(steps):
        action = act(obs).astype(np.float32)
        obs, reward, *over, _ = pool.step(action)
        expected, expected_reward, *expected_over, _ = reference.step(action)
        np.testing.assert_allclose(obs, expected, rtol=0, atol=atol)
        np.testing.assert_array_equal(over, expected_over)
        # EnvPool takes the difference of two potentials, 130 x / 30 of up to 390, which float32
        # holds to 1.6e-5; product, quotient and difference are each rounded so, in both.
        np.testing.assert_allclose(reward, expected_reward, rtol=0, atol=6 * 1.6e-5)
        ends += np.sum(over, axis=1)
    # Each of the four falls at least once, but for the one that timed out.
    assert ends[0] >= ENVS - timeouts
    assert ends[1] == timeouts


# The number of coordinates that the observation leaves out, and the random actions' share of the
# range: Walker2d's velocities stay below 10, where its observation clips them, if it moves softly.
@pytest.mark.parametrize(
    ("env_id", "hidden", "effort"),
    [
        ("HalfCheetah-v5", 1, 1.0),
        ("Hopper-v5", 1, 1.0),
        ("Swimmer-v5", 2, 1.0),
        ("Walker2d-v5", 1, 0.1),
        ("InvertedPendulum-v5", 0, 1.0),
    ],
)
def test_mujoco_steps_are_the_same(env_id: str, hidden: int, effort: float) -> None:
    pytest.importorskip("mujoco")
    pool = envpool.make_gymnasium(env_id, num_envs=1, seed=SEED)
    reference: Any = gym.make(env_id, disable_env_checker=True)
    reference.reset()
    obs, _ = pool.reset()
    pool.action_space.seed(SEED)
    for _ in range(300):
        place(reference, obs[0], hidden)
        action = effort * pool.action_space.sample()
        obs, reward, *over, _ = pool.step(action[None])
        expected, expected_reward, *expected_over, _ = reference.step(action)
        # Rounding of 2e-16, magnified by contacts, and by other versions of MuJoCo than EnvPool's.
        np.testing.assert_allclose(obs[0], expected, rtol=0, atol=1e-6)
        # EnvPool's is a float32, below 8 here.
        np.testing.assert_allclose(reward, expected_reward, rtol=0, atol=2.4e-7)
        assert np.ravel(over).tolist() == expected_over
        if any(expected_over):
            reference.reset()
            obs, *_ = pool.step(action[None])


def place(env: gym.Env, obs: NDArray, hidden: int) -> None:
    """Put a MuJoCo environment where `obs` says; what it leaves out is where, not how, it is."""
    body: Any = env.unwrapped
    position, velocity = np.split(obs, [body.model.nq - hidden])
    body.set_state(np.concatenate([np.zeros(hidden), position]), velocity)


def test_cheetahs_run_out_of_time_in_the_same_step() -> None:
    pytest.importorskip("mujoco")
    pool = envpool.make_gymnasium("HalfCheetah-v5", num_envs=1, seed=SEED)
    reference = gym.make_vec("HalfCheetah-v5", num_envs=1, vectorization_mode="sync")
    assert pool.metadata["autoreset_mode"] is reference.metadata["autoreset_mode"]
    still = np.zeros((1, 6))
    for envs in (pool, reference):
        envs.reset()
        rows = [envs.step(still) for _ in range(1001)]
        assert [step for step, row in enumerate(rows, start=1) if row[3][0]] == [1000]
        assert not any(row[2][0] for row in rows)
        assert rows[-1][1] == 0  # this step was a reset
        assert rows[-2][1] != 0


def test_a_fall_in_the_last_step_is_a_truncation_in_envpool() -> None:
    def ends(limit: int) -> NDArray:
        pool = envpool.make_gymnasium(
            "BipedalWalker-v3", num_envs=1, seed=SEED, max_episode_steps=limit
        )
        pool.reset()
        limp = np.zeros((1, 4), np.float32)
        return np.array([pool.step(limp)[2:4] for _ in range(200)])[..., 0]

    terminated, truncated = ends(1600).T
    fall = terminated.argmax() + 1
    assert terminated[fall - 1]
    assert not truncated.any()
    assert ends(fall)[fall - 1].tolist() == [False, True]


def test_cheetahs_start_from_the_same_distribution() -> None:
    """As Gymnasium documents: uniform noise of 0.1 on positions, normal noise on velocities."""
    pool = envpool.make_gymnasium("HalfCheetah-v5", num_envs=512, seed=SEED)
    position, velocity = np.split(pool.reset()[0], [8], axis=1)
    assert stats.kstest(position.ravel(), stats.uniform(-0.1, 0.2).cdf).pvalue > 0.01
    assert stats.kstest(velocity.ravel(), stats.norm(0, 0.1).cdf).pvalue > 0.01
