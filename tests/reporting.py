"""Run folders to be shown, written by hand, with rows as a run writes them."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from posteriori.runs.config import Config
from posteriori.runs.tuning.record import Tuned, write

STEPS = 20_000


def row(step: int, level: float) -> dict[str, float]:
    """Return a row of metrics of a walker-like run."""
    return {
        "step": step,
        "progress/episodes": step // 100,
        "progress/updates": step,
        "progress/seconds": step / 250,
        "speed/steps": 250.0,
        "speed/updates": 250.0,
        "rollout/return": level - 20,
        "rollout/length": 100.0,
        "rollout/clipped": 0.1,
        "kl/mean": 0.9,
        "kl/mean/max": 1.4,
        "kl/cov": 1.0,
        "kl/cov/max": 1.6,
        "ess/return": 0.82,
        "temperature/return": 0.3,
        "alpha/mean": 0.1,
        "alpha/cov": 20.0,
        "sigma": 0.4,
        "sigma/0": 0.3,
        "sigma/1": 0.5,
        "loss/critic": 0.02,
        "loss/policy": -0.1,
        "value": 0.5,
        "pace": 1.0,
        "scale/reward": 24.0,
    }


def evaluation(step: int, mean: float) -> dict[str, float]:
    """Return the row of an evaluation whose episodes lie 10 around the mean."""
    return {
        "step": step,
        "evaluation/mean": mean,
        "evaluation/std": 5.0,
        "evaluation/min": mean - 10,
        "evaluation/max": mean + 10,
        "evaluation/length": 120.0,
        "evaluation/best": mean,
    }


def make_run(path: Path, *, level: float = 0.0, done: bool = True, **settings: object) -> Path:
    """Write a run of 20,000 steps with evaluations of `level` and `level` + 50."""
    config = replace(Config(steps=STEPS), **settings)  # pyright: ignore[reportArgumentType]
    path.mkdir(parents=True)
    record = {
        "env": "Walker-v0",
        "settings": asdict(config),
        "command": ["posteriori", "train", "Walker-v0", "--run-dir", "x", "--seed", "3"],
        "started": "2026-01-02T03:04:05+0000",
        "versions": {"python": "3.11.7", "jax": "0.9"},
        "source": {"commit": "abc123", "changed": False},
        "hardware": {"cpu": "A CPU", "cores": 2, "memory_gib": 8.0, "devices": ["cpu: cpu"]},
    }
    (path / "config.json").write_text(json.dumps(record))
    rows = [row(step, level) for step in range(1000, STEPS + 1, 1000)]
    rows += [evaluation(10_000, level), evaluation(20_000, level + 50)]
    rows.sort(key=lambda one: one["step"])
    (path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    if done:
        returns = (level + 50 + np.linspace(-5, 5, 11)).tolist()
        numbers = {"mean": level + 50, "std": 3.2, "min": returns[0], "max": returns[-1]}
        (path / "final.json").write_text(json.dumps({**numbers, "returns": returns}))
    return path


def make_study(path: Path) -> Tuned:
    """Write a study of six complete trials, the first that of the defaults, one pruned, one failed.

    Trial n has n_step n + 1 and the score 100 - 10 (n - 3)^2: trial 3 is the best.
    """
    space = {
        "n_step": {"low": 1, "high": 8, "log": False},
        "policy_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "widths": {"choices": [[32], [64, 64], [128]]},
    }
    trials = [
        {
            "number": n,
            "state": "complete" if n < 6 else "pruned" if n == 6 else "fail",
            "values": {"n_step": n + 1, "policy_learning_rate": 1e-3, "widths": [64, 64]},
            "score": score if n < 6 else None,
            "scores": [score - 1, score + 1] if n < 6 else [],
            "text": "" if n < 6 else "after 60 steps" if n == 6 else "<b>seed1</b>: lost",
            "curve": [[100, -50.0]],
        }
        for n, score in enumerate(100.0 - 10.0 * (n - 3) ** 2 for n in range(8))
    ]
    importances = {"n_step": 0.75, "policy_learning_rate": 0.25, "widths": 0.0}
    path.mkdir(parents=True)
    defaults = trials[0]["values"]
    made = Tuned(path, "Walker-v0", 1000, 2, 100, space, defaults, trials, importances)
    write(made)
    return made
