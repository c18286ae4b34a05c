"""What a run's critic expects of a state under its policy, in the environment's units of reward."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpy import asarray, ndarray
from numpy.typing import NDArray

from posteriori.models.actor import Actor
from posteriori.models.networks import Critic, Ensemble
from posteriori.runs import checkpoint
from posteriori.runs.arrays import fill
from posteriori.runs.assemble import TorsoFactory
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.evaluate import GreedyPolicy
from posteriori.runs.folder import RunFolder
from posteriori.runs.stored import stored_agent

SAMPLES = 256  # actions that stand for the policy: the same draws each time, so that V is smooth


class Estimate:
    """V(s) = E_pi[Q(s, a)] of the exploring policy: the discounted return from here on.

    With clipped rewards it is the return of these, and with pessimism what the critic is fitted to.
    """

    def __init__(self, actor: Actor, critic: Critic | Ensemble):
        self.actor, self.critic = actor, critic

    def __call__(self, obs: NDArray) -> NDArray:
        """Return the values `[B]` of observations `[B O]` as the environment gives them."""
        return asarray(_value(self.actor, self.critic, jnp.asarray(obs, jnp.float32)))


def load_estimate(
    run_dir: Path | str, *, torso: TorsoFactory | None = None
) -> tuple[GreedyPolicy, Estimate]:
    """Load a run's policy, and its critic, which only a whole checkpoint has.

    Args:
        run_dir: The run's folder.
        torso: As given to `train`, where it was.

    Raises:
        FileNotFoundError: If it is no run's folder.
        CheckpointError: If there is no checkpoint, or it has no learner or is damaged.
    """
    folder = RunFolder.open(run_dir)
    try:
        parts, meta = checkpoint.newest_parts(folder.checkpoints, "policy", "learner")
    except CheckpointError as error:
        raise CheckpointError(
            f"An overlay's value needs the critic, which is in a checkpoint's learner.safetensors, "
            f"but: {error} Without --overlay the policy alone will do."
        ) from error
    agent, template = stored_agent(folder, meta, torso)
    actor, state = fill(template, parts["policy"]), fill(agent.state, parts["learner"])
    return GreedyPolicy(actor), Estimate(actor, state.online.critic)


@eqx.filter_jit
def _value(
    actor: Actor, critic: Critic | Ensemble, obs: Float[Array | ndarray, "B O"]
) -> Float[Array, " B"]:
    scaled = actor.scaling.observation(obs)
    atoms, log_w = actor.policy(scaled).atoms(jax.random.key(0), SAMPLES)
    value = critic(scaled, actor.actions.clip(atoms)).mix(log_w)
    return actor.scaling.reward * value.mean()
