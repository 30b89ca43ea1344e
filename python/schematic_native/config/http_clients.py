"""HTTP clients that a program hands us: httpx, httpx2, aiohttp and what is used like them.

What a client is, is judged by what it can do: this module imports none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias


class Answer(NamedTuple):
    """What an HTTP client has answered."""

    status: int
    content: bytes
    headers: Mapping[str, str]  # whatever the case of their names
    reason: str

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300  # noqa: PLR2004


# Makes one request and follows no redirect: method, URL, content, headers, seconds or None.
Request: TypeAlias = Callable[
    [str, str, bytes | None, Mapping[str, str], float | None], Awaitable[Answer]
]


def adapted(client: object) -> Request:
    """Return how requests are made with a client.

    Raises:
        TypeError: it is none that we can use.

    """
    if callable(getattr(client, "request", None)):
        if hasattr(client, "follow_redirects"):
            return partial(over_httpx if hasattr(client, "aclose") else _in_thread, client)
        if hasattr(client, "ws_connect") and hasattr(client, "closed"):
            return partial(_over_aiohttp, client)
    raise TypeError(
        "httpx_client must be a client of httpx or httpx2, or an aiohttp.ClientSession, "
        f"got {client!r}"
    )


def _of_httpx(response: Any) -> Answer:
    return Answer(response.status_code, response.content, response.headers, response.reason_phrase)


async def over_httpx(
    client: Any,
    method: str,
    url: str,
    content: bytes | None,
    headers: Mapping[str, str],
    timeout: float | None,
) -> Answer:
    """Make a request with an httpx.AsyncClient."""
    response = await client.request(
        method, url, content=content, headers=headers, timeout=timeout, follow_redirects=False
    )
    return _of_httpx(response)


async def _in_thread(
    client: Any,
    method: str,
    url: str,
    content: bytes | None,
    headers: Mapping[str, str],
    timeout: float | None,
) -> Answer:
    """Make a request with an httpx.Client, in a worker thread."""
    response = await asyncio.to_thread(
        client.request,
        method,
        url,
        content=content,
        headers=headers,
        timeout=timeout,
        follow_redirects=False,
    )
    return _of_httpx(response)


async def _over_aiohttp(
    client: Any,
    method: str,
    url: str,
    content: bytes | None,
    headers: Mapping[str, str],
    timeout: float | None,  # noqa: ARG001 - the caller's own limit ends it, and the session has one
) -> Answer:
    """Make a request with an aiohttp.ClientSession."""
    async with client.request(
        method, url, data=content, headers=headers, allow_redirects=False
    ) as response:
        content = await response.read()
        return Answer(response.status, content, response.headers, response.reason or "")
