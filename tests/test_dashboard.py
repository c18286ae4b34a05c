"""The dashboard: the page and its data over HTTP, and nothing else."""

import http.client
import json
import socket
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from reporting import evaluation, make_run, make_study

from posteriori.runs.lock import held
from posteriori.runs.report import server as report_server
from posteriori.runs.report.page import render
from posteriori.runs.report.run import describe
from posteriori.runs.report.server import Watched, serve


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    make_run(tmp_path / "runs" / "a", done=False)
    (tmp_path / "secret").write_text("secret")
    with serve(Watched(tmp_path / "runs"), port=0) as made:
        thread = Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def get(
    server: ThreadingHTTPServer, path: str, host: str | None = None, wanted: str = ""
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    if wanted:
        connection.putheader("Range", wanted)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def data(server: ThreadingHTTPServer) -> dict[str, Any]:
    status, body = get(server, "/data.json")
    assert status == 200
    return json.loads(body)


def test_it_listens_to_this_machine_alone(server: ThreadingHTTPServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_the_page_is_the_report_s_without_data(server: ThreadingHTTPServer) -> None:
    assert get(server, "/") == (200, render(None).encode())


def test_new_rows_and_new_runs_appear(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    (run,) = data(server)["runs"]
    assert run["series"]["evaluation/mean"][1] == [0, 50]
    with (tmp_path / "runs" / "a" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(evaluation(20_001, 70.0)) + "\n")
    make_run(tmp_path / "runs" / "b")
    runs = {run["name"]: run for run in data(server)["runs"]}
    assert set(runs) == {"a", "b"}
    assert runs["a"]["series"]["evaluation/mean"][1] == [0, 50, 70]


def test_a_run_is_read_again_when_it_has_changed_or_its_process_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(
        report_server, "describe", lambda path, source: read.append(path) or describe(path, source)
    )
    run = make_run(tmp_path / "a", done=False)
    state = {"state": "running", "text": "", "host": socket.gethostname()}
    (run / "state.json").write_text(json.dumps(state))
    watched = Watched(tmp_path)
    with held(run):
        states = [json.loads(watched.data())["runs"][0]["state"] for _ in range(2)]
    assert (states, len(read)) == (["running"] * 2, 1)
    assert json.loads(watched.data())["runs"][0]["state"] == "stopped"


def test_studies_appear_and_one_that_cannot_be_read_is_left_out(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    assert data(server)["studies"] == []
    for name in ("s", "t"):
        make_study(tmp_path / "runs" / name)
    (tmp_path / "runs" / "t" / "trials.json").write_text("{")
    (study,) = data(server)["studies"]
    assert study["path"] == str(tmp_path / "runs" / "s")


def test_a_run_that_cannot_be_read_is_left_out(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    (make_run(tmp_path / "runs" / "b") / "config.json").write_text("{")
    assert [run["name"] for run in data(server)["runs"]] == ["a"]


def test_a_video_is_served_by_the_name_in_the_data(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "a" / "video.mp4").write_bytes(b"moving")
    ((video,),) = [run["videos"] for run in data(server)["runs"]]
    assert get(server, f"/{video['src']}") == (200, b"moving")


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        ("bytes=0-1", (206, b"mo")),  # with which Safari asks whether it may seek
        ("bytes=2-", (206, b"ving")),
        ("bytes=-2", (206, b"ng")),
        ("bytes=4-99", (206, b"ng")),
        ("bytes=0-99", (200, b"moving")),
        ("bytes=0-1,3-4", (200, b"moving")),
        ("bytes=-", (200, b"moving")),
    ],
)
def test_a_part_of_a_video_can_be_asked_for(
    server: ThreadingHTTPServer, tmp_path: Path, wanted: str, answer: tuple[int, bytes]
) -> None:
    (tmp_path / "runs" / "a" / "video.mp4").write_bytes(b"moving")
    ((video,),) = [run["videos"] for run in data(server)["runs"]]
    assert get(server, f"/{video['src']}", wanted=wanted) == answer
    assert get(server, f"/{video['src']}", wanted="bytes=6-")[0] == 416


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/video/../../secret",
        "/video/..%2f..%2fsecret",
        "/video/%2e%2e/secret",
        "//etc/passwd",
        "/video//etc/passwd",
        "/data.json/../../secret",
        "/a/config.json",
        "/page.css",
    ],
)
def test_no_file_can_be_asked_for(server: ThreadingHTTPServer, path: str) -> None:
    status, body = get(server, path)
    assert status == 404
    assert b"secret" not in body.replace(b"secret not found", b"")


def test_another_name_for_this_machine_is_refused(server: ThreadingHTTPServer) -> None:
    assert get(server, "/data.json", host="evil.example")[0] == 403
    assert get(server, "/data.json", host=f"localhost:{server.server_port}")[0] == 200


def test_only_so_many_of_the_newest_are_shown(tmp_path: Path) -> None:
    for name in "abc":
        make_run(tmp_path / name)
    assert len(json.loads(Watched(tmp_path, newest=2).data())["runs"]) == 2


def test_a_port_in_use_is_an_error_that_names_the_option(server: ThreadingHTTPServer) -> None:
    with pytest.raises(OSError, match=r"--port must be free at 127.0.0.1, but \d+ cannot be used"):
        serve(Watched("."), port=server.server_port)
