"""Sends requests over an HTTP client of the program: of httpx, httpx2, aiohttp, or one that is used like them.

Clients are told apart by their attributes: this module imports none of these libraries, and never closes a
client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from schematic_native.ground.arguments import shown


class Response(NamedTuple):
    """The response of an HTTP client."""

    status: int
    content: bytes
    headers: Mapping[str, str]  # looked up whatever their case
    reason: str

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004


# Sends one request, without following redirects: method, URL, content, headers, seconds or None.
SendRequest: TypeAlias = Callable[
    [str, str, bytes | None, Mapping[str, str], float | None], Awaitable[Response]
]


def adapt(client: object) -> SendRequest:
    """Return a function that sends requests over a client.

    Raises:
        TypeError: it is of no kind that is supported.

    """
    if callable(getattr(client, "request", None)):
        if _is_like_httpx(client):
            return partial(
                send_over_httpx if hasattr(client, "aclose") else _send_in_thread, client
            )
        if hasattr(client, "ws_connect") and hasattr(client, "closed"):
            return partial(_send_over_aiohttp, client)
    raise TypeError(
        "httpx_client must be a client of httpx or httpx2, or an aiohttp.ClientSession, "
        f"got {shown(client)}"
    )


def _is_like_httpx(client: object) -> bool:
    """Tell whether a client is used as those of httpx are.

    A mock of the class has the methods of one, and not what is set on each client.
    """
    if isinstance(client, type):
        return False
    return hasattr(client, "follow_redirects") or hasattr(client, "build_request")


def _from_httpx(response: Any) -> Response:
    status, content = response.status_code, response.content
    if not isinstance(status, int) or not isinstance(content, bytes):
        raise TypeError(f"httpx_client has returned {shown(response)}, which is no response")
    return Response(status, content, response.headers, response.reason_phrase)


async def send_over_httpx(
    client: Any,
    method: str,
    url: str,
    content: bytes | None,
    headers: Mapping[str, str],
    timeout: float | None,
) -> Response:
    """Send a request over an httpx.AsyncClient."""
    response = await client.request(
        method, url, content=content, headers=headers, timeout=timeout, follow_redirects=False
    )
    return _from_httpx(response)


async def _send_in_thread(
    client: Any,
    method: str,
    url: str,
    content: bytes | None,
    headers: Mapping[str, str],
    timeout: float | None,
) -> Response:
    """Send a request over an httpx.Client, in a worker thread."""
    response = await asyncio.to_thread(
        client.request,
        method,
        url,
        content=content,
        headers=headers,
        timeout=timeout,
        follow_redirects=False,
    )
    return _from_httpx(response)


async def _send_over_aiohttp(
    client: Any,
    method: str,
    url: str,
    content: bytes | None,
    headers: Mapping[str, str],
    timeout: float | None,  # noqa: ARG001 - the caller enforces it, and the session has its own
) -> Response:
    """Send a request over an aiohttp.ClientSession."""
    async with client.request(
        method, url, data=content, headers=headers, allow_redirects=False
    ) as response:
        content = await response.read()
        return Response(response.status, content, response.headers, response.reason or "")
