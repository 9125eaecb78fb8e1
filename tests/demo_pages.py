"""Served demo pages for the tests, and what their visitors bring."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any
from urllib.parse import urlparse
from urllib.request import urlopen

import pytest

import zsvg
from tests.conftest import HANG, environment, started, wait_for
from zsvg.resources import demo_module

Answer = tuple[int, http.client.HTTPMessage, bytes]


def ask(url: str, method: str, path: str, body: Any = None, headers: Any = ()) -> Answer:
    """Send a request to a server; return status, headers and what was answered."""
    connection = http.client.HTTPConnection(urlparse(url).netloc, timeout=HANG)
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


class Page:
    """A page on a running server, and a program that asks it through the named endpoints."""

    def __init__(
        self, build: Callable[[], Any], limits: Any, folders: pytest.TempPathFactory
    ) -> None:
        # As `zsvg demo` does: Gradio serves this folder, and reads its name while a page is built.
        self.served = folders.mktemp("served")
        os.environ["GRADIO_TEMP_DIR"] = str(self.served)
        os.environ["ZSVG_CACHE"] = str(folders.mktemp("features"))
        self.demo = build()
        self.limits = limits
        self.videos: list[Path] = []
        self.base = Path()  # of what lies around a library
        (state,) = (b for b in self.demo.blocks.values() if type(b).__name__ == "State")
        self.site = state.delete_callback.__self__
        self.site_folder = self.site.folder

    def __enter__(self) -> Page:
        options = demo_module("app").launch_options(self.limits)
        for attempt in range(3):
            try:
                _, self.url, _ = self.demo.launch(
                    prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **options
                )
                break
            except ValueError:  # Gradio gives its own first page three seconds, busy machine or not
                self.demo.close()
                if attempt == 2:
                    raise
        self.client = self.another_client()
        return self

    def __exit__(self, *exc: object) -> None:
        self.demo.close()

    def another_client(self) -> Any:
        from gradio_client import Client

        return Client(self.url, verbose=False, httpx_kwargs={"timeout": HANG})

    def file(self, path: Path) -> Any:
        from gradio_client import handle_file

        return handle_file(str(path))

    def call(self, name: str, *given: Any, client: Any = None) -> Any:
        return (client or self.client).predict(*given, api_name=name)

    def refusal(self, name: str, *given: Any, client: Any = None) -> str:
        from gradio_client.exceptions import AppError

        with pytest.raises(AppError) as caught:
            self.call(name, *given, client=client)
        return str(caught.value)

    def until(self, name: str, state: str, client: Any = None) -> Any:
        """Ask how far a run is until it has a state."""

        def has() -> Any:
            said = self.call(name, client=client)
            if said["state"] == state:
                return said
            assert said["state"] not in ("failed", "done", "stopped"), said

        return wait_for(has)

    def upload(self, content: bytes) -> tuple[int, str]:
        """Upload a file as a browser does; return the status, and where it is on the server."""
        head = b'--x\r\ncontent-disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
        kind = {"content-type": "multipart/form-data; boundary=x"}
        status, body = self.post("/gradio_api/upload", head + content + b"\r\n--x--\r\n", kind)
        return status, json.loads(body)[0] if status == 200 else ""

    def get(self, path: str) -> tuple[int, bytes]:
        """Fetch a path exactly as written."""
        connection = http.client.HTTPConnection(urlparse(self.url).netloc, timeout=HANG)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def raw(self, name: str, data: list[Any], session: str = "nobody") -> str:
        """Call an endpoint with data as it is, without a client library; return what it says."""
        kind = {"content-type": "application/json"}
        given = json.dumps({"data": data, "session_hash": session})
        status, body = self.post(f"/gradio_api/call{name}", given, kind)
        if status != 200:
            return body.decode()
        return self.get(f"/gradio_api/call{name}/{json.loads(body)['event_id']}")[1].decode()

    def post(self, path: str, body: Any, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send a request; return the status and what was answered."""
        status, _, said = self.ask("POST", path, body, headers)
        return status, said

    def ask(self, method: str, path: str, body: Any = None, headers: Any = ()) -> Answer:
        """Send a request with headers of its own; return status, headers and what was answered."""
        return ask(self.url, method, path, body, headers)


def microworld_video(path: Path, index: int, seconds: float = 12.0) -> Path:
    """Render the first seconds of a microworld video."""
    from zsvg.microworld.render import Renderer
    from zsvg.microworld.world import FPS, plan_video
    from zsvg.video.writing import write_video

    scene, _ = plan_video("chalk", "val", 5, index)
    renderer = Renderer(scene)
    frames = (renderer.frame(k / FPS) for k in range(int(seconds * FPS)))
    write_video(path, frames, fps=FPS, preset="ultrafast", crf=22)
    return path


@contextmanager
def labelled_page(folders: pytest.TempPathFactory, folder: Path | None = None) -> Iterator[Page]:
    """Serve `micro` and a folder, by default of three short videos of microworld."""
    videos = []
    if folder is None:
        folder = folders.mktemp("videos")
        videos = [microworld_video(folder / f"chalk-{index}.mp4", index) for index in range(3)]
    limits = demo_module("visit").Limits()

    def build() -> Any:
        grounder = zsvg.load("micro", "cpu")
        return demo_module("app").build_demo(grounder, videos=folder, device="cpu")

    with Page(build, limits, folders) as page:
        page.videos = videos
        yield page


@contextmanager
def library_page(
    folders: pytest.TempPathFactory, *, videos: int = 20, index: bool = True
) -> Iterator[Page]:
    """Serve `micro` and a library of short videos of microworld.

    Every tenth lasts twelve seconds, the others four; every third is years old. Beside `videos`,
    which is indexed, lie `more` with two that may be, and `secret` with one that may not, though a
    link leads there.
    """
    library_of = pytest.importorskip("zsvg.library.library").Library
    pytest.importorskip("lancedb", reason="pip install -e '.[library]'")
    base = folders.mktemp("library")
    for number in range(videos):
        file = base / "videos" / f"day{number % 2 + 1}" / f"film-{number}.mp4"
        microworld_video(file, number, 12 if number % 10 == 0 else 4)
        if number % 3 == 0:
            os.utime(file, (1e9, 1e9))
    for place, number in (("more/inner/late", 331), ("more/other/later", 332)):
        microworld_video(base / f"{place}.mp4", number, 4)
        line = f"This kettle whistles {Path(place).name}."
        words = f"1\n00:00:01,000 --> 00:00:02,500\n{line}\n"
        (base / f"{place}.srt").write_text(words, encoding="utf-8")
    microworld_video(base / "secret" / "hidden.mp4", 333, 4)
    (base / "more" / "link").symlink_to(base / "secret")
    grounder = zsvg.load("micro", "cpu")
    library = library_of.open(base / "library", grounder)
    library.add(base / "videos")
    limits = demo_module("visit").Limits()

    def build() -> Any:
        allowed = [base / "more"] if index else []
        return demo_module("app").build_demo(grounder, device="cpu", library=library, index=allowed)

    with Page(build, limits, folders) as page:
        page.base = base
        yield page


@contextmanager
def command(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `zsvg demo` with a temporary folder of its own; yield the process and its address."""
    line = ("-m", "zsvg", "demo", *options, "--device", "cpu")
    variables = environment(TMPDIR=str(folder), ZSVG_CACHE=str(folder / "features"))

    def answers() -> bool:
        with suppress(OSError), urlopen(url, timeout=HANG):
            return True
        return process.poll() is not None

    with ExitStack() as processes:
        for _ in range(3):  # somebody else may take the port before the page does
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            process = processes.enter_context(
                started(*line, "--port", str(port), env=variables, stdout=PIPE, stderr=PIPE)
            )
            wait_for(answers)
            if process.poll() is None:
                break
        assert process.poll() is None, process.communicate()
        yield process, url
