"""The page: one HTML file with its styles, its scripts and, unless a server gives it, its data."""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata, resources
from itertools import chain
from pathlib import Path
from typing import Any

from posteriori.runs.folder import write_atomically
from posteriori.runs.history import History, grouped
from posteriori.runs.report.run import describe
from posteriori.runs.report.study import describe_study, is_study, telling_runs
from posteriori.runs.tuning.record import read

STYLES = ("vendor/uplot.css", "page.css")
SCRIPTS = (
    "vendor/uplot.js",
    "words.js",
    "model.js",
    "plots.js",
    "sections.js",
    "study.js",
    "main.js",
)


def report(runs: Sequence[Path | str], out: Path | str, *, embed_videos: bool = True) -> Path:
    """Write what there is to see of runs into one HTML file that needs nothing else.

    Args:
        runs: Folders of runs; those that differ only in their seed are one group. Of a study, its
            trials are shown, and the runs of the best one and of the defaults.
        out: The file.
        embed_videos: Whether it holds the runs' videos.

    Raises:
        FileNotFoundError: a folder holds no run.
        ValueError: no run is given, `out` is no .html, or a run's files cannot be read.
    """
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out must end in .html, but it is {out}. Name it report.html.")
    if not runs:
        raise ValueError("There must be a run to report, but none was given. Name a run's folder.")
    source = _embedded if embed_videos else None
    given = [Path(path) for path in dict.fromkeys(map(str, runs))]
    studies = {path: read(path) for path in given if is_study(path)}
    shown = [telling_runs(studies[path]) if path in studies else [path] for path in given]
    described = [describe(run, source) for run in dict.fromkeys(chain(*shown))]
    data = payload(described, live=False, studies=list(map(describe_study, studies.values())))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, render(data).encode())
    return out


def payload(
    runs: Sequence[Mapping[str, Any]], *, live: bool, studies: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return the page's data: runs, as `describe` makes them, their groups, and studies."""
    histories = [History(r["name"], r["env"], r["record"]["settings"], []) for r in runs]
    place = {id(history): i for i, history in enumerate(histories)}
    groups = grouped(histories) if histories else {}
    return {
        "runs": runs,
        "groups": [
            {"label": label, "runs": [place[id(member)] for member in members]}
            for label, members in groups.items()
        ],
        "studies": list(studies),
        "live": live,
        "created": time.strftime("%Y-%m-%d %H:%M"),
        "version": metadata.version("posteriori"),
    }


def render(data: Mapping[str, Any] | None) -> str:
    """Return the page; without data it asks its server for them."""
    parts = {
        "css": "\n".join(map(_asset, STYLES)),
        "data": "" if data is None else to_json(data).replace("<", "\\u003c"),
        # What ends a script in HTML is none in JavaScript's strings and comments.
        "js": "\n".join(map(_asset, SCRIPTS)).replace("</script", "<\\/script"),
    }
    before, *pieces = _asset("page.html").split("{{")
    texts = [before]
    for piece in pieces:  # in one pass, so that data which looks like a place is left alone
        name, _, rest = piece.partition("}}")
        texts += [parts[name], rest]
    return "".join(texts)


def to_json(data: Mapping[str, Any]) -> str:
    """Return data as compact JSON; what is not finite would be no JSON, and is an error here."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


@cache
def _asset(name: str) -> str:
    return (
        resources.files("posteriori.runs.report")
        .joinpath("assets", name)
        .read_text(encoding="utf-8")
    )


def _embedded(video: Path) -> str:
    return f"data:video/mp4;base64,{base64.b64encode(video.read_bytes()).decode()}"
