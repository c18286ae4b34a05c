"""The command line.

JAX takes seconds to import, so that each command imports what it needs when it runs.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from posteriori.cli_tune import tune
from posteriori.cli_view import Flag, RunEnv, RunPath, dashboard, plot, report, runs, watch
from posteriori.runs.notices import told

if TYPE_CHECKING:
    from posteriori.runs.config import Config
    from posteriori.runs.evaluate import Evaluation
    from posteriori.runs.folder import RunFolder
    from posteriori.runs.run import Run

Log = Annotated[
    tuple[Literal["csv", "wandb"], ...],
    tyro.conf.arg(metavar="{csv,wandb}", help_behavior_hint="(default: none)"),
]
Preset = Literal["default", "tutorial"]
BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
DESCRIPTION = """Train continuous-control policies with MPO.

Begin with `posteriori train Pendulum-v1 --steps 20000`, a minute or two; its last
lines say what can follow. `posteriori COMMAND --help` has the options of a command.

With `--version` it tells its version; `--tyro-write-completion bash FILE` writes a completion
script for a shell (bash, zsh or tcsh).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code.

    Codes: 0 done; 1 the run failed; 2 bad usage or bad input; 130 interrupted; 143 terminated.

    Args:
        arguments: Without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # videos are drawn in memory, not on a screen
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"posteriori {version('posteriori')}")
        return 0
    try:
        with told():
            tyro.extras.subcommand_cli_from_dict(
                _commands(arguments),
                prog="posteriori",
                description=DESCRIPTION,
                args=arguments,
            )
        sys.stdout.flush()  # here, where a closed pipe is understood
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not _is_told(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return FAILED if isinstance(error, RuntimeError) else BAD_INPUT
    return 0


def resume(
    run: RunPath,
    *,
    steps: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the run's)")
    ] = None,
    env: RunEnv = None,
    log: Log = (),
    quiet: Flag = False,
) -> None:
    """Continue a run from its last checkpoint.

    Args:
        run: The run's folder.
        steps: A new total of environment steps.
        env: The environment; to be named where it imports a module, which runs its code.
        log: As for `train`.
        quiet: Show no progress, only the result.
    """
    from posteriori.runs.folder import RunFolder
    from posteriori.runs.run import resume as continue_run

    name, config = RunFolder(run).read_config()
    config = config if steps is None else replace(config, steps=steps)
    start = partial(continue_run, run, env=env, steps=steps)
    _follow(start, RunFolder(run), env or name, config, log=log, quiet=quiet)


def evaluate(
    run: RunPath,
    *,
    episodes: int = 100,
    seed: int = 0,
    env: RunEnv = None,
    json: Flag = False,
    best: Flag = False,
) -> None:
    """Evaluate a run's policy: greedy episodes in Gymnasium's own environment.

    Args:
        run: The run's folder.
        episodes: How many.
        seed: Of the episodes.
        env: The environment; to be named where it imports a module, which runs its code.
        json: Print one JSON object, with the return of each episode, and nothing else.
        best: Take the policy of the best evaluation on the way, not the last one.
    """
    from posteriori.runs.evaluate import evaluate as run_evaluation

    result = run_evaluation(run, env, episodes=episodes, seed=seed, best=best)
    if json:
        from json import dumps

        print(dumps(result.to_json()))
    else:
        print(_sentence(result))


def envs(
    pattern: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATTERN")] = "",
) -> None:
    """List environments that can be trained here, with what can run them.

    Args:
        pattern: Part of an id, such as walker; without it EnvPool's own ids are left out.
    """
    from posteriori.experience.envs import list_environments

    found = list_environments(pattern)
    if not found:
        raise ValueError(
            f"PATTERN must be part of an environment's id, but no id contains {pattern!r}. "
            "`posteriori envs` lists Gymnasium's."
        )
    width = max(len(env_id) for env_id, _ in found)
    for env_id, backends in found:
        print(f"{env_id:<{width}}  {', '.join(backends)}")


def _commands(arguments: Sequence[str]) -> dict[str, Callable[..., None]]:
    whole = arguments[0] == "train" or arguments[0].startswith("--tyro-")  # completion scripts
    train = _train_command(arguments) if whole else _train_outline
    others = (resume, evaluate, watch, plot, report, runs, dashboard, tune, envs)
    return {"train": train, **{command.__name__: command for command in others}}


def _train_outline() -> None:
    """Train a policy."""


def _train_command(arguments: Sequence[str]) -> Callable[..., None]:
    """Make the command: its options are the fields of `Config`, its defaults the preset's."""
    from posteriori.runs.config import PRESETS, Config

    defaults = PRESETS[_preset(arguments)]

    def train(
        env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")],
        *,
        settings: Annotated[Config, tyro.conf.OmitArgPrefixes] = defaults,
        preset: Preset = "default",  # noqa: ARG001 - tyro checks it, and it is in `settings` already
        run_dir: Annotated[
            Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: under runs/)")
        ] = None,
        log: Log = (),
        quiet: Flag = False,
    ) -> None:
        """Train a policy.

        Args:
            env: A Gymnasium id, such as BipedalWalker-v3; `posteriori envs` lists them.
            settings: Hyperparameters, with the preset's values for defaults.
            preset: Where the defaults come from.
            run_dir: A new or empty folder for the run.
            log: Where else metrics go: csv into metrics.csv of the run, wandb to Weights & Biases.
            quiet: Show no progress, only the result.
        """
        _train(env, settings, run_dir, log=log, quiet=quiet)

    return train


def _train(
    env: str, config: "Config", run_dir: Path | None, *, log: Sequence[str], quiet: bool
) -> None:
    from posteriori.experience.registry import check_known
    from posteriori.runs.config import check
    from posteriori.runs.folder import RunFolder, default_path
    from posteriori.runs.memory import check_run
    from posteriori.runs.run import train

    check(config)  # before a run is announced
    check_run(config)
    check_known(env)
    folder = RunFolder(run_dir or default_path(env, config.seed))
    start = partial(train, env, config=config, run_dir=folder.path)
    _follow(start, folder, env, config, log=log, quiet=quiet)


def _preset(arguments: Sequence[str]) -> str:
    """Find the preset before the options are read, since their defaults depend on it."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    given = [value for name, value in pairwise(words) if name == "--preset"]
    known = [name for name in given if name in get_args(Preset)]  # tyro refuses the others
    return known[-1] if known else "default"


def _follow(
    start: "Callable[..., Run]",
    folder: "RunFolder",
    env: str,
    config: "Config",
    *,
    log: Sequence[str],
    quiet: bool,
) -> None:
    """Start or continue a run, show its progress, and say how it went and what can be done next."""
    from posteriori.runs.terminal import progress
    from posteriori.runs.trackers import tracked

    name = f"{env} in {folder.path}"
    try:
        with (
            tracked(log, folder, env, config) as trackers,
            progress(config.steps, name, quiet) as view,
        ):
            run = start(sinks=[view, *trackers])
    except (KeyboardInterrupt, SystemExit):
        if folder.checkpoints.exists():
            print(f"\nStopped. Continue with:\n  posteriori resume {folder.path}", file=sys.stderr)
        raise
    if run.final is not None:
        print(_sentence(run.final))
    print(f"The run is in {folder.path}. Next:")
    for command in ("evaluate", "watch", "report"):
        print(f"  posteriori {command} {folder.path}")


def _sentence(result: "Evaluation") -> str:
    return (
        f"{result.env}: mean return {result.mean:,.1f} ± {result.std:,.1f} over {result.episodes} "
        f"greedy episodes (worst {result.min:,.1f}, best {result.max:,.1f})"
    )


def _is_told(error: Exception) -> bool:
    """Whether the error is a message to the user, rather than a fault that needs a traceback."""
    if isinstance(error, OSError):
        return True
    if type(error).__module__.startswith("posteriori."):
        return True
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    ours = last is not None and last.tb_frame.f_globals["__name__"].startswith("posteriori.")
    return ours and isinstance(error, ValueError | TypeError | ImportError)
