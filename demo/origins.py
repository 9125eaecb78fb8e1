"""Which requests come from this page, and not from one that a browser has open beside it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers

_PORTS = {"http": 80, "https": 443}


def served(host: str, bound: str, names: Iterable[str]) -> bool:
    """Return whether a `Host` header names this server.

    A domain that its owner points at this machine (DNS rebinding) makes a foreign page one of
    ours in the eyes of a browser, so names are ours only if they are known. Addresses cannot be
    pointed elsewhere: on a server that listens to all of its own, any will do.

    Args:
        host: The header; its port is not looked at, since tunnels change it.
        bound: The name or address that the server listens at.
        names: Other names of it.
    """
    given, bound = hostname(f"//{host}"), hostname(f"//{bracketed(bound)}")
    known = {"localhost", bound, *names} - {""}
    address, everywhere = _address(given), _address(bound)
    if everywhere is not None and everywhere.is_unspecified:
        if address is not None:
            return True
        own = socket.gethostname().lower()
        known |= {own, f"{own.partition('.')[0]}.local"}
    return given in known or (address is not None and address.is_loopback)


def loopback(bound: str) -> bool:
    """Return whether a server at this name or address is there for its own machine alone."""
    host = hostname(f"//{bracketed(bound)}")
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def foreign(headers: Headers) -> bool:
    """Return whether a page of another host or port sent a request, as browsers tell it."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "none", "same-origin"):
        return True
    # Browsers hide the origin of some requests of our own, as the referrer policy asks.
    if origin is None or (origin == "null" and site == "same-origin"):
        return False
    port = _PORTS.get(origin.partition(":")[0], 0)
    return _place(origin, port) != _place(f"//{headers.get('host', '')}", port)


def hostname(url: str) -> str:
    """Return the host of an address of the web, "" where there is none."""
    return _place(url, 0)[0]


def bracketed(host: str) -> str:
    """Return a host as it stands in an address of the web: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _place(url: str, port: int) -> tuple[str, int]:
    """Return host and port; what cannot be read is nowhere."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").rstrip("."), parts.port or port
    except ValueError:
        return "", -1


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
