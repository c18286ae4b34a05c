"""What a run leaves behind to look at: its learning curves and a video of the policy."""

import logging
from collections.abc import Callable
from pathlib import Path

from numpy.typing import NDArray

from posteriori.experience.envs import EnvLike
from posteriori.runs.folder import RunFolder

logger = logging.getLogger(__name__)


def finish(run_dir: Path, policy: Callable[[NDArray], NDArray], env: EnvLike) -> None:
    """Leave `curve.png` and `video.mp4` in a run's folder; what fails is a warning in the log.

    Args:
        run_dir: The run's folder, with its rows written.
        policy: To show, from a batch of observations to a batch of actions.
        env: To show it in.
    """
    from posteriori.runs.plot import plot  # slow to import, and only needed here
    from posteriori.runs.video import CannotRender, record

    folder = RunFolder(run_dir)
    try:
        plot([run_dir], folder.curve)
    except OSError as error:  # a run of less than a row, a full disk
        logger.warning("No learning curve: %s", error)
    try:
        record(policy, env, folder.video)
    except (CannotRender, OSError) as error:
        logger.warning("No video: %s", error)
