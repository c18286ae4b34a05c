"""Maximum a posteriori policy optimisation (MPO) for continuous control, in JAX and Equinox."""

from posteriori.algorithms.mpo import Mpo
from posteriori.runs.config import PRESETS, Config
from posteriori.runs.evaluate import Evaluation, GreedyPolicy, evaluate, load_policy
from posteriori.runs.run import Run, RunFailed, resume, train

__all__ = [
    "PRESETS",
    "Config",
    "Evaluation",
    "GreedyPolicy",
    "Mpo",
    "Run",
    "RunFailed",
    "evaluate",
    "load_policy",
    "resume",
    "train",
]
