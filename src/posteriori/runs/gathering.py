"""What a run gathers: environments, exploration, replay, and the statistics behind `Scaling`."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from gymnasium.vector import VectorEnv

from posteriori.algorithms.trajectory import Trajectory
from posteriori.experience.collect import Collector, Episode
from posteriori.experience.noise import ColouredNoise
from posteriori.experience.replay import Ring, Rows
from posteriori.experience.spaces import flat_size
from posteriori.experience.statistics import Moments, ReturnUnit
from posteriori.models.actor import Actor
from posteriori.models.scaling import Scaling
from posteriori.runs.arrays import rng_from_array, rng_to_array
from posteriori.runs.checkpoint import Arrays, CheckpointError
from posteriori.runs.config import Config


@dataclass(frozen=True)
class Progress:
    """What one step of every environment brought."""

    transitions: int
    episodes: list[Episode]
    restarts: dict[int, str]  # environments that failed, and how


class Gathering:
    """Steps environments, keeps what they gave, and samples it.

    Args:
        config: The run's settings.
        envs: Vector environment with flat spaces.
        action_size: Entries of an action in the policy's units.
        seed: Of environments, noise and replay.
    """

    def __init__(self, config: Config, envs: VectorEnv, action_size: int, seed: int):
        num_envs, obs_size = envs.num_envs, flat_size(envs.single_observation_space)
        env_seed, noise_seed, replay_seed = np.random.SeedSequence(seed).generate_state(3)
        noise = ColouredNoise(config.noise_exponent, (num_envs, action_size), int(noise_seed))
        self.config = config
        self.collector = Collector(envs, noise, int(env_seed))
        self.rng = np.random.default_rng(int(replay_seed))
        self.replay = Ring(
            config.replay_size,
            num_envs,
            obs_size,
            action_size,
            config.n_step + 1,
            config.batch_size,
        )
        self.moments = Moments(obs_size)
        self.unit = ReturnUnit(num_envs, config.mpo.discount, config.support_limit)

    def step(self, actor: Actor) -> Progress:
        """Step every environment once and keep the rows."""
        rows, episodes = self.collector.collect(actor)
        for row in rows:
            self._keep(row)
        return Progress(int(rows[0].valid.sum()), episodes, self.collector.restarts)

    def sample(self) -> Trajectory | None:
        """Draw a batch from replay; None while there is none."""
        return self.replay.sample(self.rng)

    def scaling(self) -> Scaling:
        """Return the networks' units as the data has set them so far."""
        size = self.moments.mean.size
        scaling = Scaling.identity(size)
        mean, std, reward = scaling.mean, scaling.std, scaling.reward
        if self.config.normalise_observations:
            mean = jnp.asarray(self.moments.mean, jnp.float32)
            std = jnp.asarray(self.moments.std(), jnp.float32)
        if self.config.scale_rewards:
            reward = jnp.asarray(self.unit.value(), jnp.float32)
        return Scaling(mean, std, reward)

    def interrupt(self, seed: int) -> None:
        """Close unfinished episodes as truncated and reset the environments."""
        self._keep(self.collector.interrupt(seed))

    def arrays(self) -> Arrays:
        """Return everything else that changes."""
        noise = self.collector.noise
        return {
            "obs": self.collector.obs,
            "over": self.collector.over,
            "noise.block": noise.block,
            "noise.position": np.asarray(noise.position),
            "noise.rng": rng_to_array(noise.rng),
            "rng": rng_to_array(self.rng),
            "moments.count": self.moments.count,
            "moments.mean": self.moments.mean,
            "moments.square": self.moments.square,
            "unit.running": self.unit.running,
            "unit.largest": self.unit.largest,
            "unit.count": self.unit.moments.count,
            "unit.mean": self.unit.moments.mean,
            "unit.square": self.unit.moments.square,
        }

    def restore(self, arrays: Arrays) -> None:
        """Go on from saved arrays; environments cannot be saved, so `interrupt` must follow.

        Raises:
            CheckpointError: If they are of other environments.
        """
        self._refuse_others(arrays)
        arrays = {name: array.copy() for name, array in arrays.items()}  # what was read is fixed
        collector, noise = self.collector, self.collector.noise
        collector.obs, collector.over = arrays["obs"], arrays["over"]
        noise.block, noise.position = arrays["noise.block"], int(arrays["noise.position"])
        noise.rng, self.rng = rng_from_array(arrays["noise.rng"]), rng_from_array(arrays["rng"])
        for prefix, moments in (("moments", self.moments), ("unit", self.unit.moments)):
            moments.count = arrays[f"{prefix}.count"]
            moments.mean, moments.square = arrays[f"{prefix}.mean"], arrays[f"{prefix}.square"]
        self.unit.running, self.unit.largest = arrays["unit.running"], arrays["unit.largest"]

    def _refuse_others(self, arrays: Arrays) -> None:
        for name, want in self.arrays().items():
            have = arrays.get(name)
            shapeless = name.endswith("rng")  # text of any length
            fits = have is not None and have.dtype == want.dtype
            if have is None or not fits or not (shapeless or have.shape == want.shape):
                given = "missing" if have is None else f"{have.dtype}{list(have.shape)}"
                raise CheckpointError(
                    f"the checkpoint's {name} must be {want.dtype}{list(want.shape)}, but it is "
                    f"{given}. Continue a run with its own environments and settings."
                )
        if not 0 <= arrays["noise.position"] <= len(arrays["noise.block"]):
            raise CheckpointError("the checkpoint's noise.position must lie in noise.block.")

    def _keep(self, rows: Rows) -> None:
        limit = self.config.clip_rewards or np.inf
        rows = rows._replace(reward=np.clip(rows.reward, -limit, limit))
        self.replay.add(rows)
        self.moments.add(rows.obs)
        self.unit.add(rows)
