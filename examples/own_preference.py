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


def effort(policy: posteriori.GreedyPolicy) -> float:
    """Return the mean squared torque of an episode."""
    env = gym.make("Pendulum-v1")
    obs, torques = env.reset(seed=0)[0], []
    for _ in range(200):
        torques.append(policy(obs))
        obs, *_ = env.step(torques[-1])
    return float(sum(torque.item() ** 2 for torque in torques) / 200)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    args = parser.parse_args()
    wanted = {"small": posteriori.Preference(small, epsilon=0.01)}
    for name, preferences in (("return alone", {}), ("small actions", wanted)):
        run = posteriori.train(
            "Pendulum-v1", preferences=preferences, steps=args.steps, final_episodes=20
        )
        print(f"{name}: mean return {run.final.mean:.0f}, effort {effort(run.policy):.2f}")
