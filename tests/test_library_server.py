"""The server of a library: a real process, asked by programs, by other pages, and by too many."""

from __future__ import annotations

import http.client
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import HANG, environment, started, wait_for
from films import film
from PIL import Image
from starlette.testclient import TestClient

from zsvg import Library
from zsvg.library import server
from zsvg.library.gate import is_loopback

TOKEN = "a word that nobody else knows"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path) -> Path:
    """A library of three small films, one of them gone."""
    folder = tmp_path_factory.mktemp("served")
    clips = folder / "clips"
    clips.mkdir()
    for number in range(3):
        film(clips / f"film {number}.mp4", range(number, number + 4))
    made = Library.open(folder / "library", f"local-dir:{tiny_clip_folder}")
    made.add(clips)
    (clips / "film 2.mp4").unlink()
    made.add(clips)
    return folder / "library"


@contextmanager
def serving(library: Path, *more: str, **variables: str) -> Iterator[int]:
    """Serve it in a process; yield the port."""
    line = ("-m", "zsvg", "serve", library, "--port", "0", *more)
    with started(*line, stderr=subprocess.PIPE, text=True, env=environment(**variables)) as process:
        said = process.stderr.readline()
        while "serving" not in said:
            assert said, "it ended"
            said = process.stderr.readline()
        yield int(re.search(r":(\d+);", said)[1])
        process.send_signal(signal.SIGINT)
        process.wait()


@pytest.fixture(scope="module")
def port(library: Path) -> Iterator[int]:
    with serving(library) as port:
        yield port


def ask(
    port: int, path: str, headers: dict[str, str] | None = None, method: str = "GET", **more: Any
) -> tuple[int, Any, dict[str, str]]:
    """Return the status, the body (JSON where it is), and the headers of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG)
    connection.request(method, path, headers=headers or {}, **more)
    answer = connection.getresponse()
    body, kind = answer.read(), answer.headers.get("content-type", "")
    connection.close()
    return answer.status, json.loads(body) if "json" in kind else body, dict(answer.headers)


def test_it_answers_as_the_library_does(library: Path, port: int):
    query = "a grey picture"
    status, found, _ = ask(port, f"/search?{urlencode({'q': query, 'top': 2})}")
    records = Library.open(library).search(query, top=2)
    assert status == 200
    assert found["query"] == query
    assert [(m["vid"], m["start"], m["end"], m["score"]) for m in found["moments"]] == [
        (record.vid, *window) for record in records for window in record.pred_relevant_windows
    ]
    status, listed, _ = ask(port, "/videos")
    assert (status, listed["total"]) == (200, 3)
    assert [video["vanished"] for video in listed["videos"]] == [False, False, True]
    assert ask(port, "/videos?offset=1&limit=1")[1]["videos"] == listed["videos"][1:2]
    content = listed["videos"][0]["content"]
    events = ask(port, f"/events?content={content}")[1]
    assert events
    assert all(0 <= event["start"] < event["end"] <= 4.2 for event in events)
    status, picture, headers = ask(port, f"/thumbnail?content={content}&at=2")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(picture)).size == (64, 48)
    assert ask(port, f"/thumbnail?content={'0' * 64}")[0] == 404
    health = ask(port, "/health")[1]
    assert (health["status"], health["videos"]) == ("ok", 2)
    status, page, _ = ask(port, "/")
    assert (status, b"/thumbnail" in page, b"http" in page) == (200, True, False)  # all is here


def test_its_document_is_true(port: int, tmp_path: Path):
    done = subprocess.run(
        [
            shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or "schemathesis",
            "run",
            f"http://127.0.0.1:{port}/openapi.json",
            *("--checks", "all", "--max-examples", "25", "--seed", "1", "--workers", "1"),
            *("--generation-deterministic", "--phases", "examples,coverage,fuzzing"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:{port}"}, 200),
        ({"Host": "[::1]:{port}"}, 200),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Host": "example.org"}, 421),
        ({"Host": "127.0.0.1.example.org"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://example.org"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Content-Length": "1"}, 413),
        ({"Transfer-Encoding": "chunked"}, 413),
    ],
)
def test_what_is_refused(port: int, headers: dict[str, str], status: int):
    given = {name: value.format(port=port) for name, value in headers.items()}
    for path in ("/health", "/openapi.json", "/search?q=x"):
        got, said, told = ask(port, path, given)
        assert got == status, said
        assert told["x-content-type-options"] == "nosniff"
        assert not any(name.lower().startswith("access-control") for name in told)
        assert status == 200 or "detail" in said


def test_a_link_to_the_page_may_be_followed(port: int):
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask(port, "/", visit)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(port: int, method: str):
    assert ask(port, "/search?q=x", method=method)[0] in (405, 413)


def test_fifty_at_once_are_answered_or_told_to_wait(port: int):
    def one(number: int) -> tuple[int, Any, dict[str, str]]:
        return ask(port, f"/search?{urlencode({'q': f'picture number {number}'})}")

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(one, range(50)))
    assert {status for status, _, _ in answers} <= {200, 503}
    assert sum(status == 200 for status, _, _ in answers) >= 2
    for number, (status, body, headers) in enumerate(answers):
        if status == 200:
            assert body["query"] == f"picture number {number}"
            assert body["moments"]
        else:
            assert headers["retry-after"] == "1"
    assert one(0)[0] == 200


def test_more_than_can_wait_are_told_so(library: Path, monkeypatch: pytest.MonkeyPatch):
    opened, gate = Library.open(library), threading.Event()
    real: Callable[..., Any] = opened.hits

    def slow(*arguments: Any, **options: Any) -> Any:
        assert gate.wait(HANG)
        return real(*arguments, **options)

    monkeypatch.setattr(opened, "hits", slow)
    monkeypatch.setattr(server, "WAITING", 4)
    app = server.build_app(opened)
    with TestClient(app, base_url="http://localhost") as client, ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(client.get, "/search?q=x") for _ in range(6)]
        wait_for(lambda: sum(future.done() for future in asked) == 2)
        gate.set()
        codes = sorted(future.result().status_code for future in asked)
    assert codes == [200] * 4 + [503] * 2


def test_a_token_is_asked_for(library: Path):
    with serving(library, ZSVG_TOKEN=TOKEN) as port:
        assert ask(port, "/health")[0] == 401
        assert ask(port, "/", {"Authorization": "Bearer other"})[2]["www-authenticate"] == "Bearer"
        assert ask(port, "/health", {"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert ask(port, "/health", {"Authorization": f"Bearer {TOKEN}é"})[0] == 401


def test_other_machines_need_a_token(library: Path, run_zsvg):
    for host in ("0.0.0.0", "::", "192.168.1.2", "archive.example.org"):
        status, _, error = run_zsvg("serve", library, "--host", host)
        assert (status, "set a --token too" in error) == (1, True)
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "[::1]", "localhost")] == [True] * 4
    status, _, error = run_zsvg("serve", library, "--token", "\n")
    assert (status, "printable ASCII" in error) == (1, True)


def test_the_port_is_taken(library: Path, port: int, run_zsvg):
    status, _, error = run_zsvg("serve", library, "--port", str(port))
    assert (status, error.count("\n")) == (1, 1)
    assert f"port {port}" in error
