"""What an algorithm learns from: rows of experience, one per step of an environment.

Row t holds the observation at t and what was done there. The row of an episode's last observation
carries no transition (`valid=False`): it is there to bootstrap from. Termination is `discount=0`;
truncation is not. A transition is a trajectory of two rows. `T` time, `B` batch, `O` observation
entries, `D` action dimensions.
"""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float
from numpy import ndarray


class Trajectory(NamedTuple):
    """Windows of consecutive rows, in the environment's units of observation and reward."""

    obs: Float[Array | ndarray, " T B O"]
    action: Float[Array | ndarray, " T B D"]  # executed, in the policy's units
    reward: Float[Array | ndarray, " T B"]
    discount: Float[Array | ndarray, " T B"]  # 0 where the transition ended in termination, else 1
    valid: Bool[Array | ndarray, " T B"]
