"""Studies: what is tried, given up, scored, written down, and gone on with."""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import SMALL

from posteriori import TuningFailed, cli, tune
from posteriori.runs.folder import RunFolder
from posteriori.runs.state import read_state
from posteriori.runs.tuning import attempt, record, search, worker
from posteriori.runs.tuning import tune as study
from posteriori.runs.tuning.search import Search

FAKE = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]
RATES = {"policy_learning_rate": {"low": 1e-4, "high": 1e-3, "log": True}}
SPACE = "[policy_learning_rate]\nlow = 1e-4\nhigh = 1e-3\nlog = true\n"
Study = Callable[..., record.Tuned]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Study:
    """A `tune` of one setting whose runs are written by `fake_worker.py`."""
    monkeypatch.setattr(attempt, "WORKER", FAKE)
    monkeypatch.setattr(study, "POLL", 0.02)
    (tmp_path / "space.toml").write_text(SPACE)

    def tuned(mood: str = "", **given: Any) -> record.Tuned:
        monkeypatch.setenv("FAKE_WORKER", mood)
        usual = {"out": tmp_path / "s", "steps": 100, "space": tmp_path / "space.toml", "jobs": 2}
        return tune("Pendulum-v1", **usual | given)

    return tuned


@pytest.fixture
def searching(tmp_path: Path) -> Iterator[Callable[..., Search]]:
    """Make searches of trials of 100 steps."""
    made: list[Search] = []

    def search(space: dict[str, Any]) -> Search:
        made.append(Search(tmp_path / "s.db", space, 100))
        return made[-1]

    yield search
    for one in made:
        one.close()


def rate(trial: dict[str, Any]) -> float:
    return trial["values"]["policy_learning_rate"]


def test_the_best_trial_is_the_one_whose_seeds_score_highest_on_average(fake: Study) -> None:
    lines: list[str] = []
    tuned = fake(trials=4, seeds=3, told=lines.append)
    assert [trial["state"] for trial in tuned.trials] == ["complete"] * 4
    assert rate(tuned.trials[0]) == 9e-4  # the default is tried first
    for trial in tuned.trials:
        first, second, third = trial["scores"]  # one more for each seed, as the worker has it
        assert (second, third) == (first + 1, first + 2)
        assert trial["score"] == pytest.approx(second)
    assert tuned.best and rate(tuned.best) == max(map(rate, tuned.trials))
    assert lines[0] == "trial 0: begins, policy_learning_rate 0.0009"
    assert len(lines) == 8  # each begins, and ends
    assert record.read(tuned.study) == tuned
    # Curves: the mean over seeds at each tenth, whatever the exact steps were.
    steps, means = zip(*tuned.best["curve"], strict=True)
    assert list(steps) == list(range(10, 101, 10))
    assert means[0] == pytest.approx(tuned.best["score"] - 10)


def test_the_same_call_goes_on_and_trials_are_a_total(fake: Study) -> None:
    before = fake(trials=2)
    # What it was begun with need not be said again.
    after = fake(trials=3, steps=None, space=None)
    assert after.trials[:2] == before.trials
    assert len(after.trials) == 3
    assert len({rate(trial) for trial in after.trials}) == 3
    assert fake(trials=1) == after


def test_a_trial_below_the_median_is_given_up(fake: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "STARTUP", 1)
    tuned = fake("waits when low", trials=6, jobs=1)
    # These wait in the middle until they are stopped; which others are pruned, their speed decides.
    low = [trial for trial in tuned.trials if rate(trial) < 3e-4]  # as the worker has it
    assert low
    for trial in low:
        assert trial["state"] == "pruned"
        assert trial["score"] is None
        assert trial["text"] in {f"after {step} steps" for step in (30, 40, 50)}


def test_the_median_rule(searching: Callable[..., Search]) -> None:
    made = searching(RATES)
    for level in range(5):
        number, _ = made.ask()
        curve = {step: float(level) for step in (10, 20, 30, 100)}
        assert not made.hopeless(number, curve)  # the first five never are
        made.tell(number, "complete", scores=[float(level), float(level) + 2])
    low, _ = made.ask()
    high, _ = made.ask()
    assert not made.hopeless(low, {10: 1.9, 20: 1.9})  # too early to say
    assert made.hopeless(low, {10: 1.9, 20: 1.9, 30: 1.9})  # the median is 2
    assert not made.hopeless(high, {10: 0.0, 20: 0.0, 30: 2.1})
    assert not made.hopeless(high, {10: 0.0, 20: 0.0, 30: 2.1, 100: 0.0})  # it is done
    assert made.importances() == {"policy_learning_rate": 1.0}


def test_choices_of_lists_and_whole_numbers_come_as_the_space_has_them(
    searching: Callable[..., Search],
) -> None:
    widths = {"choices": [[32], [64, 64]]}
    made = searching({"widths": widths, "n_step": {"low": 1, "high": 8, "log": True}})
    made.begin_with({"widths": [64, 64], "n_step": 3})
    assert made.ask() == (0, {"widths": [64, 64], "n_step": 3})
    _, values = made.ask()
    assert values["widths"] in widths["choices"]
    assert type(values["n_step"]) is int


def test_a_run_whose_process_is_killed_is_started_again(fake: Study) -> None:
    assert fake("killed once", trials=1).best
    (failed,) = fake("killed", trials=2).trials[1:]
    assert failed["state"] == "fail"
    assert failed["text"] in ("seed0: killed 3 times", "seed1: killed 3 times")


def test_a_study_whose_trials_all_fail_ends(fake: Study) -> None:
    with pytest.raises(TuningFailed, match=r"each of 5 trials failed; the last: .*no luck here\."):
        fake("fails", trials=30, jobs=1)


def test_a_run_that_cannot_begin_ends_the_study_which_can_go_on(fake: Study) -> None:
    with pytest.raises(attempt.CannotBegin, match=r"^no luck here\.$"):
        fake("refused", trials=2, jobs=1)
    assert [trial["state"] for trial in fake(trials=1).trials] == ["complete"]


def wait_until_waiting(folder: Path, count: int) -> None:
    """Until so many workers wait to be stopped."""
    for _ in range(6000):
        if len(list(folder.glob("trials/*/*/waiting"))) == count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{count} workers must wait")


@pytest.mark.usefixtures("heard_ctrl_c")
def test_ctrl_c_ends_the_workers_and_the_same_call_goes_on(fake: Study, tmp_path: Path) -> None:
    def interrupt() -> None:
        wait_until_waiting(tmp_path / "s", 2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        fake("waits", trials=2, jobs=1)
    thread.join()
    wait_until_waiting(tmp_path / "s", 0)
    (left,) = record.read(tmp_path / "s").trials
    assert left["state"] == "running"
    after = fake(trials=2)
    assert [trial["state"] for trial in after.trials] == ["complete"] * 2
    assert after.trials[0]["values"] == left["values"]


def test_a_killed_study_goes_on_with_the_same_call(fake: Study, tmp_path: Path) -> None:
    fake(trials=1)
    program = (
        "import sys; from posteriori.runs.tuning import attempt; from posteriori import tune\n"
        f"attempt.WORKER = {FAKE!r}; tune('Pendulum-v1', out=sys.argv[1], trials=2)"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "s")],
        env={**os.environ, "FAKE_WORKER": "waits", "JAX_PLATFORMS": "cpu"},
    )
    wait_until_waiting(tmp_path / "s", 2)
    killed.kill()
    killed.wait()
    wait_until_waiting(tmp_path / "s", 0)  # their study's end is theirs
    after = fake(trials=2)
    assert [trial["state"] for trial in after.trials] == ["complete"] * 2
    assert after.trials[1]["curve"][-1][0] == 100


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"seeds": 1}, r"--seeds must be 2 or more, but it is 1\."),
        ({"trials": 0}, r"--trials must be 1 or more"),
        ({"steps": -1}, r"steps must be from 1 to"),
        ({"out": "."}, r"--out must be the folder of a study, or a new or empty one"),
    ],
)
def test_numbers_and_folders_that_cannot_be_are_refused(
    given: dict[str, Any], text: str, fake: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=text):
        fake(**given)
    assert not (tmp_path / "s").exists()


def test_another_study_s_folder_is_refused(tmp_path: Path) -> None:
    now = record.Tuned(tmp_path, "Pendulum-v1", 100, 2, 10, {"epsilon": {}})
    for name, other, told in (
        ("env", "CartPole-v1", "with env CartPole-v1, but Pendulum-v1 was given"),
        ("steps", 200, "with steps 200, but 100 was given"),
        ("space", {"n_step": {}}, "with space of n_step, but of epsilon was given"),
    ):
        with pytest.raises(record.StudyError, match=f"{told}.*Give another --out for a new study"):
            record.agree(dataclasses.replace(now, **{name: other}), now)


def test_a_folder_without_a_sound_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must be the folder of a study, but it has no"):
        record.read(tmp_path)
    (tmp_path / "trials.json").write_text('{"env": 3}')
    with pytest.raises(record.StudyError, match="must be the record of a study"):
        record.read(tmp_path)


def test_optuna_that_is_not_installed_is_an_error_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tune", "Pendulum-v1"]) == 2
    assert 'Install it with `pip install "posteriori[tune]"`.' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_says_what_was_found_and_how_to_train_it(
    fake: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = fake(trials=2)
    assert tuned.best
    assert cli.main(["tune", "Pendulum-v1", "--out", str(tmp_path / "s"), "--trials", "2"]) == 0
    told = capsys.readouterr().out
    assert "2 trials (2 complete). Best is trial" in told
    (command,) = [line.strip() for line in told.splitlines() if " train " in line]
    rates = ["--policy-learning-rate", str(rate(tuned.best))]
    expected = ["posteriori", "train", "Pendulum-v1", "--steps", "100", *rates, "--seed", "0"]
    assert shlex.split(command) == expected
    assert tuned.settings == {"steps": 100, **tuned.best["values"]}


def test_an_interrupted_study_says_how_to_go_on(
    fake: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake(trials=1)

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "tune", stopped)
    words = ["tune", "Pendulum-v1", "--out", str(tmp_path / "s")]
    assert cli.main([*words, "--jobs", "3"]) == 130
    told = capsys.readouterr()
    assert "1 trial (1 complete). Best is trial 0" in told.out
    assert f"posteriori tune Pendulum-v1 --out {tmp_path / 's'} --trials 30 --jobs 3" in told.err


def test_threads_are_limited_and_memory_of_a_gpu_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_a")
    one, two = attempt.limits(1), attempt.limits(2)
    assert one["XLA_FLAGS"] == "--xla_a --xla_cpu_multi_thread_eigen=false"
    assert one["PJRT_NPROC"] == "1"
    assert two["PJRT_NPROC"] == "2"
    assert "XLA_FLAGS" not in two
    assert two["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_a_worker_s_run_is_an_ordinary_one_and_is_gone_on_with(tmp_path: Path) -> None:
    settings = json.loads(json.dumps({**SMALL, "seed": 1, "learning_starts": 1000}))
    folder = RunFolder(tmp_path / "seed1")
    folder.path.mkdir()
    (folder.path / "metrics.jsonl").write_text("")  # killed before a checkpoint
    for _ in range(2):
        worker.work(folder, "Pendulum-v1", settings)
        assert read_state(folder).name == "finished"
    assert folder.read_config()[1].widths == (8,)


@pytest.mark.slow
def test_a_study_of_real_runs_that_is_killed_goes_on(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(SPACE)
    words = ["--steps", "3000", "--trials", "2", "--space", str(tmp_path / "space.toml")]
    program = "import sys; from posteriori.cli import main; sys.exit(main())"
    out = tmp_path / "s"
    command = [sys.executable, "-c", program, "tune", "Pendulum-v1", "--out", str(out), *words]
    killed = subprocess.Popen(command)
    while not list(out.glob("trials/0/seed*/metrics.jsonl")):
        assert killed.poll() is None
        time.sleep(0.1)
    killed.kill()
    killed.wait()
    subprocess.run(command, check=True)
    tuned = record.read(out)
    assert [trial["state"] for trial in tuned.trials] == ["complete"] * 2
    folder = RunFolder(out / "trials" / "0" / "seed0")
    assert read_state(folder).name == "finished"
    command = folder.read_record()["command"]
    assert command == shlex.split(tuned.command(tuned.trials[0]))
