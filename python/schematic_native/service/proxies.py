"""Where a request goes: the host of its URL, by way of the proxy that the environment names.

The environment is read for each new connection. Nothing here opens one. A proxy never gets to see a
request to this machine.
"""

from __future__ import annotations

import base64
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from schematic_native.ground.urls import is_loopback

# Of the URL nothing is told, as what cannot be read may be part of a password.
MALFORMED_PROXY = (
    "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is no URL with a host and a port"
)
_PORTS = {"http": 80, "https": 443}


class UnusableTransportError(Exception):
    """The transport cannot be used at the moment; another one may work."""


class UnknownProxyError(UnusableTransportError):
    """The environment names a kind of proxy that this transport does not support."""


class Proxy(NamedTuple):
    """An HTTP proxy, and the credentials for it."""

    host: str
    port: int
    authorization: str | None


class Target(NamedTuple):
    """Where requests to one URL go, and the lines that each of them begins with."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None
    lines: str

    @property
    def authority(self) -> str:
        """Host and port, for a tunnel."""
        return f"{_bracketed(self.host)}:{self.port}"


def find_target(url: str) -> Target:
    """Return where requests to a URL go.

    Raises:
        UnknownProxyError: the proxy for it does not speak plain HTTP.
        ValueError: the URL has no host, or is neither http nor https; or that of the proxy cannot be read.

    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"it is no http:// or https:// URL with a host: {url!r}")
    host = parts.hostname
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    port = parts.port or _PORTS[parts.scheme]
    proxy = None if is_loopback(url) else _find_proxy(parts.scheme, host, port)
    authority = _bracketed(host) + ("" if port == _PORTS[parts.scheme] else f":{port}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = f"Host: {authority}\r\n"
    if parts.username is not None:
        lines += f"Authorization: {_basic(parts)}\r\n"
    if proxy is not None and parts.scheme == "http":
        path = f"http://{authority}{path}"
        if proxy.authorization is not None:
            lines += f"Proxy-Authorization: {proxy.authorization}\r\n"
    return Target(parts.scheme, host, port, proxy, f"POST {path} HTTP/1.1\r\n{lines}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _basic(parts: SplitResult) -> str:
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(login.encode()).decode('ascii')}"


def _find_proxy(scheme: str, host: str, port: int) -> Proxy | None:
    proxies = getproxies()
    named = proxies.get(scheme) or proxies.get("all")
    if not named or proxy_bypass(f"{host}:{port}"):
        return None
    try:
        parts = urlsplit(named if "://" in named else f"http://{named}")
        proxy_port = parts.port or _PORTS["http"]
    except ValueError:
        raise ValueError(MALFORMED_PROXY) from None
    if parts.scheme != "http" or not parts.hostname:
        raise UnknownProxyError(named)
    authorization = None if parts.username is None else _basic(parts)
    return Proxy(parts.hostname, proxy_port, authorization)
