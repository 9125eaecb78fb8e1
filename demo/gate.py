"""Which requests the server refuses, and the content security policy of the page."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gradio.utils import get_upload_folder
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse

from .origins import foreign, hostname, served
from .visitors import named, new_cookie

RESERVE = 1024**3  # bytes of the disk that uploads leave free
BODY = 4 * 1024**2  # bytes of a request that is no upload; questions take some hundred
_UPLOAD = "/gradio_api/upload"
_CLOSED = re.compile(
    r"/file[=/]+[a-z][a-z0-9+.-]+:|/proxy="  # addresses of the web; a drive is one letter
    r"|/process_recording|/vibe-"  # these keep files, and the page has no use for them
)

_FULL = "the disk of the server is full"

# Gradio builds its pages with inline scripts and styles, and its templates with `Function`.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@asynccontextmanager
async def gated(app: Any) -> AsyncIterator[None]:
    """Put a gate in front of a server while it runs (FastAPI's `lifespan`).

    Middleware that is given to Gradio stands behind its own, which answers other origins.
    """
    app.middleware_stack = Gate(app.middleware_stack, app.get_blocks())
    yield


class Gate:
    """ASGI middleware around the page.

    Requests for other host names (DNS rebinding) and of other pages are refused. So are web
    addresses in Gradio's file route, which would make a shared page an open proxy. The content
    security policy keeps browsers from other hosts. Bodies are bounded, uploads leave the last
    gigabyte of the disk free, and an interrupted upload leaves no file.
    """

    def __init__(self, app: Any, page: Any) -> None:
        self.app = app
        self.page = page  # a `gr.Blocks`, which learns its names when it is launched

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page has no use for WebSockets
            await send({"type": "websocket.close", "code": 1008})
            return
        uploads = (scope["method"], scope["path"].rstrip("/")) == ("POST", _UPLOAD)
        refused = self._refusal(scope, uploads)
        if refused is None and uploads:
            receive = _whole(receive, Headers(scope=scope).get("content-type", ""))
        elif refused is None:
            receive = await _small(receive)
            if receive is None:
                refused = f"this page takes at most {BODY // 1024**2} MB at once", 413
        app = self.app if refused is None else PlainTextResponse(*refused)
        visit = (scope["method"], scope["path"]) == ("GET", "/") and refused is None
        new = visit and not named(Headers(scope=scope).get("cookie", ""))
        await app(scope, receive, _with_policy(send, {"set-cookie": new_cookie()} if new else {}))

    def _refusal(self, scope: Any, uploads: bool) -> tuple[str, int] | None:
        """Return why a request is not answered, and the status that says so."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        bound, shared = getattr(self.page, "server_name", ""), self.page.share_url or ""
        names = {hostname(shared)} if shared else ()
        if len(hosts) != 1 or not served(hosts[0], bound, names):
            return "this page is not served under that name; see zsvg demo --host", 421
        # A link to the page is followed from anywhere; what is behind it is for itself alone.
        visit = scope["method"] in ("GET", "HEAD") and scope["path"] == "/"
        if foreign(headers) and not (visit and headers.get("sec-fetch-mode") == "navigate"):
            return "this page does not answer other pages", 403
        if _CLOSED.search(unquote(scope["path"]).lower()):
            return "not served here", 403
        if uploads and _free() < RESERVE:
            return _FULL, 507
        return None


def _whole(receive: Any, kind: str) -> Any:
    """Let an upload be read only to its end: of others nothing is kept."""
    whole, fields = False, _Fields(kind)

    async def read() -> Any:
        nonlocal whole
        message = await receive()
        if not whole:
            # Of all ends before the last byte, this is the one after which Gradio clears up.
            if message["type"] == "http.disconnect":
                raise MultiPartException("the upload broke off")
            if _free() < RESERVE:
                raise MultiPartException(_FULL)
            if fields.size_with(message.get("body", b"")) > BODY:
                raise MultiPartException("fields beside files exceed the maximum allowed size")
            whole = not message.get("more_body", False)
        return message

    return read


class _Fields:
    """Counts the bytes of an upload that are of no file: Gradio keeps them in memory."""

    def __init__(self, kind: str) -> None:
        self.size = 0
        self._name, self._value, self._file = b"", b"", False
        calls = ("part_begin", "header_field", "header_value", "header_end", "part_data")
        boundary = parse_options_header(kind)[1].get(b"boundary", b"none")
        callbacks: Any = {f"on_{name}": getattr(self, f"_{name}") for name in calls}
        self._parser: Any = MultipartParser(boundary, callbacks)

    def size_with(self, more: bytes) -> int:
        """Read the next bytes of the upload; return how many were of no file so far."""
        with suppress(MultipartParseError):  # Gradio's own parser will stop there too
            self._parser.write(more)
        return self.size

    def _part_begin(self) -> None:
        self._file = False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._file = b"filename" in parse_options_header(self._value)[1]
        self._name = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._file:
            self.size += end - start


async def _small(receive: Any) -> Any:
    """Read a request that is no upload, and return what reads it again.

    Its bytes are counted, because what a header says of them need not be true. None: they are too
    many, or broke off, and nobody is there to be answered.
    """
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or len(body) > BODY:
            return None
        more = message.get("more_body", False)
    whole = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def read() -> Any:
        return whole.pop() if whole else await receive()

    return read


def _with_policy(send: Any, more: Mapping[str, str]) -> Any:
    """Add the security headers and others to responses, and remove those of CORS."""

    async def told(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name in headers.keys():  # noqa: SIM118 (a list, so that names can go)
                if name.startswith("access-control-"):
                    del headers[name]
            headers.update(_HEADERS)
            for name, value in more.items():
                headers.append(name, value)
            message = {**message, "headers": headers.raw}
        await send(message)

    return told


def _free() -> int:
    """Return how many bytes the disk of uploads has left."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free
