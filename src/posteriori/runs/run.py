"""Training runs: start one, continue one."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from posteriori.experience.collect import NonFinite
from posteriori.experience.envs import EnvLike, environment_name
from posteriori.experience.faults import EnvironmentFailed
from posteriori.models.actions import Preference
from posteriori.models.actor import Actor
from posteriori.runs import checkpoint
from posteriori.runs.artifacts import finish, forget_films
from posteriori.runs.assemble import TorsoFactory
from posteriori.runs.checkpoint import CheckpointError
from posteriori.runs.config import Config, check, fingerprint, plain, with_settings
from posteriori.runs.evaluate import Evaluation
from posteriori.runs.folder import RunFolder, trusted
from posteriori.runs.journal import Notice
from posteriori.runs.lock import held
from posteriori.runs.loop import Loop, Stopped
from posteriori.runs.policy import GreedyPolicy
from posteriori.runs.restoring import newest_saved
from posteriori.runs.saving import restore
from posteriori.runs.sinks import JsonLines, Sink, TensorBoard, check_mark
from posteriori.runs.state import recorded
from posteriori.runs.stopping import stop_signals


class RunFailed(RuntimeError):
    """A run that cannot go on; its last checkpoint is kept."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run."""

    run_dir: Path
    env: str
    config: Config
    steps: int
    actor: Actor
    best: Evaluation | None
    final: Evaluation | None
    warnings: tuple[Notice, ...] = ()

    @property
    def policy(self) -> GreedyPolicy:
        """The greedy policy at the end of the run."""
        return GreedyPolicy(self.actor)


def train(
    env: EnvLike,
    *,
    config: Config | None = None,
    run_dir: Path | str | None = None,
    sinks: Sequence[Sink] = (),
    evaluation_env: EnvLike | None = None,
    torso: TorsoFactory | None = None,
    preferences: Mapping[str, Preference] | None = None,
    **settings: object,
) -> Run:
    """Train a policy with MPO.

    Args:
        env: A Gymnasium id, an environment, a vector environment, or a function that makes an
            environment.
        config: Settings; the defaults if not given.
        run_dir: Folder to make for the run; by default one under `runs/`.
        sinks: Callables that get (step, metrics), beside the run folder's JSON lines and
            TensorBoard events.
        evaluation_env: What to evaluate in, if not `env`.
        torso: Makes networks of one's own: from an input size and a key to a callable with an
            attribute `size`.
        preferences: Objectives of the action alone, by name, beside the return.
        **settings: Fields of `Config`, or of its `mpo`, that replace the config's.

    Raises:
        ValueError: If a setting, the environment or the folder cannot be used.
        TypeError: If a setting is none, or has the wrong type.
        RunFailed: If the run cannot go on, such as after a NaN; the last checkpoint is kept.
        KeyboardInterrupt: After Ctrl-C, with the run saved.
        SystemExit: After SIGTERM, with the run saved; the code is 143.
    """
    config = with_settings(config or Config(), settings)
    check(config)
    loop = _loop(env, config, evaluation_env, torso, preferences, seed=config.seed)
    folder = RunFolder.create(run_dir, env=loop.name, seed=config.seed)
    with held(folder.path):
        folder.write_config(loop.name, config)
        return _run(loop, folder, sinks)


def resume(
    run_dir: Path | str,
    *,
    env: EnvLike | None = None,
    steps: int | None = None,
    sinks: Sequence[Sink] = (),
    evaluation_env: EnvLike | None = None,
    torso: TorsoFactory | None = None,
    preferences: Mapping[str, Preference] | None = None,
) -> Run:
    """Continue a run from its newest checkpoint.

    Args:
        run_dir: The run's folder.
        env: The environment, where it was not an id.
        steps: A new total of environment steps; by default the run's own.
        sinks: As for `train`.
        evaluation_env: As for `train`.
        torso: As for `train`, where the run had one.
        preferences: As for `train`, where the run had some.

    Raises:
        ValueError: If the folder holds no run, or one that these arguments do not fit.
        RunFailed: As for `train`.
        KeyboardInterrupt: As for `train`.
        SystemExit: As for `train`.
    """
    folder = RunFolder.open(run_dir)
    name, config = folder.read_config()
    if steps is not None:
        config = dataclasses.replace(config, steps=steps)
        check(config)
    named = trusted(name, env, folder.record)
    folder.refuse_links()
    with held(folder.path):
        saved = newest_saved(folder.checkpoints, fingerprint(config))
        step = saved.meta["steps"]
        fresh_seed = int(np.random.SeedSequence([config.seed, step]).generate_state(1)[0])
        loop = _loop(named, config, evaluation_env, torso, preferences, seed=fresh_seed)
        restore(loop, saved, fresh_seed)
        forget_films(folder, step)
        check_mark(folder.metrics, saved.meta["metrics"])
        return _run(loop, folder, sinks, resumed_at=step)


def _loop(
    env: EnvLike,
    config: Config,
    evaluation_env: EnvLike | None,
    torso: TorsoFactory | None,
    preferences: Mapping[str, Preference] | None,
    *,
    seed: int,
) -> Loop:
    try:
        return Loop(env, config, evaluation_env, torso, preferences, seed=seed)
    except (NonFinite, EnvironmentFailed) as error:
        raise RunFailed(f"{environment_name(env)}: {error}") from error


def _way_back(folder: RunFolder) -> str:
    try:
        checkpoint.latest(folder.checkpoints)
    except checkpoint.CheckpointError:
        return "There was no checkpoint yet: train it again."
    return f"Go back to the last checkpoint with `posteriori resume {folder.path}`."


def _run(
    loop: Loop, folder: RunFolder, sinks: Sequence[Sink], *, resumed_at: int | None = None
) -> Run:
    with ExitStack() as stack:
        stack.enter_context(recorded(folder))
        own = (
            JsonLines(folder.metrics, resume_step=resumed_at),
            TensorBoard(folder.tensorboard, purge_step=resumed_at, settings=plain(loop.config)),
        )
        loop.journal.open(folder.warnings, resume_step=resumed_at)
        for closing in (*own, loop):
            stack.callback(closing.close)
        try:
            final = _to_the_end(loop, folder, [*own, *sinks])
        except (NonFinite, FloatingPointError, CheckpointError, EnvironmentFailed) as error:
            raise RunFailed(
                f"{loop.name}, step {loop.steps}: {error} {_way_back(folder)}"
            ) from error
        actor = loop.actor()
        if loop.config.pictures:
            value = loop.overlay_value()
            finish(folder.path, GreedyPolicy(actor), loop.evaluation_env, value)
        said = tuple(loop.journal.notices)
        return Run(folder.path, loop.name, loop.config, loop.steps, actor, loop.best, final, said)


def _to_the_end(loop: Loop, folder: RunFolder, sinks: Sequence[Sink]) -> Evaluation | None:
    with stop_signals() as stop:
        try:
            loop.run(folder, sinks, stop)
            return loop.final()
        except Stopped:
            stop.leave()
