"""What a run leaves behind to look at: its learning curves and videos of the policy."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from posteriori.experience.envs import EnvLike
from posteriori.experience.faults import EnvironmentFailed
from posteriori.runs.folder import RunFolder

if TYPE_CHECKING:
    from posteriori.runs.overlay import Overlay

logger = logging.getLogger(__name__)


def finish(
    run_dir: Path,
    policy: Callable[[NDArray], NDArray],
    env: EnvLike,
    value: Callable[[NDArray], NDArray] | None = None,
) -> None:
    """Leave `curve.png` and `video.mp4` in a run's folder; what fails is a warning in the log.

    Args:
        run_dir: The run's folder, with its rows written.
        policy: To show, from a batch of observations to a batch of actions.
        env: To show it in.
        value: As for `film`.
    """
    from posteriori.runs.plot import plot  # slow to import, and only needed here

    folder = RunFolder(run_dir)
    try:
        plot([run_dir], folder.curve)
    except OSError as error:  # a run of less than a row, a full disk
        logger.warning("No learning curve: %s", error)
    film(policy, env, folder.video, value)


def film(
    policy: Callable[[NDArray], NDArray],
    env: EnvLike,
    out: Path,
    value: Callable[[NDArray], NDArray] | None = None,
) -> None:
    """Record an episode; where that fails, it is a warning in the log: training goes on.

    Args:
        policy: From a batch of observations to a batch of actions.
        env: To show it in.
        out: The file.
        value: Of a batch of observations, for an overlay; None is no overlay.
    """
    from posteriori.runs.video import record

    try:
        record(policy, env, out, overlay=_overlay(value) if value else None)
    except (EnvironmentFailed, OSError, ValueError) as error:  # CannotRender, or an odd observation
        logger.warning("No video: %s", error)


def _overlay(value: Callable[[NDArray], NDArray]) -> "Overlay":
    from posteriori.runs.overlay import Overlay

    return Overlay(value)


def forget_films(folder: RunFolder, after: int) -> None:
    """Remove the videos of steps after the one that a run is resumed from: they come again."""
    for path in folder.videos.glob("*.mp4"):
        if path.stem.isdigit() and int(path.stem) > after:
            path.unlink()
