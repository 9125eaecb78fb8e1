"""Who may come in by the demo's door: names, other pages of a browser, sizes, passwords."""

from __future__ import annotations

import functools
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import psutil
import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import zsvg
from tests.conftest import HANG
from tests.demo_pages import Page, ask, command
from zsvg.resources import demo_module

app, gate, origins, visits = (demo_module(name) for name in ("app", "gate", "origins", "visit"))
JSON = {"content-type": "application/json"}
PIECE = bytes(1024**2)


@pytest.fixture(scope="module")
def page(tiny_clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    grounder = zsvg.load(f"local-dir:{tiny_clip_folder}", "cpu")
    limits = visits.Limits(upload_mb=1)
    build = functools.partial(app.build_demo, grounder, limits=limits)
    with Page(build, limits, tmp_path_factory) as page:
        yield page


def upload(name: bytes = b'name="files"; filename="a.mp4"', size: int = 100) -> bytes:
    head = b"--x\r\ncontent-disposition: form-data; " + name
    return head + b"\r\n\r\n" + bytes(size) + b"\r\n--x--\r\n"


FORM = {"content-type": "multipart/form-data; boundary=x"}


STRANGE = ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example",
           "localhost.evil.example:{port}", "93.184.216.34", ""]  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_a_domain_that_points_here_does_not_reach_the_page(page: Page, name: str):
    host = {"host": name.format(port=urlparse(page.url).port)}
    kept = set(page.served.rglob("*"))
    for method, path, body, more in (
        ("GET", "/", None, {}),
        ("GET", "/config", None, {}),
        ("POST", "/gradio_api/upload", upload(), FORM),
        ("POST", "/gradio_api/queue/join", "{}", JSON),
    ):
        status, _, said = page.ask(method, path, body, {**host, **more})
        assert status == 421
        assert said == b"this page is not served under that name; see zsvg demo --host"
    assert set(page.served.rglob("*")) == kept


def test_the_machine_itself_reaches_the_page_by_its_loopback_names(page: Page):
    # Any port: a tunnel of ssh has another one.
    for name in ("localhost", "LOCALHOST:1234", "127.0.0.1", "127.9.9.9:80", "[::1]:7860"):
        assert page.ask("GET", "/config", None, {"host": name})[0] == 200, name


@pytest.mark.parametrize(
    ("host", "bound", "known"),
    [
        ("192.168.1.5:7860", "192.168.1.5", True),
        ("192.168.1.6:7860", "192.168.1.5", False),
        ("Films.lan:7860", "films.lan", True),
        ("films.lan.evil.example", "films.lan", False),
        ("192.168.1.5", "0.0.0.0", True),
        ("[fe80::1]:7860", "::", True),
        ("[fe80::1]:7860", "[fe80::1]", True),
        ("[fe80::1]:7860", "fe80::1", True),
        (f"{socket.gethostname()}:7860", "0.0.0.0", True),
        ("evil.example", "0.0.0.0", False),
        ("abc.gradio.live", "127.0.0.1", True),
        ("abd.gradio.live", "127.0.0.1", False),
        ("[::1", "127.0.0.1", False),
        ("", "", False),
    ],
)
def test_a_server_goes_by_the_names_that_it_was_given(host: str, bound: str, known: bool):
    assert origins.served(host, bound, {"abc.gradio.live"}) is known


def test_a_shared_page_goes_by_its_public_name_too(page: Page, monkeypatch: pytest.MonkeyPatch):
    public = {"host": "abc.gradio.live", "origin": "https://abc.gradio.live"}
    assert page.ask("GET", "/config", None, public)[0] == 421
    monkeypatch.setattr(page.demo, "share_url", "https://abc.gradio.live")
    assert page.ask("GET", "/config", None, public)[0] == 200
    assert page.ask("POST", "/gradio_api/upload", upload(), {**public, **FORM})[0] == 200
    other = {**public, "origin": "https://abd.gradio.live"}
    assert page.ask("POST", "/gradio_api/upload", upload(), {**other, **FORM})[0] == 403


def elsewhere(page: Page) -> list[dict[str, str]]:
    """Headers that browsers send for pages that are not this one."""
    port = urlparse(page.url).port
    return [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"http://127.0.0.1:{port - 1}"},
        {"origin": f"http://localhost:{port}"},  # the request is to 127.0.0.1
        {"origin": "http://[bad"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ]


def test_other_pages_send_nothing_and_read_nothing(page: Page):
    kept = set(page.served.rglob("*"))
    for headers in elsewhere(page):
        for method, path, body, more in (
            ("POST", "/gradio_api/upload", upload(), FORM),
            ("POST", "/gradio_api/queue/join", "{}", JSON),
            ("POST", "/gradio_api/call/label_stop", '{"data": []}', {"content-type": "text/plain"}),
            ("OPTIONS", "/gradio_api/upload", None, {"access-control-request-method": "POST"}),
            ("GET", "/config", None, {}),
            ("GET", "/gradio_api/heartbeat/abc", None, {}),
            ("GET", "/gradio_api/queue/data?session_hash=abc", None, {}),
        ):
            status, told, said = page.ask(method, path, body, {**headers, **more})
            assert (status, said) == (403, b"this page does not answer other pages"), headers
            assert not [name for name in told if name.lower().startswith("access-control-")]
    assert set(page.served.rglob("*")) == kept


def test_the_page_itself_and_links_to_it_are_answered(page: Page):
    own = page.url.rstrip("/")
    for headers in (
        {},
        {"origin": own},
        {"origin": own, "sec-fetch-site": "same-origin"},
        {"origin": "null", "sec-fetch-site": "same-origin"},  # a form, under our referrer policy
        {"sec-fetch-site": "none"},
    ):
        status, told, _ = page.ask("POST", "/gradio_api/upload", upload(), {**headers, **FORM})
        assert status == 200, headers
        assert not [name for name in told if name.lower().startswith("access-control-")]
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert page.ask("GET", "/", None, link)[0] == 200
    assert page.ask("GET", "/?view=api", None, link)[0] == 200
    assert page.ask("GET", "/logout", None, link)[0] == 403


def test_every_answer_says_that_it_is_not_for_frames_nor_for_guessing(page: Page):
    for status, (method, path, body, headers) in {
        200: ("GET", "/", None, {}),
        404: ("GET", "/nothing", None, {}),
        405: ("GET", "/gradio_api/upload", None, {}),
        422: ("POST", "/gradio_api/queue/join", "{}", JSON),
        421: ("GET", "/", None, {"host": "evil.example"}),
        403: ("GET", "/gradio_api/proxy=https://example.com/", None, {}),
        413: ("POST", "/gradio_api/queue/join", bytes(gate.BODY + 1), JSON),
    }.items():
        given, told, _ = page.ask(method, path, body, headers)
        assert given == status
        assert told["x-content-type-options"] == "nosniff"
        assert told.get_all("content-security-policy") == [gate.POLICY]
        assert "frame-ancestors 'none'" in gate.POLICY.split("; ")


def test_what_is_no_file_is_bounded(page: Page):
    fitting = json.dumps({"data": ["x" * (gate.BODY - 100)], "session_hash": "a"})
    assert page.post("/gradio_api/call/label_stop", fitting, JSON)[0] != 413
    over = b"x" * (gate.BODY + 1)
    for path in ("/gradio_api/queue/join", "/gradio_api/run/upload", "/login", "/nothing"):
        assert page.post(path, over, JSON)[0] == 413
    pieces = iter([over[:-1], over[-1:]])  # sent in chunks, without a length
    assert page.post("/gradio_api/queue/join", pieces, JSON)[0] == 413
    # Gradio keeps the fields of an upload in memory, whatever they are called.
    for name in (b'name="files"', b'name="filename"', b'name="a"\r\nx: ; filename="b"'):
        many = upload(name, gate.BODY // 2)[:-7] + b"\r\n" + upload(name, gate.BODY // 2 + 1)
        kept = set(page.served.rglob("*"))
        assert page.post("/gradio_api/upload", many, FORM)[0] == 413
        assert set(page.served.rglob("*")) == kept


def test_a_large_request_does_not_fill_the_memory(tiny_clip_folder: Path, tmp_path: Path):
    """200 MB in pieces, once with their length told and once without."""
    with command(tmp_path, "--model", f"local-dir:{tiny_clip_folder}") as (process, url):
        server = psutil.Process(process.pid)
        for told in ({}, {"content-length": str(200 * len(PIECE))}):
            before, seen = server.memory_info().rss, []

            def pieces(seen: list[int] = seen) -> Iterator[bytes]:
                for _ in range(200):
                    yield PIECE
                    seen.append(server.memory_info().rss)

            status, _, said = ask(url, "POST", "/gradio_api/queue/join", pieces(), {**JSON, **told})
            assert (status, said) == (413, b"this page takes at most 4 MB at once")
            assert max(*seen, server.memory_info().rss) - before < 48 * 1024**2


def test_a_page_with_a_password_on_all_addresses(
    tiny_clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from gradio_client import Client

    monkeypatch.setenv("ZSVG_DEMO_AUTH", "ann:se:cret-7")
    options = ("--model", f"local-dir:{tiny_clip_folder}", "--host", "0.0.0.0", "-vv")
    with command(tmp_path, *options) as (process, url):
        assert ask(url, "GET", "/config", None, {"host": "192.0.2.7:7860"})[0] == 401
        assert ask(url, "GET", "/config", None, {"host": "evil.example"})[0] == 421
        assert ask(url, "POST", "/gradio_api/upload", upload(), FORM)[0] == 401
        form = {"content-type": "application/x-www-form-urlencoded"}
        for password, status in (("guess", 400), ("se:cret-7", 200)):
            body = f"username=ann&password={password}"
            assert ask(url, "POST", "/login", body, form)[0] == status
        client = Client(
            url, auth=("ann", "se:cret-7"), verbose=False, httpx_kwargs={"timeout": HANG}
        )
        assert client.predict(api_name="/label_progress")["state"] == "none"
        process.terminate()
        for output in process.communicate(timeout=HANG):
            assert b"cret-7" not in output


def test_a_password_that_is_none_is_not_repeated(run_zsvg):
    for given in ("hunter2", ":hunter2", "hunter2:"):
        status, out, err = run_zsvg("demo", "--auth", given)
        assert status == 1
        assert "--auth takes USER:PASSWORD" in err
        assert "hunter2" not in out + err
