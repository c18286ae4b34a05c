"""Train a policy, evaluate it, and use it as another program would: from the run's folder.

python examples/pendulum.py
"""

import argparse

import gymnasium as gym

import posteriori


def main() -> None:
    """Swing up a pendulum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    steps = parser.parse_args().steps

    run = posteriori.train(
        "Pendulum-v1",
        steps=steps,
        learning_starts=steps // 10,
        final_episodes=0,
    )
    result = posteriori.evaluate(run, episodes=20)
    print(f"mean return {result.mean:.0f} over {result.episodes} episodes")

    policy = posteriori.load_policy(run.run_dir)
    env = gym.make("Pendulum-v1")
    obs, _ = env.reset(seed=0)
    total, over = 0.0, False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(policy(obs))
        total, over = total + float(reward), terminated or truncated
    print(f"one more episode: {total:.0f}")


if __name__ == "__main__":
    main()
