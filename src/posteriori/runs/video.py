"""A greedy episode as a video or in a window, from Gymnasium's own environment."""

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from posteriori.experience.envs import EnvLike, make_reference
from posteriori.experience.faults import Patience


class CannotRender(ValueError):
    """An environment that gives no pictures: why, and what to do."""


class Recorded(NamedTuple):
    """The episode in a video: undiscounted return, and length in steps."""

    total: float
    length: int


class Moment(NamedTuple):
    """A state of an episode, and how it got there.

    `obs` is a batch of one, `total` the undiscounted return so far; `action`, the one taken in this
    state, is None in the last one, which is `terminal` if no return can follow it.
    """

    step: int
    total: float
    obs: NDArray
    action: NDArray | None
    terminal: bool


Frame = NDArray[np.uint8]  # [height, width, 3]
Painter = Callable[[Frame, Moment, gym.Space], Frame]  # the space is the action's


def record(
    policy: Callable[[NDArray], NDArray],
    env: EnvLike,
    out: Path | str,
    *,
    seed: int = 0,
    max_steps: int = 10_000,
    overlay: Painter | None = None,
) -> Recorded:
    """Record one episode as MP4 (H.264), at the environment's own speed.

    Args:
        policy: From a batch of observations to a batch of actions, in the environment's units.
        env: What to act in.
        out: Of the video; it ends in .mp4.
        seed: Of the episode.
        max_steps: After which an episode without an end is cut.
        overlay: Makes of each frame the one to record, such as `overlay.Overlay`.

    Raises:
        CannotRender: the environment gives no pictures here.
        ValueError: `out` is no .mp4.
    """
    out = Path(out)
    if out.suffix.lower() != ".mp4":
        raise ValueError(
            f"--out must end in .mp4, but it is {out}. Name it video.mp4, for example."
        )
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # or SDL complains that there is none
    envs = _rendering(env)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.stem}.tmp.mp4")  # a video that was cut short cannot be played
    try:
        moments = _play(policy, envs, seed, max_steps)
        recorded = _record(moments, envs, draft, overlay or (lambda frame, *_: frame))
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
        envs.close()
    return recorded


def show(
    policy: Callable[[NDArray], NDArray], env: EnvLike, *, seed: int = 0, max_steps: int = 10_000
) -> Recorded:
    """Show one episode in the environment's own window.

    Args:
        policy: As for `record`.
        env: As for `record`.
        seed: Of the episode.
        max_steps: After which an episode without an end is cut.

    Raises:
        CannotRender: the environment opens no window.
    """
    envs = _rendering(env, "human")
    try:
        last = deque(_play(policy, envs, seed, max_steps), maxlen=1).pop()
        return Recorded(last.total, last.step)
    finally:
        envs.close()


def has_display() -> bool:
    """Whether a window can be opened here."""
    return sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )


def _rendering(env: EnvLike, mode: str = "rgb_array") -> VectorEnv:
    try:
        # An episode with a gap in it would not be one: the first failure ends it.
        return make_reference(env, num_envs=1, render_mode=mode, patience=Patience(restarts=0))
    except (ImportError, TypeError, ValueError) as error:
        what = "A video" if mode == "rgb_array" else "A window"
        raise CannotRender(
            f"{what} needs an environment that can render to {mode}, but: {error}"
        ) from error


def _record(moments: Iterator[Moment], envs: VectorEnv, path: Path, paint: Painter) -> Recorded:
    space, moment = envs.single_action_space, next(moments)
    frame = paint(_frame(envs), moment, space)
    fps = float((envs.metadata or {}).get("render_fps") or 30)
    with _encoder(path, frame.shape, fps) as write:
        write(frame)
        for moment in moments:
            write(paint(_frame(envs), moment, space))
    return Recorded(moment.total, moment.step)


def _play(
    policy: Callable[[NDArray], NDArray], envs: VectorEnv, seed: int, max_steps: int
) -> Iterator[Moment]:
    """Yield each state of an episode while the environment is in it, so that it can be drawn."""
    obs, _ = envs.reset(seed=seed)
    total, step, terminal, over = 0.0, 0, False, False
    while step < max_steps and not over:
        action = policy(obs)
        yield Moment(step, total, obs, action[0], terminal)
        obs, reward, terminated, truncated, _ = envs.step(action)
        total, step, terminal = total + float(reward[0]), step + 1, bool(terminated[0])
        over = terminal or bool(truncated[0])
    yield Moment(step, total, obs, None, terminal)


@contextmanager
def _encoder(path: Path, shape: tuple[int, ...], fps: float) -> Iterator[Callable[[Frame], object]]:
    """Start ffmpeg and yield what takes frames.

    imageio's writer is not used: it forks, in which JAX's threads may deadlock; `Popen` spawns.
    """
    height, width, _ = shape
    raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps} -i -"
    coded = "-c:v libx264 -pix_fmt yuv420p -movflags +faststart"
    command = f"-loglevel error -y {raw} {coded}".split()
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [imageio_ffmpeg.get_ffmpeg_exe(), *command, str(path)],
            stdin=subprocess.PIPE,
            stderr=log,
            process_group=0,  # Ctrl-C is for us: the file is to be closed properly
        ) as ffmpeg,
    ):
        pipe = ffmpeg.stdin
        assert pipe is not None
        # ffmpeg may end early; it has then said why.
        with suppress(BrokenPipeError), closing(pipe):
            yield lambda frame: pipe.write(frame.tobytes())
        if ffmpeg.wait() != 0:
            log.seek(0)
            raise OSError(
                f"ffmpeg must be able to write {path}, but it failed: "
                f"{log.read().decode(errors='replace').strip()}. "
                "Free space, or choose another --out."
            )


def _frame(envs: VectorEnv) -> Frame:
    """Draw the environment; its sides are cut to even numbers, which the colour format needs."""
    try:
        frames = envs.render()
    except (
        Exception
    ) as error:  # renderers fail in their own ways: no OpenGL, no display, no package
        raise CannotRender(
            f"A video needs frames, but rendering failed: {type(error).__name__}: {error}. "
            "Install what the renderer needs; for MuJoCo without a display, set MUJOCO_GL=egl (or "
            "osmesa) before starting."
        ) from error
    frame: NDArray = np.asarray(frames[0] if frames is not None and len(frames) else None)
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise CannotRender(
            f"A video needs frames of shape [height, width, 3] and type uint8, but render() gave "
            f"{frame.dtype}{list(frame.shape)}. Make the environment's rgb_array mode return them."
        )
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]
