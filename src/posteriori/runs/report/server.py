"""The page of runs in progress, served on this machine and renewed as they train."""

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from posteriori.runs.folder import RunFolder, stamp
from posteriori.runs.listing import find_runs
from posteriori.runs.report.page import payload, render, to_json
from posteriori.runs.report.run import describe
from posteriori.runs.report.study import describe_study, is_study
from posteriori.runs.state import read_state
from posteriori.runs.tuning.record import read

NEWEST = 20  # runs on the page: what more would be is too much for the eye and the browser


class Watched:
    """The newest runs below a folder; a run is read again when its files have changed.

    Args:
        root: The folder.
        newest: Runs at most.
    """

    def __init__(self, root: Path | str, newest: int = NEWEST):
        self.root, self.newest = Path(root), newest
        self._read: dict[Path, tuple[tuple, dict[str, Any]]] = {}
        self._videos: dict[str, Path] = {}
        self._lock = Lock()  # requests come in threads

    def data(self) -> str:
        """Return the page's data as JSON; a run that cannot be read now is left out."""
        with self._lock:
            found = [self._run(path) for path in find_runs(self.root)[: self.newest]]
            runs = [run for run in found if run]
            return to_json(payload(runs, live=True, studies=self._studies()))

    def video(self, name: str) -> bytes | None:
        """Return a video that the data named; no other file can be asked for."""
        path = self._videos.get(name)
        return path.read_bytes() if path and path.is_file() else None

    def _run(self, path: Path) -> dict[str, Any] | None:
        folder = RunFolder(path)
        files = (folder.metrics, folder.state, folder.final, folder.warnings, folder.videos)
        stamps = [stamp(file) for file in (*files, folder.record, folder.video)]
        seen = (read_state(folder), *stamps)  # a process may be gone without a word
        before = self._read.get(path)
        if before is None or before[0] != seen:
            try:
                self._read[path] = (seen, describe(path, self._source))
            except (OSError, ValueError):
                return before[1] if before else None
        return self._read[path][1]

    def _studies(self) -> list[dict[str, Any]]:
        """Return the studies in the folder, or the one that it is."""
        made = []
        for path in filter(is_study, (self.root, *sorted(self.root.iterdir()))):
            with suppress(OSError, ValueError):
                made.append(describe_study(read(path)))
        return made

    def _source(self, video: Path) -> str:
        mark = hashlib.sha256(f"{video.resolve()} {stamp(video)}".encode()).hexdigest()[:16]
        name = f"{mark}.mp4"
        self._videos[name] = video
        return f"video/{quote(name)}"


def serve(watched: Watched, *, host: str = "127.0.0.1", port: int = 6007) -> ThreadingHTTPServer:
    """Return a server of the page that is bound, and answers once `serve_forever` is called.

    Args:
        watched: The runs.
        host: Address to listen at; the default is reached from this machine alone.
        port: 0 takes any that is free.

    Raises:
        OSError: the address cannot be used.
    """

    class Handler(_Handler):
        runs = watched

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise OSError(
            f"--port must be free at {host}, but {port} cannot be used: {error}. "
            "Give another --port; 0 takes any."
        ) from error


class _Handler(BaseHTTPRequestHandler):
    runs: Watched
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the page, its data or a video."""
        if not self._meant_for_us():
            self.send_error(HTTPStatus.FORBIDDEN, "The dashboard answers to its own address alone.")
            return
        path = unquote(urlsplit(self.path).path)
        kind, _, name = path.removeprefix("/").partition("/")
        answers: dict[str, Callable[[], tuple[str, bytes | None]]] = {
            "": lambda: ("text/html; charset=utf-8", render(None).encode()),
            "data.json": lambda: ("application/json", self.runs.data().encode()),
            "video": lambda: ("video/mp4", self.runs.video(name)),
        }
        known = kind in answers and (kind == "video" or not name)
        content_type, body = answers[kind]() if known else ("", None)
        if body is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._send(content_type, body)

    def _send(self, content_type: str, body: bytes) -> None:
        wanted = asked_range(self.headers.get("Range", ""), len(body))
        if not wanted:
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        part = len(wanted) < len(body)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK)
        if part:
            where = f"bytes {wanted.start}-{wanted.stop - 1}/{len(body)}"
            self.send_header("Content-Range", where)
            body = body[wanted.start : wanted.stop]
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def _meant_for_us(self) -> bool:
        """Refuse a name that somebody else's page has made lead here (DNS rebinding)."""
        address = str(self.connection.getsockname()[0])
        if not ip_address(address).is_loopback:
            return True  # the user has opened it to others, by whatever name
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return name in ("localhost", "127.0.0.1", "::1", address)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""


def asked_range(header: str, size: int) -> range:
    """Return which bytes a Range header asks for: Safari plays no video without an answer to it.

    What is not understood, such as several ranges, is ignored (RFC 9110, section 14.2).

    Args:
        header: As given; empty asks for all.
        size: How many there are.
    """
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip(), re.ASCII)
    first, last = found.groups() if found else ("", "")
    if first:
        return range(int(first), min(int(last) + 1, size) if last else size)
    return range(max(0, size - int(last)), size) if last else range(size)
