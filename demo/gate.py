"""What the server refuses, and what it lets a page fetch."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gradio.utils import get_upload_folder
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

RESERVE = 1024**3  # bytes of the disk that uploads leave free
_ADDRESS = re.compile(r"/file[=/]+[a-z][a-z0-9+.-]+:|/proxy=")  # a drive is one letter

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
    last gigabyte of the disk is not for uploads.
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
        if _ADDRESS.search(path):
            await PlainTextResponse("not served here", 403)(scope, receive, send)
            return
        if path.endswith("/upload") and _free() < RESERVE:
            await PlainTextResponse("the disk of the server is full", 507)(scope, receive, send)
            return

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

        await self.app(scope, receive, with_policy)


def _free() -> int:
    """Return how many bytes the disk of uploads has left."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free
