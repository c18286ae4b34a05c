"""The overlay: what it draws, where, and for which action."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from posteriori.runs.overlay import FILL, LEAST_WIDTH, TRACK, Overlay, levels
from posteriori.runs.video import Moment

BOX = gym.spaces.Box(np.array([-2, -1], np.float32), np.array([2, 3], np.float32))
SKY = np.full((400, 600, 3), (215, 215, 255), np.uint8)
STRIP = 51  # pixels of the strip's height at a width of 600


def moment(action: Any = (0.0, 0.0), **changed: Any) -> Moment:
    """Return a state in which an action is taken."""
    action = None if action is None else np.asarray(action)
    return Moment(7, 12.5, np.zeros((1, 3)), action, terminal=False)._replace(**changed)


def drawn(given: Moment, value: Any = None, space: gym.Space = BOX, frame: Any = SKY) -> NDArray:
    """Return the frame with the overlay of a state."""
    return Overlay(value)(frame, given, space)


def heights(frame: NDArray, colour: tuple[int, int, int]) -> list[int]:
    """Return, from left to right, the height in pixels of each bar of a colour."""
    tall = (frame == colour).all(axis=-1).sum(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], tall])))
    return [int(tall[x]) for x in edges if tall[x]]


def differing(a: NDArray, b: NDArray) -> tuple[int, int]:
    """Return the first and the last column in which two frames differ."""
    columns = np.flatnonzero((a != b).any(axis=(0, 2)))
    return int(columns[0]), int(columns[-1])


def test_the_picture_is_as_it_was_below_the_strip_and_dark_in_it() -> None:
    frame = drawn(moment())
    assert frame.shape == SKY.shape
    assert (frame[STRIP:] == SKY[STRIP:]).all()
    assert frame[STRIP - 1, 0].tolist() == [64, 64, 76]  # 0.3 of the sky's light
    assert (SKY == (215, 215, 255)).all()  # the environment may keep what it gave


def test_a_bar_reaches_from_zero_to_the_action_between_its_bounds() -> None:
    # Of [-2, 2] and [-1, 3]: zero lies at 1/2 and at 1/4.
    assert levels(np.array([1.0, -1.0]), BOX).tolist() == [[0.5, 0.75], [0.0, 0.25]]
    assert levels(np.array([9.0, 3.0]), BOX).tolist() == [[0.5, 1.0], [0.25, 1.0]]
    positive = gym.spaces.Box(1, 2, (1,))
    assert levels(np.array([1.5]), positive).tolist() == [[0.0, 0.5]]
    fixed = gym.spaces.Box(1, 1, (1,))
    assert levels(np.array([1.0]), fixed).tolist() == [[0.0, 0.0]]


def test_a_discrete_action_fills_the_bar_of_its_number() -> None:
    space = gym.spaces.Discrete(3, start=5)
    assert levels(np.asarray(6), space).tolist() == [[0, 0], [0, 1], [0, 0]]
    first, second, third = heights(drawn(moment(6), space=space), FILL)
    assert first == third == 1 < second


def test_bars_are_as_tall_as_the_action_says() -> None:
    whole = heights(drawn(moment((2.0, 3.0))), FILL)
    half = heights(drawn(moment((1.0, 3.0))), FILL)
    assert len(whole) == len(half) == 2
    assert half[0] == pytest.approx(whole[0] / 2, abs=1)
    assert whole[1] == half[1] == pytest.approx(1.5 * whole[0], abs=1.5)  # 3/4 and 1/2 of a track


@pytest.mark.parametrize("size", [1, 17, 38])
def test_every_entry_of_an_action_has_a_bar_within_the_frame(size: int) -> None:
    space = gym.spaces.Box(-1, 1, (size,))
    assert len(heights(drawn(moment(np.ones(size)), space=space), FILL)) == size


def test_the_last_state_has_no_action() -> None:
    frame = drawn(moment(action=None))
    assert heights(frame, FILL) == heights(frame, TRACK) == []


def test_step_return_and_value_have_places_that_do_not_meet() -> None:
    before = drawn(moment(), lambda _: np.array([3.0]))
    step = differing(before, drawn(moment(step=88), lambda _: np.array([3.0])))
    total = differing(before, drawn(moment(total=-888.8), lambda _: np.array([3.0])))
    value = differing(before, drawn(moment(), lambda _: np.array([-888.8])))
    action = differing(before, drawn(moment((1.0, 1.0)), lambda _: np.array([3.0])))
    assert step[1] < total[0] <= total[1] < value[0] <= value[1] < action[0]


def test_the_value_is_that_of_the_state_and_none_after_a_terminal_one() -> None:
    asked: list[NDArray] = []

    def value(obs: NDArray) -> NDArray:
        asked.append(obs)
        return obs.sum(axis=1)

    some = drawn(moment(obs=np.ones((1, 3))), value)
    same = drawn(moment(), lambda _: np.array([3.0]))
    assert (some == same).all()
    assert [obs.shape for obs in asked] == [(1, 3)]
    over = drawn(moment(obs=np.ones((1, 3)), action=None, terminal=True), value)
    assert len(asked) == 1
    assert (over != drawn(moment(action=None), lambda _: np.array([3.0]))).any()


def test_a_small_frame_is_drawn_in_larger_pixels() -> None:
    small = np.arange(64 * 80 * 3).reshape(64, 80, 3).astype(np.uint8)
    frame = drawn(moment((2.0, 3.0)), lambda _: np.array([3.0]), frame=small)
    assert frame.shape == (256, LEAST_WIDTH, 3)
    assert (frame[200::4, ::4] == small[50:]).all()
    assert len(heights(frame, FILL)) == 2
