"""The commands that show runs: watch, plot, report, runs, dashboard."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from posteriori.runs.overlay import Overlay
    from posteriori.runs.policy import GreedyPolicy

Flag = tyro.conf.FlagCreatePairsOff[bool]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
RunPaths = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
RunEnv = Annotated[
    str | None, tyro.conf.arg(metavar="ID", help_behavior_hint="(default: the run's)")
]
RunsDir = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUNS_DIR")]


def watch(
    run: RunPath,
    *,
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE",
            help_behavior_hint="(default: a window; without a display, video.mp4 in RUN)",
        ),
    ] = None,
    seed: int = 0,
    env: RunEnv = None,
    best: Flag = False,
    overlay: Flag = False,
) -> None:
    """Show a greedy episode in a window, or record it as a video.

    Args:
        run: The run's folder.
        out: Record a video, an .mp4, instead of opening a window.
        seed: Of the episode.
        env: The environment; to be named where it imports a module, which runs its code.
        best: Take the policy of the best evaluation on the way, not the last one.
        overlay: Record a video with the step, the return, the critic's value and the action on it.
    """
    from posteriori.runs.folder import RunFolder, trusted
    from posteriori.runs.policy import load_policy
    from posteriori.runs.video import has_display, record, show

    folder = RunFolder.open(run)
    place = trusted(folder.read_config()[0], env, folder.record)
    policy, painter = _annotated(run, best=best) if overlay else (load_policy(run, best=best), None)
    if out is None and painter is None and has_display():
        if os.environ.get("SDL_VIDEODRIVER") == "dummy":  # as `main` set it, for pictures alone
            del os.environ["SDL_VIDEODRIVER"]
        where, episode = place, show(policy, place, seed=seed)
    else:
        where = out or folder.video
        episode = record(policy, place, where, seed=seed, overlay=painter)
    print(f"{where}: return {episode.total:,.1f} in {episode.length:,} steps")


def _annotated(run: Path, *, best: bool) -> "tuple[GreedyPolicy, Overlay]":
    """Return a run's policy and what it is drawn with."""
    from posteriori.runs.estimate import load_estimate
    from posteriori.runs.notices import warn
    from posteriori.runs.overlay import Overlay
    from posteriori.runs.policy import load_policy

    if best:
        warn("the overlay has no value: the critic of the best evaluation's time is not kept.")
        return load_policy(run, best=True), Overlay()
    policy, value = load_estimate(run)
    return policy, Overlay(value)


def plot(
    runs: RunPaths,
    *,
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE", help_behavior_hint="(default: curve.png in RUN; of several, curves.png)"
        ),
    ] = None,
) -> None:
    """Draw learning curves; runs that differ only in their seed get a median.

    Args:
        runs: Folders of runs.
        out: The figure; its suffix chooses the format, such as .png, .svg or .pdf.
    """
    from posteriori.runs.folder import RunFolder
    from posteriori.runs.plot import plot as draw

    if out is None:
        out = RunFolder(runs[0]).curve if len(runs) == 1 else Path("curves.png")
    print(draw(runs, out))


def report(
    runs: RunPaths,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("report.html"),
    videos: Flag = True,
) -> None:
    """Write one HTML file with everything there is to see of runs; it needs no network.

    Args:
        runs: Folders of runs; those that differ only in their seed are drawn as one band. Of a
            study of `tune`, its trials, and the runs of the best one and of the defaults.
        out: The file.
        videos: Whether the runs' videos are in the file, which is small without them.
    """
    from posteriori.runs.report.page import report as write

    print(write(runs, out, embed_videos=videos))


def runs(runs_dir: RunsDir = Path("runs"), *, json: Flag = False) -> None:
    """List runs, the newest first: how each stands, how far it is, what it scored.

    Args:
        runs_dir: Where they are; folders in it are searched as well.
        json: Print a JSON list, and nothing else.
    """
    from posteriori.runs.listing import find_runs, summarise, table

    found = []
    for run in find_runs(runs_dir):
        try:
            found.append(summarise(run))
        except (OSError, ValueError) as error:
            print(f"left out: {error}", file=sys.stderr)
    if json:
        from json import dumps

        print(dumps([run.to_json() for run in found], indent=2))
    else:
        print(table(found) if found else f"There are no runs in {runs_dir} yet.")


def dashboard(
    runs_dir: RunsDir = Path("runs"),
    *,
    port: int = 6007,
    host: str = "127.0.0.1",
    newest: int = 20,
) -> None:
    """Show runs in a browser while they train, like `report` but live.

    Args:
        runs_dir: Where the runs are; folders in it are searched as well.
        port: Of the page; 0 takes any that is free.
        host: Address to listen at; with the default, this machine alone can see the page.
        newest: Runs shown at most.
    """
    from posteriori.runs.listing import find_runs
    from posteriori.runs.report.server import Watched, serve

    find_runs(runs_dir)  # a folder that is not there is told now
    with (
        serve(Watched(runs_dir, newest), host=host, port=port) as server,
        suppress(KeyboardInterrupt),
    ):
        name = f"[{host}]" if ":" in host else host
        print(f"http://{name}:{server.server_address[1]}/ shows {runs_dir}; Ctrl-C ends it")
        sys.stdout.flush()
        server.serve_forever()
