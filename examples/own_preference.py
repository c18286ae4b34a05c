"""Prefer small actions where the return allows it: an objective of the action beside the return.

python examples/own_preference.py
"""

import argparse

import gymnasium as gym
import jax
import jax.numpy as jnp

import posteriori


def small(action: jax.Array) -> jax.Array:
    """Return minus the squared size of actions, which are in [-1, 1]; larger is better."""
    return -jnp.sum(action**2, axis=-1)


def effort(run: posteriori.Run) -> float:
    """Return the mean squared torque of a greedy episode of the pendulum, in (N m)^2."""
    env = gym.make("Pendulum-v1")
    obs, _ = env.reset(seed=0)
    torques, over = [], False
    while not over:
        torques.append(run.policy(obs))
        obs, _, terminated, truncated, _ = env.step(torques[-1])
        over = terminated or truncated
    return float(sum(torque.item() ** 2 for torque in torques) / len(torques))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--epsilon", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    wanted = {"small": posteriori.Preference(small, given.epsilon)}
    for name, preferences in (("the return alone", {}), ("and small actions", wanted)):
        run = posteriori.train(
            "Pendulum-v1",
            preferences=preferences,
            steps=given.steps,
            seed=given.seed,
            final_episodes=20,
        )
        print(f"{name}: mean return {run.final.mean:.0f}, effort {effort(run):.2f}")
