"""Memory: what cannot fit is refused before it is taken, and nothing else is."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest
from small_runs import UNLEARNED, Counting, small_run

from posteriori import load_policy, resume, train
from posteriori.experience.replay import Ring
from posteriori.runs import memory
from posteriori.runs.assemble import assemble
from posteriori.runs.config import PRESETS, Config, fingerprint, with_settings
from posteriori.runs.folder import RunFolder, canonical
from posteriori.runs.memory import TooLarge, check_run, machine_memory, run_demands

GIB = 2**30


@pytest.fixture
def eight_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the machine be of 8 GiB."""
    monkeypatch.setattr(memory, "machine_memory", lambda: 8 * GIB)


def test_the_demand_of_replay_is_what_it_takes() -> None:
    config = with_settings(Config(), {"replay_size": 800})
    ring = Ring(800, num_envs=8, obs_size=24, action_size=4, window=4, batch=8)
    (demand,) = [d for d in run_demands(config, 24, 4) if d.what == "replay"]
    assert demand.size == sum(store.nbytes for store in ring.rows)


@pytest.mark.parametrize(
    "settings",
    [{"policy": "diagonal"}, {"policy": "full", "critics": 1}, {"critic": "scalar"}],
    ids=str,
)
def test_the_demand_of_networks_is_no_more_than_they_take(settings: dict[str, Any]) -> None:
    config = with_settings(Config(), {"widths": (256, 128), **settings})
    spaces = gym.spaces.Box(-1, 1, (24,)), gym.spaces.Box(-1, 1, (6,))
    state = assemble(config, *spaces, "Walker").state
    kept = sum(x.nbytes for x in jax.tree.leaves(state) if isinstance(x, jax.Array))
    (demand,) = [d for d in run_demands(config, 24, 6) if d.what.startswith("networks")]
    assert 0.97 * kept < demand.size <= kept


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_the_presets_fit_into_a_small_machine(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: GIB)
    check_run(config, 24, 4)


# Rows of 4 (1 + 1 + 2) + 1 = 17 bytes; 4 GiB hold 252,645,135 of them.
@pytest.mark.usefixtures("eight_gib")
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"replay_size": 10**12},
            "settings must fit into the memory of this machine, 8,192 MiB, but these need at least "
            "15,832 GiB, 15,832 GiB of it for replay (replay_size 1,000,000,000,000). "
            "Lower replay_size: 252,645,135 rows would take half of the memory.",
        ),
        ({"widths": (10**9,)}, "(batch_size 128, samples 10, widths (1000000000,)). Lower "),
        ({"widths": (10**6, 10**6)}, "for networks for observations of 1 and actions of 1 numbers"),
        ({"critics": 10**9}, "critics 1,000,000,000). Lower widths or critics."),
        ({"envs": 10**7, "replay_size": 10**8}, "for environments (envs 10,000,000, backend auto)"),
        ({"envs": 300, "backend": "subprocess"}, "for environments (envs 300, backend subprocess)"),
        ({"samples": 10**9}, "for an update (batch_size 128, samples 1,000,000,000, widths "),
        (
            {"batch_size": 10**9},
            "for an update (batch_size 1,000,000,000, samples 10, widths ",
        ),
        (
            {"n_step": 10**7, "replay_size": 10**8},
            "a batch (batch_size 128, n_step 10,000,000)",
        ),
        (
            {"replay_size": 2**53, "widths": (2**53,) * 3, "samples": 2**53},
            "of it for an update",
        ),
    ],
    ids=str,
)
def test_what_cannot_fit_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(TooLarge, match=re.escape(text)):
        check_run(with_settings(Config(), settings))


def test_where_nothing_says_how_much_there_is_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: None)
    check_run(with_settings(Config(), {"replay_size": 10**12}))


def test_the_machine_says_how_much_it_has() -> None:
    found = machine_memory()
    assert found is None or GIB / 4 < found < 2**60


@pytest.mark.usefixtures("eight_gib")
def test_a_run_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    def make() -> gym.Env:
        raise AssertionError("nothing should be built")

    with pytest.raises(TooLarge, match="for environments"):
        train(make, envs=10**7, replay_size=10**8, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("eight_gib")
def test_the_sizes_of_the_environment_count() -> None:
    class Wide(Counting):
        observation_space = gym.spaces.Box(-1, 1, (5000,), np.float32)

        def _observation(self, action: float) -> Any:
            return np.full(5000, action, np.float32)

    # 10^6 rows of 20 kB; with one number each they would fit.
    with pytest.raises(TooLarge, match=r"for replay \(replay_size 1,000,000\)\. Lower replay_size"):
        train(Wide)


# --- Someone else's folder -------------------------------------------------------------------


def forge(folder: Path, **settings: Any) -> None:
    """Change settings, and all that vouches for them."""
    run = RunFolder(folder)
    env, config = run.read_config()
    config = with_settings(config, settings)
    run.write_config(env, config)
    edit_meta(folder, lambda meta: meta.update(settings=fingerprint(config)))


def edit_meta(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change each checkpoint's meta.json, and its checksum."""
    for path in folder.glob("checkpoints/*/meta.json"):
        meta = json.loads(path.read_bytes())
        meta.pop("sha256")
        change(meta)
        sha256 = hashlib.sha256(canonical(meta)).hexdigest()
        path.write_text(json.dumps(meta | {"sha256": sha256}))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the folder of a run."""
    small_run(Counting, tmp_path / "run", **(UNLEARNED | {"steps": 4}))
    return tmp_path / "run"


@pytest.mark.parametrize(
    "settings",
    [{"replay_size": 10**13}, {"samples": 10**12}, {"envs": 10**11, "replay_size": 10**13}],
    ids=str,
)
def test_a_folder_that_asks_for_too_much_is_not_resumed(run: Path, settings: dict) -> None:
    forge(run, **settings)
    with pytest.raises(TooLarge, match="settings must fit into the memory"):
        resume(run, env=Counting)
    load_policy(run)  # needs none of it


def test_networks_that_are_too_large_are_not_loaded(run: Path) -> None:
    forge(run, widths=(10**9, 10**9))
    with pytest.raises(TooLarge, match=r"for networks for observations of 3 and actions of 2"):
        load_policy(run)


def test_spaces_that_are_too_large_are_not_made(run: Path) -> None:
    edit_meta(run, lambda meta: meta["spaces"].update(observation=10**13))
    with pytest.raises(TooLarge, match=r"for observations of 10,000,000,000,000 and actions of 2"):
        load_policy(run)
