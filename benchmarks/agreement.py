"""How far the critics of a run agree on which actions are better: what the E-step reweights by.

    python benchmarks/agreement.py RUN [RUN ...] [--fresh 10000]

Two critics see the same windows and are fitted to the same goals; they differ in where they began.
So what both say of an action beside the others in a state is signal, and what only one says is its
own error, which the E-step climbs as well. Agreement is the correlation of their advantages over
the old policy's actions in a state, the median over states; the spread is that of the advantages.

`--fresh` trains new critics on the run's replay for so many updates, of its policy as it is: what
agreement these networks reach with this data where nothing changes while they learn.
"""

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from posteriori.algorithms.mpo import Networks, State
from posteriori.algorithms.trajectory import Trajectory
from posteriori.models.networks import Critic, Ensemble, Policy
from posteriori.runs.assemble import assemble
from posteriori.runs.config import fingerprint
from posteriori.runs.folder import RunFolder
from posteriori.runs.loop import Loop
from posteriori.runs.restoring import newest_saved
from posteriori.runs.saving import restore

NEWEST = 2_000  # rows of each environment that states are drawn from
STATES, ACTIONS = 128, 20  # of each environment; in each state
EVERY = 2_500  # updates between two looks at fresh critics


def main() -> None:
    """Measure every run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--fresh", type=int, default=0, metavar="UPDATES")
    args = parser.parse_args()
    for path in args.runs:
        loop = load(path)
        obs, atoms = situations(loop)
        own = advantages(loop.learner.critic(), obs, loop.learner.actions.clip(atoms))
        print(f"{path}, {loop.steps:,} steps: {told(own)}")
        for done, critic in fresh(loop, args.fresh):
            found = advantages(critic, obs, loop.learner.actions.clip(atoms))
            both = agreement(found.mean(axis=0), own.mean(axis=0))
            print(f"  fresh, {done:,} updates: {told(found)}, with the run's average {both:.2f}")
        loop.close()


def load(path: Path) -> Loop:
    """Return a run as its newest checkpoint has it.

    Raises:
        SystemExit: If it has fewer than two critics.
    """
    folder = RunFolder.open(path)
    name, config = folder.read_config()
    if config.critics < 2:
        raise SystemExit(f"{path} must have two critics or more to compare, but it has one.")
    loop = Loop(name, config, None, None, None, seed=config.seed)
    restore(loop, newest_saved(folder.checkpoints, fingerprint(config)), config.seed)
    return loop


def old_policy(loop: Loop) -> Policy:
    """Return the policy that the E-step reweights."""
    return eqx.combine(loop.learner.state.target.policy, loop.learner._static.target.policy)


def situations(loop: Loop) -> tuple[Float[Array, " S O"], Float[Array, " N S D"]]:
    """Return recent observations, normalised, and actions of the old policy in each."""
    replay, rng = loop.gathering.replay, np.random.default_rng(0)
    newest = [
        store[(added - 1 - rng.integers(min(added, NEWEST), size=STATES)) % replay.share]
        for store, added in zip(replay.rows.obs, replay.added, strict=True)
    ]
    obs = loop.gathering.scaling().observation(jnp.asarray(np.concatenate(newest)))
    atoms, _ = old_policy(loop)(obs).atoms(jax.random.key(0), ACTIONS)
    return obs, atoms


@eqx.filter_jit
def means(
    critic: Critic | Ensemble, obs: Float[Array, " S O"], actions: Float[Array, " N S D"]
) -> Float[Array, " M N S"]:
    """Return every member's Q."""
    assert isinstance(critic, Ensemble)
    return jnp.stack([member(obs, actions).mean() for member in critic.members])


def advantages(
    critic: Critic | Ensemble, obs: Float[Array, " S O"], actions: Float[Array, " N S D"]
) -> Float[NDArray, " M N S"]:
    """Return every member's Q less its mean over the actions of a state."""
    q = np.asarray(means(critic, obs, actions))
    return q - q.mean(axis=1, keepdims=True)


def agreement(one: Float[NDArray, " N S"], other: Float[NDArray, " N S"]) -> float:
    """Return the correlation over actions, the median over states."""
    norm = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    return float(np.median((one * other).sum(axis=0) / np.maximum(norm, 1e-12)))


def told(found: Float[NDArray, " M N S"]) -> str:
    """Describe advantages in words."""
    agreed = np.mean([agreement(one, other) for one, other in combinations(found, 2)])
    return f"agreement {agreed:.2f}, spread {found.std():.4f}"


def fresh(loop: Loop, updates: int) -> Iterator[tuple[int, Critic | Ensemble]]:
    """Train new critics by `Mpo.update`, whose policy is put back after each.

    Yields:
        Updates done, and the critics then.
    """
    spaces = loop.envs.single_observation_space, loop.envs.single_action_space
    mpo, state, actions = assemble(loop.config, *spaces, loop.name)
    policy, scaling = old_policy(loop), loop.gathering.scaling()

    @eqx.filter_jit
    def update(state: State, batch: Trajectory) -> State:
        state, _ = mpo.update(state, batch, scaling, actions)
        online = Networks(policy, state.online.critic)
        return state._replace(online=online, target=Networks(policy, state.target.critic))

    for done in range(1, updates + 1):
        batch = loop.gathering.sample()
        assert batch is not None
        state = update(state, batch)
        if done % EVERY == 0 or done == updates:
            yield done, state.online.critic


if __name__ == "__main__":
    main()
