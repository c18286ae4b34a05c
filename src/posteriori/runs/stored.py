"""The networks of a stored run, from its settings and a checkpoint's description of the spaces."""

from collections.abc import Mapping
from typing import Any

from posteriori.models.actor import Actor
from posteriori.models.scaling import Scaling
from posteriori.runs.assemble import Agent, TorsoFactory, assemble, sizes, spaces
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.folder import RunFolder
from posteriori.runs.memory import TooLarge, check_policy


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
