"""Training runs: repeated by their seed, stopped and continued, and ended by what cannot go on."""

import dataclasses
import itertools
import math
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from small_runs import LENGTH, RETURN, UNLEARNED, Counting, replay, small_run, timeless

from posteriori import RunFailed, load_policy, resume, train
from posteriori.models.networks import Mlp
from posteriori.runs import checkpoint, loop
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.folder import RunFolder
from posteriori.runs.notices import RunWarning
from posteriori.runs.sinks import read_rows


@pytest.fixture(autouse=True)
def frequent_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report every 40 steps, so that short runs have several rows."""
    monkeypatch.setattr(loop, "REPORT_EVERY", 40)


def saved(run_dir: Path) -> tuple[dict[str, checkpoint.Arrays], dict[str, Any]]:
    """Return the newest checkpoint of a run."""
    return checkpoint.read(checkpoint.latest(run_dir / "checkpoints"))


def assert_in_order(rows: list[dict[str, Any]]) -> None:
    """Steps rise from row to row, apart from an evaluation's, which follows a report."""
    rows = [row for row in rows if "final/mean" not in row]
    reports = [row["step"] for row in rows if "evaluation/mean" not in row]
    evaluations = [row["step"] for row in rows if "evaluation/mean" in row]
    for steps in (reports, evaluations):
        assert steps == sorted(set(steps))


# --- The same seed, the same run -------------------------------------------------------------


@pytest.mark.parametrize("backend", ["gymnasium", "envpool"])
def test_the_same_seed_gives_the_same_metrics(backend: str, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        settings = {"backend": backend, "seed": seed, "evaluate_every": 60}
        small_run("CartPole-v1", tmp_path / name, **settings)
    one, again, other = (timeless(tmp_path / name) for name in ("one", "again", "other"))
    assert len(one) >= 5
    assert any({"loss/critic", "rollout/return"} <= row.keys() for row in one)
    assert one == again
    assert one != other


def test_a_row_says_how_far_the_run_is(tmp_path: Path) -> None:
    run = small_run(Counting, tmp_path / "run")
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert_in_order(rows)
    assert [row["step"] for row in rows] == [40, 80, 120] and run.steps == 120
    # One update per 8 steps from step 40 on: those up to a row are begun before it.
    assert [row["progress/updates"] for row in rows] == [0, 4, 9]
    assert [row["progress/episodes"] for row in rows] == [40 // LENGTH, 80 // LENGTH, 120 // LENGTH]
    assert {row["rollout/return"] for row in rows} == {RETURN}
    assert {row["rollout/length"] for row in rows} == {LENGTH}


# --- What can be trained, and with what ------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        ("CartPole-v1", {"policy": "categorical", "critic": "scalar"}),
        ("Pendulum-v1", {"policy": "full"}),
        ("Pendulum-v1", {"critic": "scalar", "noise_exponent": 0.0}),
        (Counting(), {"steps": 60}),
        (SyncVectorEnv([Counting] * 3, autoreset_mode=AutoresetMode.SAME_STEP), {"steps": 60}),
    ],
    ids=["discrete", "full covariance", "scalar critic", "object", "vector"],
)
def test_environments_and_agents_of_every_kind_learn(
    env: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    evaluation = {"evaluation_env": Counting} if isinstance(env, gym.vector.VectorEnv) else {}
    run = small_run(env, tmp_path / "run", **settings, **evaluation)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["progress/updates"] > 0
    assert all(math.isfinite(value) for row in rows for value in row.values())
    size = run.actor.scaling.mean.shape[0]
    assert np.isfinite(run.policy(np.zeros((2, size), np.float32))).all()


def test_a_torso_of_ones_own_is_trained_and_loaded(tmp_path: Path) -> None:
    def torso(size: int, key: Any) -> Mlp:
        return Mlp(size, (5, 5), key=key)

    small_run(Counting, tmp_path / "run", torso=torso, steps=60)
    obs = np.zeros((1, 3), np.float32)
    run = resume(tmp_path / "run", env=Counting, torso=torso, steps=80)
    loaded = load_policy(tmp_path / "run", torso=torso)
    np.testing.assert_array_equal(loaded(obs), run.policy(obs))
    with pytest.raises(CheckpointError, match=r"torso.*must be float32.*Load the checkpoint with"):
        load_policy(tmp_path / "run")


def test_sinks_get_the_rows_that_are_kept(tmp_path: Path) -> None:
    got: list[dict[str, Any]] = []
    small_run(
        Counting,
        tmp_path / "run",
        sinks=[lambda step, metrics: got.append({"step": step, **metrics})],
        **(UNLEARNED | {"evaluate_every": 60}),
    )
    assert got == read_rows(tmp_path / "run" / "metrics.jsonl")


def test_evaluations_are_rows_of_their_own(tmp_path: Path) -> None:
    settings = UNLEARNED | {"evaluate_every": 60, "final_episodes": 3}
    run = small_run(Counting, tmp_path / "run", **settings)
    rows = [row for row in timeless(tmp_path / "run") if "evaluation/mean" in row]
    assert [row["step"] for row in rows] == [60, 120]
    assert {row["evaluation/mean"] for row in rows} == {RETURN}
    assert run.best is not None and run.best.returns == [RETURN] * 2
    assert run.final is not None and run.final.returns == [RETURN] * 3


# --- Going on --------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    small_run(Counting, folder, evaluate_every=50, steps=66)
    (before, meta), rows_before = saved(folder), timeless(folder)
    run = resume(folder, env=Counting, steps=130)
    after, rows = saved(folder)[0], timeless(folder)
    assert run.steps == 130
    assert rows[: len(rows_before)] == rows_before
    assert_in_order(rows)
    assert rows[-1]["progress/episodes"] > meta["episodes"]
    assert rows[-1]["progress/updates"] == (130 - 2 - 40) // 8
    # Of the episode of 66 / 2 = 33 = 6 x 5 + 3 steps the last row is cut short, without transition;
    # with a row for each of the 6 ends, 39 rows are there before it.
    kept, now = replay(before, 200), replay(after, 200)
    assert kept["added"].tolist() == [39, 39]
    for name in ("obs", "action", "reward", "discount", "valid"):
        np.testing.assert_array_equal(now[name][:, :39], kept[name][:, :39], err_msg=name)
    assert not now["valid"][:, 39].any()
    np.testing.assert_array_equal(now["obs"][:, 39], before["gathering"]["obs"])
    np.testing.assert_array_equal(now["obs"][:, 40, 0], [0, 0])  # a first observation
    assert now["valid"][:, 40].all()


def test_a_finished_run_that_is_resumed_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    small_run(Counting, folder, **UNLEARNED)
    rows, (parts, meta) = timeless(folder), saved(folder)
    run = resume(folder, env=Counting)
    assert run.steps == 120
    assert timeless(folder) == rows
    assert saved(folder)[1] == meta
    for part, arrays in parts.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(saved(folder)[0][part][name], array)


def test_ctrl_c_saves_the_run_which_can_be_resumed(tmp_path: Path) -> None:
    def interrupt(step: int, metrics: Any) -> None:  # noqa: ARG001 - the signature of a sink
        if step == 80:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        small_run(Counting, tmp_path / "run", sinks=[interrupt], **UNLEARNED)
    assert signal.getsignal(signal.SIGINT) is handler
    assert saved(tmp_path / "run")[1]["steps"] == 80
    assert [row["step"] for row in timeless(tmp_path / "run")] == [40, 80]
    assert resume(tmp_path / "run", env=Counting).steps == 120
    assert [row["step"] for row in timeless(tmp_path / "run")] == [40, 80, 120]


FOREVER = {
    "--steps": 10_000_000,
    "--checkpoint-every": 500,
    "--evaluate-every": 0,
    "--widths": 8,
    "--batch-size": 8,
    "--replay-size": 4000,
    "--learning-starts": 100,
    "--steps-per-update": 50,
}


@pytest.mark.usefixtures("heard_ctrl_c")
def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def insist(step: int, metrics: Any) -> None:  # noqa: ARG001 - the signature of a sink
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        small_run(Counting, tmp_path / "run", sinks=[insist], **UNLEARNED)
    with pytest.raises(CheckpointError, match="must hold a checkpoint"):
        saved(tmp_path / "run")


def test_a_run_outside_the_main_thread_leaves_signals_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(small_run, Counting, tmp_path / "run", **UNLEARNED).result()
    assert run.steps == 120


def started(arguments: list[str], run_dir: Path, rows: int) -> subprocess.Popen:
    """Start a command, and return when the run's metrics have so many rows."""
    command = [str(Path(sys.executable).with_name("posteriori")), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    path = run_dir / "metrics.jsonl"
    while not path.exists() or len(read_rows(path)) < rows:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    return process


def test_a_run_survives_ctrl_c_and_then_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = [str(word) for option in FOREVER.items() for word in option]
    train_forever = ["train", "Pendulum-v1", *options, "--run-dir", str(folder), "--quiet"]
    process = started(train_forever, folder, rows=2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"posteriori resume {folder}" in told
    rows = read_rows(folder / "metrics.jsonl")
    stopped = saved(folder)[1]["steps"]
    assert stopped == rows[-1]["step"]

    process = started(["resume", str(folder), "--quiet"], folder, rows=len(rows) + 2)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    reached = saved(folder)[1]["steps"]
    assert reached > stopped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RunWarning)  # how many steps are done again
        assert resume(folder, steps=reached + 100).steps >= reached + 100
    assert_in_order(read_rows(folder / "metrics.jsonl"))
    names = [path.name for path in (folder / "checkpoints").iterdir()]
    assert len(names) == 2


# --- What cannot go on -----------------------------------------------------------------------


def second_of_two(bad: dict[int, tuple[str, float]]) -> Callable[[], Counting]:
    """Make sound environments, but a broken one the second time."""
    made = itertools.count()

    def broken() -> Counting:
        return Counting(bad if next(made) == 1 else None)

    return broken


@pytest.mark.parametrize("field", ["observation", "reward"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e9])
def test_a_number_that_is_none_ends_the_run(field: str, value: float, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    env = second_of_two({23: (field, value)})
    # The 23rd step of an environment comes 4 resets later, after 2 x 22 transitions.
    text = f"broken, step 44: every {field} must be finite, .* but environment 1 gave {value}"
    with pytest.raises(RunFailed, match=f"(?s){text}.* Go back to .*posteriori resume {folder}"):
        small_run(env, folder, **(UNLEARNED | {"checkpoint_every": 20}))
    assert saved(folder)[1]["steps"] == 40
    load_policy(folder)
    assert resume(folder, env=Counting, steps=60).steps == 60


def test_a_first_observation_that_is_none_is_refused(tmp_path: Path) -> None:
    env = second_of_two({0: ("observation", math.nan)})
    told = "environment 1 gave nan in entry 2 at its step 0"
    text = f"broken: every observation must be finite, .* {told}"
    with pytest.raises(RunFailed, match=text):
        small_run(env, tmp_path / "run", **UNLEARNED)
    assert not (tmp_path / "run").exists()


def test_a_failure_before_the_first_checkpoint_says_so(tmp_path: Path) -> None:
    env = second_of_two({3: ("reward", math.nan)})
    with pytest.raises(RunFailed, match="There was no checkpoint yet: train it again"):
        small_run(env, tmp_path / "run", **UNLEARNED)


def test_a_number_that_is_none_in_an_evaluation_ends_the_run(tmp_path: Path) -> None:
    settings = UNLEARNED | {"evaluate_every": 40, "checkpoint_every": 20}
    with pytest.raises(RunFailed, match=r"step 40: every reward must be finite, .* evaluation"):
        small_run(
            Counting,
            tmp_path / "run",
            evaluation_env=lambda: Counting({2: ("reward", math.nan)}),
            **settings,
        )
    assert saved(tmp_path / "run")[1]["steps"] == 20


@pytest.mark.parametrize(
    ("report", "save", "kept"),
    [(4, 40, 40), (200, 40, 80), (4, 200, None)],
    ids=["at a report", "at the end", "before a checkpoint"],
)
def test_an_update_that_is_no_number_ends_the_run_with_its_parameters_kept(
    report: int, save: int, kept: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    monkeypatch.setattr(loop, "REPORT_EVERY", report)
    settings = {"critic": "scalar", "target_period": 1, "policy_learning_rate": 1e30}
    text = r"step \d+: every gradient and metric of an update must be finite, but in update \d the "
    text += r"gradient of (policy|critic)\.[a-z.0-9]+ was not.*\. That update was not made\. Lower "
    with pytest.raises(RunFailed, match=text):
        small_run(Counting, folder, checkpoint_every=save, **settings)
    if kept:
        parts, meta = saved(folder)
        assert meta["steps"] == kept
        assert all(np.isfinite(x).all() for x in parts["learner"].values())
        load_policy(folder)


# --- What is refused before anything starts --------------------------------------------------


def never() -> gym.Env:
    """Fail where an environment is made although the settings are wrong."""
    raise AssertionError("the environment was made")


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"steps": 0}, ValueError, "steps must be from 1 to"),
        ({"epsilon": -0.1}, ValueError, "epsilon must be greater than 0"),
        ({"learning_rate": 1e-3}, TypeError, "or policy_learning_rate or critic_learning"),
        ({"mpo": None}, TypeError, "mpo must be an Mpo, but it is None"),
    ],
)
def test_settings_are_refused_before_anything_is_made(
    settings: dict[str, Any], error: type[Exception], text: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        train(never, run_dir=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("env", "settings", "text"),
    [
        (
            "CartPole-v1",
            {"policy": "diagonal"},
            "--policy diagonal needs a continuous action space",
        ),
        (Counting, {"policy": "categorical"}, "--policy categorical needs a discrete action space"),
        ("CartPole-v11", {}, "must be a registered environment id, but 'CartPole-v11' is not"),
        (Counting, {"replay_size": 6, "envs": 2}, "replay must hold more than 3 rows of each of 2"),
    ],
)
def test_what_does_not_fit_the_environment_leaves_no_folder(
    env: Any, settings: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        small_run(env, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of four steps."""
    folder = tmp_path_factory.mktemp("short") / "run"
    small_run(Counting, folder, **(UNLEARNED | {"steps": 4}))
    return folder


def test_a_folder_that_holds_a_run_is_refused(short: Path) -> None:
    before = timeless(short)
    with pytest.raises(ValueError, match=f"new or empty folder.* `posteriori resume {short}`"):
        small_run(Counting, short, **UNLEARNED)
    assert timeless(short) == before


def test_a_folder_without_a_run_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must be the folder of a run, but there is no"):
        resume(tmp_path / "nowhere")


def test_a_run_that_was_not_trained_in_a_registered_environment_asks_for_it(short: Path) -> None:
    with pytest.raises(ValueError, match=r"env must be a registered .*, but 'Counting' is not"):
        resume(short)


@pytest.mark.parametrize("steps", [0, -5])
def test_a_total_of_no_steps_is_refused(short: Path, steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps must be from 1 to .*, but it is {steps}"):
        resume(short, env=Counting, steps=steps)


def test_other_environments_are_not_resumed(short: Path) -> None:
    three = SyncVectorEnv([Counting] * 3, autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(CheckpointError, match=r"obs must be float32\[3, 3\], but it is float32\["):
        resume(short, env=three, evaluation_env=Counting, steps=8)
    with pytest.raises(CheckpointError, match=r"Pendulum-v1 must have the spaces of the run's env"):
        resume(short, env="Pendulum-v1", steps=8)


def test_a_damaged_checkpoint_is_not_resumed(tmp_path: Path) -> None:
    small_run(Counting, tmp_path / "run", **(UNLEARNED | {"steps": 4}))
    path = checkpoint.latest(tmp_path / "run" / "checkpoints") / "learner.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"learner.safetensors must have the .* train again"):
        resume(tmp_path / "run", env=Counting, steps=8)
    assert load_policy(tmp_path / "run")(np.zeros(3)).shape == (2,)  # which is another file


def test_a_run_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = small_run(Counting, folder, **(UNLEARNED | {"steps": 4}))
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(re.sub(r'"widths": \[\s*8\s*\]', '"widths": [9]', text))
    with pytest.raises(ValueError, match=r"their checksum differs: it was edited or damaged. Rest"):
        resume(folder, env=Counting, steps=8)
    RunFolder(folder).write_config("Counting", dataclasses.replace(run.config, widths=(9,)))
    with pytest.raises(CheckpointError, match="must be of a run with the settings of its config"):
        resume(folder, env=Counting, steps=8)
