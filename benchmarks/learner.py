"""How fast the learner updates, how near that is to plain matrix products, and where the rest goes.

    python benchmarks/learner.py

Three learners of BipedalWalker-v3's shapes, on random data. `plain` is the speed of its own
float32 products: each in a compiled function of its own, and all of them in one. The parts are
compiled and timed one by one; XLA fuses across them in the update, so that their sum is not it.
"""

import os
import platform
from collections.abc import Callable
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from products import alone, products, profiled, seconds, together

from posteriori import Config, Mpo
from posteriori.algorithms.em import m_step
from posteriori.algorithms.mpo import State
from posteriori.algorithms.trajectory import Trajectory
from posteriori.models.scaling import Scaling
from posteriori.runs.assemble import Agent, assemble
from posteriori.runs.learner import Learner
from posteriori.runs.provenance import provenance

OBSERVATION, ACTION = 24, 4  # entries, of BipedalWalker-v3
LARGE = {"widths": (256, 256), "batch_size": 256, "critics": 1, "mpo": Mpo(samples=20)}
CASES = {
    "scalar critic, batch 256, 20 actions, 2x256": Config(critic="scalar", **LARGE),
    "categorical critic, batch 256, 20 actions, 2x256": Config(**LARGE),
    "the defaults": Config(),
}
PROFILED = 30  # updates


def main() -> None:
    """Measure every case."""
    hardware = provenance()["hardware"]
    print(f"jax {jax.__version__}, Python {platform.python_version()}, {hardware['devices'][0]}")
    print(f"{hardware['cpu']}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, config in CASES.items():
        print(f"\n## {name} ({config.batch_size} windows of {config.n_step} steps)")
        batch, scaling = make_batch(config), Scaling.identity(OBSERVATION)
        # A learner's updates write over the state that it was given: each its own agent.
        update = report_update(Learner(make_agent(config)), batch, scaling)
        report_parts(make_parts(make_agent(config), batch, scaling), update)


def report_update(learner: Learner, batch: Trajectory, scaling: Scaling) -> float:
    """Print the update's speed beside that of its products; return its seconds."""
    update = seconds(lambda: (learner.update(batch, scaling), learner.state)[1])
    found = products(learner._step, learner.state, batch, scaling)
    flops = sum(product.flops * n for product, n in found.items())
    single, joint = alone(found), together(found)
    plain = sum(single[product] * n for product, n in found.items())
    print(f"{1 / update:.1f} updates/s, {1e3 * update:.2f} ms")
    rate = flops / update / 1e9
    print(f"{found.total()} matrix products, {flops / 1e6:.1f} MFLOP: {rate:.1f} GFLOP/s")
    for label, spent in (("each alone", plain), ("in one call", joint)):
        speed, share = flops / spent / 1e9, spent / update
        print(f"plain, {label}: {speed:.1f} GFLOP/s; the update reaches {share:.0%} of it")
    for product in sorted(found, key=lambda p: p.flops * found[p], reverse=True)[:4]:
        rate, share = product.flops / single[product] / 1e9, product.flops * found[product] / flops
        b, m, k, n = product
        shape = f"{b} x ".replace("1 x ", "") + f"[{m} {k}] [{k} {n}]"
        print(f"    {found[product]} of {shape}: {share:.0%} of the work, {rate:.1f} GFLOP/s alone")
    inside, total = profile(learner, batch, scaling)
    print(f"in matrix products: {inside / total:.0%} of the operations' time in a profile")
    return update


def profile(learner: Learner, batch: Trajectory, scaling: Scaling) -> tuple[float, float]:
    """Return the seconds inside products and inside all operations."""

    def run() -> None:
        for _ in range(PROFILED):
            learner.update(batch, scaling)
        jax.block_until_ready(learner.state)

    arguments = learner.state, learner._sums, batch, scaling
    compiled = learner._jitted.lower(*arguments).compile()
    return profiled(run, compiled.as_text() or "")


def report_parts(parts: dict[str, Callable[[], Any]], update: float) -> None:
    """Print the time of each part, as a share of the update's."""
    spent = {name: seconds(part) for name, part in parts.items()}
    spent["sum of the parts"] = sum(spent.values())
    for name, part in spent.items():
        print(f"    {name:<34} {1e3 * part:7.3f} ms {part / update:6.1%}")


def make_agent(config: Config) -> Agent:
    """Assemble an agent for spaces of BipedalWalker-v3's shapes."""
    observation = gym.spaces.Box(-np.inf, np.inf, (OBSERVATION,), np.float32)
    action = gym.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)
    return assemble(config, observation, action, "benchmark")


def make_batch(config: Config) -> Trajectory:
    """Draw random windows without an episode's end, on the host as replay gives them."""
    rng = np.random.default_rng(0)
    rows = (config.n_step + 1, config.batch_size)
    return Trajectory(
        obs=rng.standard_normal((*rows, OBSERVATION), np.float32),
        action=rng.uniform(-1, 1, (*rows, ACTION)).astype(np.float32),
        reward=0.1 * rng.standard_normal(rows, np.float32),
        discount=np.ones(rows, np.float32),
        valid=np.ones(rows, np.bool_),
    )


def make_parts(agent: Agent, batch: Trajectory, scaling: Scaling) -> dict[str, Callable[[], Any]]:
    """Cut an update into compiled functions."""
    mpo, state, actions = agent
    obs, alpha = jnp.asarray(batch.obs), jax.tree.map(jnp.exp, state.log_alpha)
    old = state.target.policy(obs[-1])
    atoms, log_w = old.atoms(state.key, mpo.samples)
    values = state.target.critic(obs[-1], actions.clip(atoms))
    mixed = values.mix(log_w)
    reward, discount = (
        jnp.asarray(batch.reward[0]),
        jnp.full(obs.shape[1], mpo.discount ** (len(batch.reward) - 1)),
    )
    goal = mixed.backup(reward, discount)
    objectives = {"return": values.mean(), **actions.preferences(atoms)}
    weights, _ = mpo._improve(objectives, log_w)

    def critic_loss(critic: Any, goal: Any) -> jax.Array:
        return jnp.mean(critic(obs[0], jnp.asarray(batch.action[0])).loss(goal))

    def policy_loss(trained: tuple[Any, dict], old: Any, atoms: Any, weights: Any) -> jax.Array:
        policy, alpha = trained[0](obs[-1]), trained[1]
        fit = m_step(policy, old, atoms, weights, alpha, mpo.bounds(jnp.ones(())))
        return fit.policy_loss + fit.alpha_loss

    online, target = state.online, state.target
    policy_args = (online.policy, alpha), old, atoms, weights
    return {
        "normalise observations": _compiled(scaling.observation, obs),
        "target policy, draw atoms": _compiled(
            lambda f, o, key: f(o).atoms(key, mpo.samples), target.policy, obs[-1], state.key
        ),
        "target critic": _compiled(
            lambda f, o, a: f(o, actions.clip(a)), target.critic, obs[-1], atoms
        ),
        "mean and mixture of its values": _compiled(
            lambda v, w: (v.mean(), v.mix(w)), values, log_w
        ),
        "backup (projection)": _compiled(lambda v, *g: v.backup(*g), mixed, reward, discount),
        "temperatures and weights": _compiled(mpo._improve, objectives, log_w),
        "critic's gradient": _compiled(eqx.filter_grad(critic_loss), online.critic, goal),
        "policy's and alphas' gradient": _compiled(eqx.filter_grad(policy_loss), *policy_args),
        "Adam, target copy": _stepping(mpo, state),
    }


def _compiled(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    compiled = eqx.filter_jit(function)
    return lambda: compiled(*args)


def _stepping(mpo: Mpo, state: State) -> Callable[[], Any]:
    """The optimiser's step, which writes over the last step's state as the update does."""
    arrays, static = eqx.partition(jax.tree.map(_copy, state), eqx.is_array)
    gradient = jax.tree.map(_copy, eqx.filter(state.online, eqx.is_inexact_array))
    dual_gradient = jax.tree.map(_copy, state.log_alpha)

    def step(arrays: Any, gradient: Any, dual_gradient: Any) -> Any:
        state = eqx.combine(arrays, static)
        return eqx.filter(mpo._step(state, gradient, dual_gradient, state.key), eqx.is_array)

    compiled = jax.jit(step, donate_argnums=0)

    def run() -> Any:
        nonlocal arrays
        arrays = compiled(arrays, gradient, dual_gradient)
        return arrays

    return run


def _copy(x: Any) -> Any:
    return jnp.copy(x) if eqx.is_array(x) else x


if __name__ == "__main__":
    main()
