"""What the server refuses, and what it lets a page fetch."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gradio.utils import get_upload_folder
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

RESERVE = 1024**3  # bytes of the disk that uploads leave free
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
    "object-src 'none'; base-uri 'self'"
)


class Gate:
    """ASGI middleware around the page.

    Gradio's file route also fetches web addresses for whoever asks; this page has no use for that,
    and a shared one should not be an open proxy. The policy keeps browsers from other hosts. The
    last gigabyte of the disk is not for uploads, and one that breaks off leaves nothing.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    @classmethod
    def middleware(cls) -> Middleware:
        """Return it as FastAPI takes it."""
        return Middleware(cls)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = unquote(scope["path"]).lower()
        if _CLOSED.search(path):
            await PlainTextResponse("not served here", 403)(scope, receive, send)
            return
        uploads = path.rstrip("/").endswith("/upload")
        if uploads and _free() < RESERVE:
            await PlainTextResponse(_FULL, 507)(scope, receive, send)
            return

        whole = False

        async def receive_whole() -> Any:
            nonlocal whole
            message = await receive()
            if not whole:
                # Of all ends before the last byte, this is the one after which Gradio clears up.
                if message["type"] == "http.disconnect":
                    raise MultiPartException("the upload broke off")
                if _free() < RESERVE:
                    raise MultiPartException(_FULL)
                whole = not message.get("more_body", False)
            return message

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {
                    **message,
                    "headers": [
                        *message["headers"],
                        (b"content-security-policy", POLICY.encode()),
                        (b"referrer-policy", b"no-referrer"),
                    ],
                }
            await send(message)

        await self.app(scope, receive_whole if uploads else receive, with_policy)


def _free() -> int:
    """Return how many bytes the disk of uploads has left."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free
