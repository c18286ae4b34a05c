"""Videos: one greedy episode becomes a playable file, or an error says why not."""

import logging
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from small_runs import UNLEARNED

from posteriori import train
from posteriori.runs.artifacts import finish, forget_films
from posteriori.runs.folder import RunFolder
from posteriori.runs.sinks import read_rows
from posteriori.runs.state import State, read_state
from posteriori.runs.video import CannotRender, has_display, record, show


class Lights(gym.Env):
    """Five steps of reward 2, and a picture with odd sides."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 - Gymnasium's way
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, frame: Any = None, render_mode: str | None = None):
        self.frame = np.full((65, 81, 3), 128, np.uint8) if frame is None else frame
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed, options=options)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: NDArray) -> Any:
        assert action.shape == (1,)
        self.steps += 1
        return np.zeros(2, np.float32), 2.0, self.steps == 5, False, {}

    def render(self) -> Any:
        if isinstance(self.frame, Exception):
            raise self.frame
        return self.frame


def lights(render_mode: str | None = None) -> gym.Env:
    return Lights(render_mode=render_mode)


def still(obs: NDArray) -> NDArray:
    return np.zeros((len(obs), 1), np.float32)


def streams(path: Path) -> str:
    """Return what ffmpeg says of a file, decoding all of it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def test_an_episode_becomes_a_video_at_its_own_speed(tmp_path: Path) -> None:
    out = tmp_path / "new" / "video.mp4"
    assert record(still, lights, out) == (10.0, 5)
    text = streams(out)
    assert re.search(r"Video: h264 .*yuv420p.* 80x64.* 20 fps", text)
    assert "frame=    6" in text  # the first observation's and one for each step
    assert [path.name for path in out.parent.iterdir()] == ["video.mp4"]


def test_without_a_display_pictures_are_drawn_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posteriori.runs.video.has_display", lambda: False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")  # so that it is put back
    monkeypatch.delenv("SDL_VIDEODRIVER")
    record(still, lights, tmp_path / "video.mp4", max_steps=1)
    assert os.environ["SDL_VIDEODRIVER"] == "dummy"


def test_an_episode_without_an_end_is_cut(tmp_path: Path) -> None:
    assert record(still, lights, tmp_path / "video.mp4", max_steps=3) == (6.0, 3)


def test_a_registered_environment_is_recorded(tmp_path: Path) -> None:
    recorded = record(
        lambda obs: np.zeros(len(obs), int), "CartPole-v1", tmp_path / "v.mp4", max_steps=5
    )
    assert recorded == (5.0, 5)


def test_only_mp4_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--out must end in .mp4, but it is .*video.gif"):
        record(still, lights, tmp_path / "video.gif")


def test_an_environment_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotRender, match=r"can render to rgb_array, but: .* has None"):
        record(still, lambda: Lights(), tmp_path / "video.mp4")


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (np.zeros((4, 4), np.uint8), r"gave uint8\[4, 4\]. Make the environment's"),
        (np.zeros((4, 4, 3)), r"gave float64\[4, 4, 3\]"),
        (RuntimeError("no OpenGL"), "rendering failed: RuntimeError: no OpenGL. Install what"),
    ],
)
def test_a_renderer_that_fails_is_an_error_that_says_so(
    tmp_path: Path, frame: Any, text: str
) -> None:
    with pytest.raises(CannotRender, match=text):
        record(still, lambda render_mode=None: Lights(frame, render_mode), tmp_path / "video.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_of_ffmpeg_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text("#!/bin/sh\necho disk full >&2\nexit 1\n")
    ffmpeg.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(ffmpeg))
    with pytest.raises(OSError, match=r"but it failed: disk full. Free space"):
        record(still, lights, tmp_path / "out" / "video.mp4")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_run_ends_with_curves_and_a_video(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"env": "Lights", "settings": {}}')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1000, "evaluation/mean": 1.0}\n')
    finish(tmp_path, still, lights)
    assert (tmp_path / "curve.png").stat().st_size > 0
    assert (tmp_path / "video.mp4").stat().st_size > 0


def test_a_run_that_cannot_be_shown_ends_with_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text('{"env": "Lights", "settings": {}}')
    with caplog.at_level(logging.WARNING):
        finish(tmp_path, still, lambda: Lights())
    texts = [entry.getMessage() for entry in caplog.records]
    assert texts[0].startswith("No learning curve: ")
    assert texts[1].startswith("No video: A video needs an environment that can render")


def test_a_run_is_filmed_on_the_way(tmp_path: Path) -> None:
    settings: dict[str, Any] = UNLEARNED | {"steps": 40, "video_every": 20, "final_episodes": 1}
    train(lights, run_dir=tmp_path / "r", **settings)
    folder = RunFolder(tmp_path / "r")
    names = sorted(path.name for path in folder.videos.iterdir())
    assert names == ["0000000020.mp4", "0000000040.mp4"]
    assert read_state(folder) == State("finished")
    assert read_rows(folder.metrics)[-1]["final/mean"] == 10.0
    forget_films(folder, after=20)
    assert [path.name for path in folder.videos.iterdir()] == ["0000000020.mp4"]


def test_a_run_s_videos_have_an_overlay_if_it_is_asked_for(tmp_path: Path) -> None:
    settings: dict[str, Any] = UNLEARNED | {"steps": 20, "video_every": 20, "pictures": True}
    train(lights, run_dir=tmp_path / "r", video_overlay=True, **settings)
    folder = RunFolder(tmp_path / "r")
    for path in (folder.videos / "0000000020.mp4", folder.video):
        assert " 320x256" in streams(path)  # four times as large, for the text


def test_a_window_shows_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    def windowed(render_mode: str | None = None) -> gym.Env:
        modes.append(render_mode)
        return Lights(render_mode=render_mode)

    monkeypatch.setitem(Lights.metadata, "render_modes", ["human"])
    assert show(still, windowed) == (10.0, 5)
    assert modes == ["human"]
    with pytest.raises(CannotRender, match="A window needs an environment that can render to hum"):
        show(still, lambda: Lights())


def test_a_display_is_found_by_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_display()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert has_display()
