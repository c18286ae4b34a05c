"""What a policy knows and does, drawn on the frames of an episode.

step   return   value   action     a dark strip at the top of the picture; one bar for each
 120     84.2    31.0   ▂ █ ▅      entry of the action, from its lowest to its highest
"""

from collections.abc import Callable
from functools import cache

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from posteriori.runs.figures import number
from posteriori.runs.video import Frame, Moment

LEAST_WIDTH = 320  # pixels: a narrower frame is drawn in larger pixels, for the text to be read
SHADE = 0.3  # of the picture's light that is left behind the text
INK, DIM, TRACK, FILL = (255, 255, 255), (190, 190, 190), (110, 110, 110), (255, 176, 32)
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


class Overlay:
    """Draws step, return so far, value of the state and the action that is taken in it.

    Args:
        value: From a batch of observations to their values, such as an `Estimate`; None leaves the
            value out.
    """

    def __init__(self, value: Callable[[NDArray], NDArray] | None = None):
        self.value = value

    def __call__(self, frame: Frame, moment: Moment, space: gym.Space) -> Frame:
        """Return the frame with the overlay on it; a small one becomes a multiple of its size."""
        times = -(-LEAST_WIDTH // frame.shape[1])
        frame = frame.repeat(times, axis=0).repeat(times, axis=1) if times > 1 else frame.copy()
        size = frame.shape[1] // 40 + 4
        height = round(2.7 * size)
        image = Image.fromarray((frame[:height] * SHADE).astype(np.uint8))
        pen, small, large = ImageDraw.Draw(image), _font(0.8 * size), _font(1.0 * size)
        left = 0.8 * size
        for name, text in self._texts(moment).items():
            pen.text((left, 0.3 * size), name, DIM, small)
            pen.text((left, 1.2 * size), text, INK, large)
            left += 5.2 * size
        pen.text((left, 0.3 * size), "action", DIM, small)
        left += 3.4 * size
        if moment.action is not None:
            box = (left, 0.4 * size, frame.shape[1] - 0.8 * size, height - 0.4 * size)
            _draw_bars(pen, box, levels(moment.action, space), 0.9 * size)
        frame[:height] = np.asarray(image)
        return frame

    def _texts(self, moment: Moment) -> dict[str, str]:
        texts = {"step": f"{moment.step:,}", "return": number(moment.total)}
        if self.value is None:
            return texts
        value = float("nan") if moment.terminal else float(self.value(moment.obs)[0])
        return texts | {"value": number(value)}


def levels(action: NDArray, space: gym.Space) -> NDArray[np.float64]:
    """Return rows of low, high: for each entry of an action the ends of its bar, from 0 to 1.

    A bar begins at zero, or at the bound that is nearest to it. Of a discrete action, the bar of
    the chosen number is full.
    """
    if isinstance(space, gym.spaces.Discrete):
        low, high = np.zeros(space.n), np.ones(space.n)
        action = np.arange(space.n) == action - space.start
    else:
        assert isinstance(space, gym.spaces.Box)
        low, high = space.low.astype(float), space.high.astype(float)
    span = np.where(high > low, high - low, 1.0)
    zero, level = ((np.clip(x, low, high) - low) / span for x in (0.0, action))
    return np.stack([np.minimum(zero, level), np.maximum(zero, level)], axis=1)


@cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font; making it takes longer than all else that is done to a frame."""
    return ImageFont.load_default(size)


def _draw_bars(
    pen: ImageDraw.ImageDraw, box: Box, bars: NDArray[np.float64], widest: float
) -> None:
    left, top, right, bottom = box
    pitch, tall = min(1.5 * widest, (right - left) / len(bars)), bottom - top
    for i, (low, high) in enumerate(bars):
        x, end = left + i * pitch, left + i * pitch + max(pitch / 1.5 - 1, 0)
        pen.rectangle((x, top, end, bottom), TRACK)
        pen.rectangle((x, bottom - high * tall, end, bottom - low * tall), FILL)
