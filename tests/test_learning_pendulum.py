"""Learning: a small task, from nothing to solved, through the same calls as a user's."""

from pathlib import Path

import jax
import numpy as np

from posteriori import evaluate, train


def test_a_pendulum_is_swung_up_and_held(tmp_path: Path) -> None:
    # No torque at all returns -1189, the mean over 20 episodes; what six seeds of these settings
    # learnt returns -184 to -141.
    still = evaluate(lambda obs: np.zeros((len(obs), 1), np.float32), "Pendulum-v1", episodes=20)
    with jax.debug_key_reuse(False):  # which takes JAX's fast path from every call
        run = train(
            "Pendulum-v1",
            run_dir=tmp_path / "run",
            steps=8_000,
            envs=4,
            widths=(64, 64),
            support_points=51,
            batch_size=64,
            replay_size=20_000,
            learning_starts=500,
            steps_per_update=1,
            discount=0.97,
            evaluate_every=0,
            final_episodes=20,
            pictures=False,
        )
    assert run.final is not None
    assert still.mean < -1_000
    assert run.final.mean > -250
