"""Environment ids: the right backend runs them, or an error says what to do."""

import copy
import re
import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs import registration

from posteriori.experience import envpool
from posteriori.experience.envs import list_environments, make_reference, make_vector
from posteriori.experience.guarded import Guarded


def refused(error: type[Exception], text: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=re.escape(text)):
        call()


def test_an_id_may_name_the_module_that_registers_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "walkers_of_mine.py").write_text(
        "import gymnasium as gym\n"
        "gym.register('Mine-v0', 'gymnasium.envs.classic_control.pendulum:PendulumEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registered = dict(gym.registry)
    monkeypatch.setattr(registration, "registry", registered)
    monkeypatch.setattr(gym, "registry", registered)
    assert make_vector("walkers_of_mine:Mine-v0", num_envs=1, seed=0).num_envs == 1


def test_auto_wants_the_time_limit_that_gymnasium_registers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = copy.deepcopy(gym.spec("Pendulum-v1"))
    spec.max_episode_steps = 199
    monkeypatch.setitem(gym.registry, "Pendulum-v1", spec)
    assert list_environments("Pendulum-v1") == [("Pendulum-v1", ("gymnasium", "envpool"))]
    envs = make_vector("Pendulum-v1", num_envs=1, seed=0)
    assert isinstance(envs.unwrapped, Guarded)


def test_auto_takes_gymnasium_where_envpool_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(envpool, "_library", lambda: None)
    envs = make_vector("Pendulum-v1", num_envs=1, seed=0)
    assert isinstance(envs.unwrapped, Guarded)
    refused(
        ImportError,
        "needs EnvPool, which is not installed here. Run `pip install envpool`",
        lambda: make_vector("Pendulum-v1", num_envs=1, seed=0, backend="envpool"),
    )


def test_envpool_is_refused_where_it_has_other_spaces() -> None:
    # Three numbers in EnvPool; in Gymnasium three Discrete of 32, 11 and 2.
    refused(
        ValueError,
        "Blackjack-v1 has other spaces than Gymnasium's there. Use backend='auto'.",
        lambda: make_vector("Blackjack-v1", num_envs=1, seed=0, backend="envpool"),
    )


def test_envpool_is_refused_where_it_lacks_the_id() -> None:
    refused(
        ValueError,
        "Taxi-v4 is missing there. Use backend='auto'.",
        lambda: make_vector("Taxi-v4", num_envs=1, seed=0, backend="envpool"),
    )


@pytest.mark.parametrize("backend", ["auto", "gymnasium", "envpool"])
def test_an_unknown_id_is_answered_with_near_ones(backend: Any) -> None:
    refused(
        ValueError,
        "'BipedalWalker-v33' is not. Did you mean BipedalWalker-v3 or",
        lambda: make_vector("BipedalWalker-v33", num_envs=1, seed=0, backend=backend),
    )
    refused(
        ValueError,
        "'Zork-v0' is not. `posteriori envs` lists what is.",
        lambda: make_reference("Zork-v0", num_envs=1),
    )


def test_an_unknown_module_of_an_id_is_refused() -> None:
    refused(
        ValueError,
        "'nowhere' of 'nowhere:Id-v0' cannot be imported: No module named 'nowhere'. Install",
        lambda: make_vector("nowhere:Id-v0", num_envs=1, seed=0),
    )


@pytest.mark.parametrize("backend", ["auto", "gymnasium"])
def test_a_missing_simulator_is_answered_with_the_command(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    refused(
        ImportError,
        "Hopper-v5 needs a simulator that cannot be imported here: MuJoCo is not installed, run "
        '`pip install "gymnasium[mujoco]"`. Run `pip install "gymnasium[mujoco]"`.',
        lambda: make_vector("Hopper-v5", num_envs=1, seed=0, backend=backend),
    )


def test_a_missing_package_of_another_environment_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = "nowhere.envs:Env"
    monkeypatch.setitem(gym.registry, "Far-v0", registration.EnvSpec("Far-v0", entry))
    refused(
        ImportError,
        "No module named 'nowhere'. Run `pip install nowhere`.",
        lambda: make_vector("Far-v0", num_envs=1, seed=0),
    )


@pytest.mark.filterwarnings("ignore:.*out of date")
def test_an_environment_that_gymnasium_gave_away_is_answered_with_the_newest() -> None:
    refused(
        ImportError,
        "gymnasium-robotics). Use HalfCheetah-v5.",
        lambda: make_vector("HalfCheetah-v3", num_envs=1, seed=0),
    )


def test_the_list_has_what_can_be_trained() -> None:
    listed = dict(list_environments())
    assert listed["BipedalWalker-v3"] == ("envpool", "gymnasium")
    assert listed["Taxi-v4"] == ("gymnasium",)
    assert "CarRacing-v3" not in listed  # images
    assert "Hopper-v4" not in listed  # old


def test_the_list_is_searched_in_either_case() -> None:
    assert list_environments("HOPPER") == [
        ("Hopper-v5", ("envpool", "gymnasium")),
        ("HopperHop-v1", ("envpool",)),
        ("HopperStand-v1", ("envpool",)),
    ]
    assert list_environments("hopper-v4") == [("Hopper-v4", ("envpool", "gymnasium"))]
    assert list_environments("zork") == []
