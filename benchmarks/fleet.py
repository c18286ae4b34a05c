"""Many learners at once on one accelerator: their updates are one, mapped over the runs.

What differs between the runs are seeds, numbers of `Mpo`, the colour of the noise and whether
observations and rewards are scaled; sizes are the same for all. They share one vector environment,
whose environments belong to the runs in blocks, and each has a replay of its own, on the device. An
update is `Mpo.update`, a step is `Collector.collect`.

Differs from `posteriori train`: steps are counted as rows, also that of a reset, which carries no
transition (one in several hundred); a window of replay is the first of four candidates that begins
with a transition; environments and draws have other seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from posteriori.algorithms.mpo import Metrics, Mpo
from posteriori.algorithms.trajectory import Trajectory
from posteriori.experience.collect import Collector
from posteriori.experience.envs import make_vector
from posteriori.experience.noise import ColouredNoise
from posteriori.experience.replay import Rows
from posteriori.experience.spaces import flat_size
from posteriori.experience.statistics import Moments
from posteriori.models.actions import Actions
from posteriori.models.actor import Actor
from posteriori.models.networks import Policy
from posteriori.models.scaling import Scaling
from posteriori.runs.assemble import assemble
from posteriori.runs.config import Config

CANDIDATES = 4  # two consecutive rows cannot both lack a transition
# Besides numbers of `Mpo`, what may differ between runs; the values that all have when compared.
LOOSE = {"seed": 0, "noise_exponent": 0.0, "normalise_observations": True, "scale_rewards": True}
Numbers = dict[str, Array]  # of every run [R], or of one
T = TypeVar("T")


class Crew(Actor):
    """The runs' policies as one actor of all environments, those of a run side by side.

    Every array of policy and scaling has a first axis of R runs.
    """

    def act(
        self, obs: Float[Array | NDArray, " RE O"], noise: Float[Array, " RE D"]
    ) -> Float[Array, " RE D"]:
        """Return exploring actions; of a policy that has diverged, finite ones."""
        runs = self.scaling.reward.shape[0]
        blocks = (x.reshape(runs, -1, x.shape[-1]) for x in (obs, noise))

        def one(policy: Policy, scaling: Scaling, obs: Array, noise: Array) -> Array:
            return Actor(policy, scaling, self.actions).act(obs, noise)

        action = eqx.filter_vmap(one)(self.policy, self.scaling, *blocks)
        return jnp.nan_to_num(action.reshape(noise.shape), posinf=1.0, neginf=-1.0)


class Noises(ColouredNoise):
    """Every run's own noise, for its block of environments."""

    def __init__(self, configs: Sequence[Config], size: int):
        self.each = [
            ColouredNoise(config.noise_exponent, (config.envs, size), config.seed)
            for config in configs
        ]
        self.shape = sum(noise.shape[0] for noise in self.each), size

    def sample(self) -> NDArray[np.float32]:
        """Return the next sample, of `shape`."""
        return np.concatenate([noise.sample() for noise in self.each])


class Meanwhile(gym.vector.VectorWrapper):
    """Has the device do something while the environments step."""

    dispatch: Callable[[], None]

    def step(self, actions: NDArray) -> Any:
        """Dispatch, then step."""
        self.dispatch()
        return self.env.step(actions)


class Units:
    """`ReturnUnit` of every run at once."""

    def __init__(self, discount: NDArray, limit: float, envs: int):
        runs = len(discount)
        self.discount, self.limit = discount[:, None], limit
        self.running = np.zeros((runs, envs))
        self.count, self.sum, self.square, self.largest = np.zeros((4, runs))

    def add(self, reward: NDArray, discount: NDArray, valid: NDArray) -> None:
        """Take in a row `[R E]` of every environment."""
        running = np.where(valid, reward + self.discount * self.running, 0.0)
        self.count += valid.sum(axis=1)
        self.sum += running.sum(axis=1)
        self.square += (running**2).sum(axis=1)
        self.largest = np.maximum(self.largest, np.abs(running).max(axis=1))
        self.running = np.where(valid, running * discount, self.running)

    def value(self) -> NDArray:
        """Return the units `[R]`."""
        count = np.maximum(self.count, 1)
        spread = np.sqrt(np.maximum(self.square / count - (self.sum / count) ** 2, 0.0))
        unit = np.maximum(spread, self.largest / self.limit)
        return np.where(self.largest == 0, 1.0, unit)


class Stored(NamedTuple):
    """Replay of all runs, and how many rows each environment has put there."""

    rows: Trajectory  # every array [R E T ...]
    added: Int[Array, ""]


class Fleet:
    """Runs that learn together.

    Args:
        task: A Gymnasium id.
        configs: Of the runs; they may differ in what is `LOOSE`, and in the numbers of `mpo`.
        steps: Environment steps of each run, at most.

    Raises:
        ValueError: If the runs differ in anything else.
    """

    def __init__(self, task: str, configs: Sequence[Config], steps: int):
        first = self.config = configs[0]
        self.runs, self.envs = len(configs), first.envs
        count = self.runs * self.envs
        vector = make_vector(task, num_envs=count, seed=first.seed, backend="envpool")
        spaces = vector.single_observation_space, vector.single_action_space
        numbers, self.build = _numbers(configs)
        seeds = jnp.asarray([config.seed for config in configs])
        self.state, self.static, self.actions = _assemble(
            first, self.build, numbers, seeds, *spaces
        )
        self.numbers = numbers
        obs_size, size = flat_size(spaces[0]), self.actions.size
        self.meanwhile = Meanwhile(vector)
        self.collector = Collector(self.meanwhile, Noises(configs, size), first.seed)
        self.moments = Moments(self.runs * obs_size)
        discount = np.asarray([config.mpo.discount for config in configs])
        self.units = Units(discount, first.support_limit, self.envs)
        self.explored: list[list[float]] = [[] for _ in configs]  # returns of finished episodes
        self.normalise = np.asarray([config.normalise_observations for config in configs])
        self.scale = np.asarray([config.scale_rewards for config in configs])
        share = min(first.replay_size // self.envs, steps // self.envs + 1000)
        self.stored = _storage(self.runs, self.envs, share, obs_size, size)
        self.rows = self.updates = 0  # of each run
        self.sums: Metrics = {}
        self.summed = 0  # updates
        self.key = jax.random.key(first.seed)
        self._learn = jax.jit(self._learning, static_argnames="n", donate_argnums=0)

    def step(self) -> None:
        """Step every environment once, while the device does the updates that are due."""
        scaling = self.scaling()
        self.meanwhile.dispatch = partial(self._dispatch, scaling)
        rows, episodes = self.collector.collect(self.crew(scaling))
        for env, episode in zip(np.flatnonzero(self.collector.over), episodes, strict=True):
            self.explored[env // self.envs].append(episode.total)
        for row in rows:
            self._keep(row)
        self.rows += self.envs

    def crew(self, scaling: Scaling) -> Crew:
        """Return the actors as they are now, in copies that later updates leave alone."""
        policy = eqx.combine(_copy(self.state.online.policy), self.static.online.policy)
        return Crew(policy, scaling, self.actions)

    def actors(self) -> list[Actor]:
        """Return each run's actor, in host memory."""
        crew = jax.device_get(eqx.filter(self.crew(self.scaling()), eqx.is_array))
        static = self.static.online.policy
        return [
            Actor(
                eqx.combine(jax.tree.map(lambda x: x[r], crew.policy), static),  # noqa: B023
                jax.tree.map(lambda x: x[r], crew.scaling),  # noqa: B023
                self.actions,
            )
            for r in range(self.runs)
        ]

    def scaling(self) -> Scaling:
        """Return every run's units `[R ...]`."""
        shape = self.runs, -1
        mean = self.moments.mean.reshape(shape)
        std = self.moments.std().reshape(shape)
        mean = np.where(self.normalise[:, None], mean, 0.0)
        std = np.where(self.normalise[:, None], std, 1.0)
        unit = np.where(self.scale, self.units.value(), 1.0)
        return jax.vmap(Scaling)(*(jnp.asarray(x, jnp.float32) for x in (mean, std, unit)))

    def metrics(self) -> dict[str, NDArray]:
        """Return the means since the last call, of each run `[R]`."""
        sums, count = jax.device_get(self.sums), max(self.summed, 1)
        self.sums, self.summed = {}, 0
        return {name: value / count for name, value in sums.items()}

    def _dispatch(self, scaling: Scaling) -> None:
        config = self.config
        due = (self.rows - config.learning_starts) // config.steps_per_update - self.updates
        if due <= 0:
            return
        self.key, key = jax.random.split(self.key)
        self.state, sums = self._learn(self.state, self.stored, self.numbers, scaling, key, n=due)
        self.sums = {name: self.sums.get(name, 0.0) + x for name, x in sums.items()}
        self.updates += due
        self.summed += due

    def _learning(
        self,
        state: PyTree,
        stored: Stored,
        numbers: Numbers,
        scaling: Scaling,
        key: PRNGKeyArray,
        n: int,
    ) -> tuple[PyTree, Metrics]:
        """Do n updates of every run."""
        config = self.config

        def one(arrays: PyTree, number: Numbers, rows: Trajectory, unit: Scaling, key: Any) -> Any:
            batch = windows(rows, stored.added, key, config.n_step + 1, config.batch_size)
            new, metrics = self.build(number).update(
                eqx.combine(arrays, self.static), batch, unit, self.actions
            )
            return eqx.filter(new, eqx.is_array), metrics

        def update(state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Metrics]:
            keys = jax.random.split(key, self.runs)
            return jax.vmap(one)(state, numbers, stored.rows, scaling, keys)

        state, metrics = jax.lax.scan(update, state, jax.random.split(key, n))
        return state, jax.tree.map(lambda x: x.sum(axis=0), metrics)

    def _keep(self, rows: Rows) -> None:
        assert len(rows.env) == self.runs * self.envs, "the environments must autoreset next step"
        limit = self.config.clip_rewards or np.inf
        blocks = [x.reshape(self.runs, self.envs, *x.shape[1:]) for x in rows[1:]]
        obs, action, reward, discount, valid = blocks
        reward = np.clip(reward, -limit, limit)
        self.moments.add(obs.transpose(1, 0, 2).reshape(self.envs, -1))
        self.units.add(reward, discount, valid)
        self.stored = _push(self.stored, Trajectory(obs, action, reward, discount, valid))


def windows(
    rows: Trajectory, added: Int[Array, ""], key: PRNGKeyArray, length: int, batch: int
) -> Trajectory:
    """Draw windows `[T B]` of one run's rows `[E T ...]`, as `Ring.sample` does."""
    envs, share = rows.reward.shape
    env_key, start_key = jax.random.split(key)
    env = jax.random.randint(env_key, (CANDIDATES, batch), 0, envs)
    starts = jnp.minimum(added, share) - length + 1
    oldest = jnp.maximum(added - share, 0)
    drawn = jax.random.randint(start_key, (CANDIDATES, batch), 0, starts)
    start = (oldest + drawn) % share
    pick = jnp.argmax(rows.valid[env, start], axis=0)
    env, start = (jnp.take_along_axis(x, pick[None], axis=0)[0] for x in (env, start))
    time = (start[None] + jnp.arange(length)[:, None]) % share
    return Trajectory(*(x[env, time] for x in rows))


def common(config: Config) -> Config:
    """Return what the members of a fleet must have in common, the rest at fixed values."""
    return replace(config, **LOOSE, mpo=Mpo(samples=config.mpo.samples))


def _numbers(configs: Sequence[Config]) -> tuple[Numbers, Callable[[Numbers], Mpo]]:
    """Return what differs between algorithms, stacked, and how to build one of them from it."""
    base = configs[0].mpo
    for config in configs:
        if common(config) != common(configs[0]):
            raise ValueError(
                f"a fleet's runs must differ in numbers of mpo and in {', '.join(LOOSE)} alone, "
                f"but {config} stands beside {configs[0]}."
            )
    names = [f.name for f in fields(base) if f.name != "samples"]
    stacked: Numbers = {}
    for name in names:
        values = [getattr(config.mpo, name) for config in configs]
        if len(set(values)) > 1:
            kind = jnp.int32 if all(isinstance(v, int) for v in values) else jnp.float32
            stacked[name] = jnp.asarray(values, kind)
    return stacked, lambda number: _changed(base, number)


def _changed(settings: T, numbers: Mapping[str, Array | Mpo]) -> T:
    """Return settings with arrays where they declare numbers, which their own checks refuse."""
    changed = copy(settings)
    for name, value in numbers.items():
        object.__setattr__(changed, name, value)
    return changed


def _assemble(
    config: Config,
    build: Callable[[Numbers], Mpo],
    numbers: Numbers,
    seeds: Int[Array, " R"],
    observation_space: gym.Space,
    action_space: gym.Space,
) -> tuple[PyTree, PyTree, Actions]:
    """Return the runs' states, stacked, what in them is no array, and the action space."""
    kept: dict[str, PyTree] = {}

    @jax.jit
    @partial(jax.vmap, out_axes=(0, None))
    def make(number: Numbers, seed: Array) -> tuple[PyTree, PyTree]:
        one = _changed(config, {"seed": seed, "mpo": build(number)})
        agent = assemble(one, observation_space, action_space, "")
        state, kept["state"] = eqx.partition(agent.state, eqx.is_array)
        actions, kept["actions"] = eqx.partition(agent.actions, eqx.is_array)
        return state, actions

    state, actions = make(numbers, seeds)
    return state, kept["state"], eqx.combine(actions, kept["actions"])


def _storage(runs: int, envs: int, share: int, obs_size: int, size: int) -> Stored:
    shape = runs, envs, share
    rows = Trajectory(
        obs=jnp.zeros((*shape, obs_size)),
        action=jnp.zeros((*shape, size)),
        reward=jnp.zeros(shape),
        discount=jnp.zeros(shape),
        valid=jnp.zeros(shape, bool),
    )
    return Stored(rows, jnp.zeros((), jnp.int32))


@partial(jax.jit, donate_argnums=0)
def _push(stored: Stored, rows: Trajectory) -> Stored:
    at = stored.added % stored.rows.reward.shape[2]
    put = lambda store, new: store.at[:, :, at].set(new)  # noqa: E731
    return Stored(jax.tree.map(put, stored.rows, rows), stored.added + 1)


@jax.jit
def _copy(arrays: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, arrays)
