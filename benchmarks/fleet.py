"""Many learners at once on one accelerator: their updates are one, mapped over the runs.

What differs between the runs are numbers of `Mpo`, and seeds; sizes are the same for all. They share
one vector environment, whose environments belong to the runs in blocks, and each has a replay of its
own, on the device. An update is `Mpo.update`, a step is `Collector.collect`.

Differs from `posteriori train`: each vector step is followed by as many updates as it has
environments, also where one of them was being reset (about one row in a thousand); a window of
replay is drawn from four candidates, of which the first that begins with a transition is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from posteriori.algorithms.mpo import Metrics, Mpo
from posteriori.algorithms.trajectory import Trajectory
from posteriori.experience.collect import Collector, Episode
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
Numbers = dict[str, Float[Array, " R"]]


class Crew(eqx.Module):
    """The runs' policies as one actor of all environments, those of a run side by side."""

    policies: Policy  # every array [R ...]
    scaling: Scaling  # likewise
    actions: Actions

    def act(self, obs: Float[Array, " RE O"], noise: Float[Array, " RE D"]) -> Float[Array, " RE D"]:
        """Return exploring actions; 0 of a policy that has diverged."""
        runs = self.scaling.reward.shape[0]
        one = lambda policy, scaling, o, n: Actor(policy, scaling, self.actions).act(o, n)  # noqa: E731
        blocks = (x.reshape(runs, -1, x.shape[-1]) for x in (obs, noise))
        action = eqx.filter_vmap(one)(self.policies, self.scaling, *blocks)
        return jnp.nan_to_num(action.reshape(noise.shape), posinf=1.0, neginf=-1.0)


class Meanwhile(gym.vector.VectorWrapper):
    """Does something on the device while the environments step."""

    def __init__(self, envs: gym.vector.VectorEnv, dispatch: Callable[[], None]):
        super().__init__(envs)
        self.dispatch = dispatch

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

    def add(self, reward: NDArray, valid: NDArray) -> None:
        """Take in a row `[R E]` of every environment."""
        running = reward + self.discount * self.running
        self.running = np.where(valid, running, 0.0)
        self.count += valid.sum(axis=1)
        self.sum += self.running.sum(axis=1)
        self.square += (self.running**2).sum(axis=1)
        self.largest = np.maximum(self.largest, np.abs(self.running).max(axis=1))

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
        configs: Of the runs; they may differ in seeds, and in the numbers of `mpo`.
        steps: Environment steps of each run.
        backend: As in `Config`.
    """

    def __init__(self, task: str, configs: Sequence[Config], steps: int):
        first, self.configs = configs[0], list(configs)
        self.config = first
        self.runs, self.envs = len(configs), first.envs
        vector = make_vector(task, num_envs=self.runs * self.envs, seed=first.seed, backend="envpool")
        self.spaces = vector.single_observation_space, vector.single_action_space
        numbers, self.build = _numbers(configs)
        seeds = jnp.asarray([config.seed for config in configs])
        self.state, self.static, self.actions = _assemble(first, self.build, numbers, seeds, *self.spaces)
        self.numbers = numbers
        obs_size, size = flat_size(self.spaces[0]), self.actions.size
        vector = Meanwhile(vector, self._dispatch)
        noise = ColouredNoise(first.noise_exponent, (self.runs * self.envs, size), first.seed)
        self.collector = Collector(vector, noise, first.seed)
        self.moments = Moments(self.runs * obs_size)
        discount = np.asarray([config.mpo.discount for config in configs])
        self.units = Units(discount, first.support_limit, self.envs)
        share = min(first.replay_size // self.envs, steps // self.envs + 1000)
        self.stored = _storage(self.runs, self.envs, share, obs_size, size)
        self.steps, self.vector_steps = np.zeros(self.runs, np.int64), 0
        self.updates = 0
        self.sums: Metrics = {}
        self.key = jax.random.key(first.seed)
        self._learn = jax.jit(self._learning, static_argnames="n", donate_argnums=0)

    def step(self) -> list[Episode]:
        """Step every environment once, while the device does the updates that are due."""
        rows, episodes = self.collector.collect(self.crew())
        for row in rows:
            self._keep(row)
        self.vector_steps += 1
        return episodes

    def crew(self) -> Crew:
        """Return the actors as they are now, in copies that later updates leave alone."""
        policies = eqx.combine(_copy(self.state.online.policy), self.static.online.policy)
        return Crew(policies, self.scaling(), self.actions)

    def actors(self) -> list[Actor]:
        """Return each run's actor, in host memory."""
        crew = jax.device_get(eqx.filter(self.crew(), eqx.is_array))
        static = self.static.online.policy
        return [
            Actor(
                eqx.combine(jax.tree.map(lambda x: x[r], crew.policies), static),  # noqa: B023
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
        unit = self.units.value()
        if not self.config.normalise_observations:
            mean, std = np.zeros_like(mean), np.ones_like(std)
        if not self.config.scale_rewards:
            unit = np.ones_like(unit)
        return Scaling(*(jnp.asarray(x, jnp.float32) for x in (mean, std, unit)))

    def metrics(self) -> dict[str, NDArray]:
        """Return the means since the last call, of each run `[R]`."""
        sums, self.sums = jax.device_get(self.sums), {}
        count = sums.pop("count", 1)
        return {name: value / count for name, value in sums.items()}

    def _dispatch(self) -> None:
        config = self.config
        done = self.vector_steps * self.envs - config.learning_starts
        due = done // config.steps_per_update - self.updates
        if done <= 0 or due <= 0:
            return
        self.key, key = jax.random.split(self.key)
        if not self.sums:
            self.sums = {"count": jnp.zeros(())}
        self.state, sums = self._learn(
            self.state, self.stored, self.numbers, self.scaling(), key, n=int(due)
        )
        sums["count"] = jnp.asarray(float(due))
        self.sums = {k: self.sums.get(k, 0.0) + v for k, v in sums.items()}
        self.updates += int(due)

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

        def one(arrays: PyTree, number: Numbers, rows: Trajectory, unit: Scaling, key: Any) -> Any:
            batch = self._sample(rows, stored.added, key)
            new, metrics = self.build(number).update(
                eqx.combine(arrays, self.static), batch, unit, self.actions
            )
            return eqx.filter(new, eqx.is_array), metrics

        def update(state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Metrics]:
            keys = jax.random.split(key, self.runs)
            return jax.vmap(one)(state, numbers, stored.rows, scaling, keys)

        state, metrics = jax.lax.scan(update, state, jax.random.split(key, n))
        return state, jax.tree.map(lambda x: x.sum(axis=0), metrics)

    def _sample(self, rows: Trajectory, added: Int[Array, ""], key: PRNGKeyArray) -> Trajectory:
        """Draw windows `[T B]` of one run's rows."""
        share, window = rows.reward.shape[1], self.config.n_step + 1
        env_key, start_key = jax.random.split(key)
        shape = CANDIDATES, self.config.batch_size
        env = jax.random.randint(env_key, shape, 0, self.envs)
        starts = jnp.minimum(added, share) - window + 1
        oldest = jnp.maximum(added - share, 0)
        start = (oldest + jax.random.randint(start_key, shape, 0, starts)) % share
        pick = jnp.argmax(rows.valid[env, start], axis=0)
        env, start = (jnp.take_along_axis(x, pick[None], axis=0)[0] for x in (env, start))
        time = (start + jnp.arange(window)[:, None]) % share
        return Trajectory(*(x[env, time] for x in rows))

    def _keep(self, rows: Rows) -> None:
        assert len(rows.env) == self.runs * self.envs, "the environments must autoreset next step"
        limit = self.config.clip_rewards or np.inf
        blocks = [x.reshape(self.runs, self.envs, *x.shape[1:]) for x in rows[1:]]
        obs, action, reward, discount, valid = blocks
        reward = np.clip(reward, -limit, limit)
        self.steps += valid.sum(axis=1)
        self.moments.add(obs.transpose(1, 0, 2).reshape(self.envs, -1))
        self.units.add(reward, valid)
        self.stored = _push(self.stored, Trajectory(obs, action, reward, discount, valid))


def _numbers(configs: Sequence[Config]) -> tuple[Numbers, Any]:
    """Return what differs between algorithms, stacked, and how to build one of them from it."""
    base = configs[0].mpo
    names = [f.name for f in fields(base) if f.name != "samples"]
    stacked: Numbers = {}
    for name in names:
        values = [getattr(config.mpo, name) for config in configs]
        if name == "settle_after":  # never is 0 there, and infinitely late here
            stacked[name] = jnp.asarray([v or np.inf for v in values], jnp.float32)
        elif len(set(values)) > 1:
            kind = jnp.int32 if all(isinstance(v, int) for v in values) else jnp.float32
            stacked[name] = jnp.asarray(values, kind)
    return stacked, lambda number: replace(base, **number)


def _assemble(
    config: Config,
    build: Any,
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
        agent = assemble(
            replace(config, seed=seed, mpo=build(number)), observation_space, action_space, ""
        )
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
