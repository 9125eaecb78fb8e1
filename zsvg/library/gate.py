"""Which requests the server of a library refuses; the same rules as those of the demo's page."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from zsvg.resources import demo_module

_HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Gate:
    """ASGI middleware: other host names, other origins, bodies and wrong tokens are refused."""

    def __init__(self, app: Any, *, host: str, token: str | None) -> None:
        self.app = app
        self.host = host
        self.token = token
        self._origins: Any = demo_module("origins")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refused = self._refusal(Headers(scope=scope), scope)

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                headers.update(_HEADERS)
                message = {**message, "headers": headers.raw}
            await send(message)

        app = self.app
        if refused is not None:
            status, why = refused
            more = {"www-authenticate": "Bearer"} if status == 401 else None
            app = JSONResponse({"detail": why}, status, headers=more)
        await app(scope, receive, told)

    def _refusal(self, headers: Headers, scope: Any) -> tuple[int, str] | None:
        """Return the status and the reason with which a request is not answered."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._origins.served(hosts[0], self.host, ()):
            return 421, "this library is not served under that name; see zsvg serve --host"
        visit = scope["method"] in ("GET", "HEAD") and scope["path"] == "/"
        navigates = visit and headers.get("sec-fetch-mode") == "navigate"
        if self._origins.foreign(headers) and not navigates:
            return 403, "this library does not answer pages of other origins"
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return 413, "requests have no body here"
        given = headers.get("authorization", "").encode("utf-8", "replace")
        wanted = f"Bearer {self.token}".encode()
        if self.token is not None and not hmac.compare_digest(given, wanted):
            return 401, "bring the token: Authorization: Bearer TOKEN"
        return None


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine reach what listens at a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
