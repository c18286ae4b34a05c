"""Spaces: what no policy can be trained on is refused, with a cure."""

import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from posteriori.experience.spaces import check_spaces

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), "X gives images, Box(0, 255, (64, 64, 3)"),
        (spaces.Dict(eye=spaces.Box(0, 255, (8, 8, 3), np.uint8)), "or FilterObservation"),
        (spaces.Text(5), "vectors of a fixed size, but X gives Text(1, 5"),
        (spaces.Dict(a=spaces.Tuple([spaces.Text(5)])), "X gives Text(1, 5"),
        (spaces.Sequence(BOX), "X gives Sequence(Box(-1.0, 1.0, (2,), float32)"),
        (spaces.Graph(BOX, None), "X gives Graph(Box(-1.0, 1.0, (2,), float32)"),
        (spaces.Box(-1.0, 1.0, (0,)), "at least one number, but X has Box"),
        (spaces.Discrete(10**12), "those of X are of 1,000,000,000,000: Discrete(1000000000000)."),
    ],
)
def test_observations_that_are_no_vectors_are_refused(space: gym.Space, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        check_spaces(space, BOX, "X")


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (
            spaces.Box(-np.inf, np.inf, (2,)),
            "Action bounds must be finite in float32, but X has Box(-inf",
        ),
        (spaces.Box(-1.0, np.inf, (2,)), "a gymnasium.spaces.Box of the range to search"),
        (spaces.Box(np.zeros(2), np.array([1.0, 0.0]), dtype=np.float64), "low=[0. 0.] and"),
        (spaces.Box(-1.0, 1.0, (0,)), "Every action must have low < high"),
        (spaces.Box(-1e300, 1e300, (2,), np.float64), "Action bounds must be finite in float32"),
        (spaces.Box(-3e38, 3e38, (2,)), "Action bounds must be finite in float32"),  # 6e38 is not
        (spaces.Box(1.0, 1 + 1e-12, (1,), np.float64), "low=[1.] and high=[1.]"),
        (spaces.Discrete(10**12), "at most 1,000,000 actions, but X has Discrete(1000000000000)"),
        (spaces.Box(0, 5, (2,), np.int64), "Box of floats or Discrete, but X has Box(0, 5"),
        (spaces.MultiDiscrete([3, 2]), "Box of floats or Discrete, but X has MultiDiscrete([3 2])"),
        (spaces.MultiBinary(3), "but X has MultiBinary(3). Wrap it in"),
        (spaces.Tuple([BOX, BOX]), "but X has Tuple("),
        (spaces.Dict(a=BOX), "gymnasium.wrappers.TransformAction to take one of these."),
    ],
)
def test_actions_that_no_policy_can_take_are_refused(space: gym.Space, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        check_spaces(BOX, space, "X")
