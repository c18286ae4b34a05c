"""Train networks of one's own: a torso is any callable from a vector to `size` features.

python examples/own_networks.py
"""

import argparse

import equinox as eqx
import jax

import posteriori


class Residual(eqx.Module):
    """A linear layer and a residual one; heads for policy and critic are put on top of it."""

    first: eqx.nn.Linear
    second: eqx.nn.Linear
    size: int = eqx.field(static=True, default=64)

    def __init__(self, in_size: int, key: jax.Array):
        first, second = jax.random.split(key)
        self.first = eqx.nn.Linear(in_size, self.size, key=first)
        self.second = eqx.nn.Linear(self.size, self.size, key=second)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.silu(self.first(x))
        return x + jax.nn.silu(self.second(x))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    steps = parser.parse_args().steps
    # CartPole's two actions are discrete, so that the policy is categorical.
    run = posteriori.train(
        "CartPole-v1", torso=Residual, steps=steps, learning_starts=500, final_episodes=20
    )
    print(f"mean length {sum(run.final.lengths) / run.final.episodes:.0f} steps")
