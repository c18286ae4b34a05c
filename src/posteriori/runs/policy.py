"""A trained policy, as a function of NumPy arrays, and how a run's is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from posteriori.models.actor import Actor
from posteriori.models.scaling import Scaling
from posteriori.runs import checkpoint
from posteriori.runs.arrays import fill
from posteriori.runs.assemble import Agent, TorsoFactory, assemble, sizes, spaces
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.folder import RunFolder
from posteriori.runs.memory import TooLarge, check_policy


class GreedyPolicy:
    """A trained policy: from NumPy observations to greedy actions, in the environment's units."""

    def __init__(self, actor: Actor):
        self.actor = actor

    def __call__(self, obs: NDArray) -> NDArray:
        """Return the greedy action.

        Args:
            obs: `[O]` or `[B O]`, as the environment gives it (flattened, where its space is not a
                flat box).

        Raises:
            ValueError: If the last axis does not hold O entries, or one is not finite.
        """
        size = self.actor.scaling.mean.shape[0]
        obs = np.asarray(obs, np.float32)
        if obs.ndim not in (1, 2) or obs.shape[-1] != size:
            raise ValueError(
                f"obs must have shape [{size}] or [B, {size}], but it has {list(obs.shape)}. "
                "Flatten it as gymnasium.wrappers.FlattenObservation does."
            )
        if not np.isfinite(obs).all():
            raise ValueError("obs must be finite, but it holds NaN or infinity. Check the sensor.")
        return np.asarray(_greedy(self.actor, jnp.asarray(obs)))


def load_policy(
    run_dir: Path | str, *, best: bool = False, torso: TorsoFactory | None = None
) -> GreedyPolicy:
    """Load a run's greedy policy; needs no simulator.

    Args:
        run_dir: The run's folder.
        best: Whether to take the policy of the best evaluation rather than the last one.
        torso: As given to `train`, where it was.

    Raises:
        FileNotFoundError: If it is no run's folder.
        CheckpointError: If there is no checkpoint, or it is damaged or of other settings.
        TooLarge: If the networks need more memory than the machine has.
    """
    folder = RunFolder.open(run_dir)
    part = "best" if best else "policy"
    if best:
        _require_evaluation(folder)
    parts, meta = checkpoint.newest_parts(folder.checkpoints, part)
    _, template = stored_agent(folder, meta, torso)
    return GreedyPolicy(fill(template, parts[part]))


def _require_evaluation(folder: RunFolder) -> None:
    newest = checkpoint.newest_good(folder.checkpoints, checkpoint.read_meta)
    if newest.get("best") is None:
        raise CheckpointError(
            f"{folder.path} must have an evaluation on the way for a best policy, but there was "
            "none yet (`evaluate_every`). Take the last policy, without --best or best=True."
        )


def stored_agent(
    folder: RunFolder, meta: Mapping[str, Any], torso: TorsoFactory | None
) -> tuple[Agent, Actor]:
    """Return an agent and an actor of the kinds that a run saves, for `fill` to make them its own.

    Args:
        folder: The run's.
        meta: That of one of its checkpoints.
        torso: As given to `train`, where it was.

    Raises:
        CheckpointError: If `meta` describes no spaces.
        TooLarge: If the networks need more memory than the machine has.
    """
    name, config = folder.read_config()
    try:
        check_policy(config, *sizes(meta["spaces"]))
        observation_space, action_space = spaces(meta["spaces"])
    except TooLarge:
        raise
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise CheckpointError(f"a checkpoint must describe spaces, but: {error!r:.200}.") from error
    agent = assemble(config, observation_space, action_space, name, torso)
    scaling = Scaling.identity(meta["spaces"]["observation"])
    return agent, Actor(agent.state.online.policy, scaling, agent.actions)


@eqx.filter_jit
def _greedy(actor: Actor, obs: Float[Array, "*S O"]) -> Array:
    return actor.greedy(obs)
