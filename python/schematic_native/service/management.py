"""The REST resources: a client of the published package, with the configuration of one of ours.

The published package is never imported before one of its resources is used.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx

from schematic_native.ground.urls import is_loopback
from schematic_native.service.http_sender import USER_AGENT
from schematic_native.service.proxies import MALFORMED_PROXY
from schematic_native.service.tls import using_openssl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from schematic.base_client import AsyncBaseSchematic, BaseSchematic

    from schematic_native.config.settings import Settings

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

# Seconds that a shutdown waits for the connections to close.
CLOSING = 1.0


class Management:
    """The client of the published package that belongs to one of our clients, in one process.

    Args:
        settings: the configuration.
        asynchronous: whether the client is an `AsyncSchematic`.

    """

    def __init__(self, settings: Settings, *, asynchronous: bool) -> None:
        self._settings = settings
        self._asynchronous = asynchronous
        self._published: BaseSchematic | AsyncBaseSchematic | None = None
        self._owned: list[httpx.Client | _ClientPerLoop] = []

    def published(self, *, closed: bool) -> BaseSchematic | AsyncBaseSchematic | None:
        """Return the published client, made at its first use; None if the package is not installed.

        Args:
            closed: whether our client has been shut down, so that this one must not connect any more.

        """
        if self._published is None and is_installed():
            # Two threads may get here at the same time: both clients work, and both will be closed.
            self._published = self._make()
            if closed:
                self.close()
        return self._published

    def knows(self, name: str) -> bool:
        """Tell whether the client of the installed package has an attribute of this name."""
        if not is_installed():
            return False
        from schematic.base_client import BaseSchematic  # noqa: PLC0415 - the extra

        return hasattr(BaseSchematic, name)

    def close(self) -> None:
        """Close the connections. A client that the program gave us stays open."""
        for client in self._owned:
            if isinstance(client, _ClientPerLoop):
                client.refuse()
                continue
            # On another thread: the shutdown may be called by a signal handler that interrupts a request,
            # which holds a lock of the connections.
            closing = threading.Thread(target=client.close, name="schematic-native", daemon=True)
            try:
                closing.start()
            except RuntimeError:
                # From Python 3.12 on no thread can be started once the main thread has ended.
                client.close()
            else:
                closing.join(CLOSING)

    async def aclose(self) -> None:
        """Close the connections of this event loop. A client that the program gave us stays open."""
        for client in self._owned:
            if isinstance(client, _ClientPerLoop):
                client.refuse()
                await client.aclose()

    def _make(self) -> BaseSchematic | AsyncBaseSchematic:
        from schematic.base_client import (  # noqa: PLC0415 - the extra
            AsyncBaseSchematic,
            BaseSchematic,
        )

        settings = self._settings
        common: dict[str, Any] = {
            "base_url": settings.base_url,
            "api_key": settings.api_key,
            "headers": {"User-Agent": USER_AGENT},
            "timeout": settings.timeout,
        }
        if self._asynchronous:
            return AsyncBaseSchematic(**common, httpx_client=self._async_client())
        return BaseSchematic(**common, httpx_client=self._client())

    def _client(self) -> httpx.Client:
        given = self._settings.httpx_client
        if isinstance(given, httpx.Client):
            return given
        if given is not None:
            raise TypeError(
                "the REST resources of a Schematic need an httpx.Client as httpx_client, "
                f"got {given!r}"
            )
        client = self._open(httpx.Client)
        self._owned.append(client)
        return client

    def _async_client(self) -> httpx.AsyncClient:
        given = self._settings.httpx_client
        if isinstance(given, httpx.AsyncClient):
            return given
        if isinstance(given, httpx.Client):
            return cast("httpx.AsyncClient", _ThreadedClient(given))
        if given is not None:
            raise TypeError(
                "the REST resources of an AsyncSchematic need a client of httpx as httpx_client, "
                f"got {given!r}"
            )

        client = _ClientPerLoop(partial(self._open, httpx.AsyncClient))
        self._owned.append(client)
        return cast("httpx.AsyncClient", client)

    def _open(self, kind: type[C]) -> C:
        with using_openssl:
            try:
                return kind(**self._arguments())
            except httpx.InvalidURL:
                raise httpx.InvalidURL(MALFORMED_PROXY) from None

    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "timeout": self._settings.timeout,
            "follow_redirects": self._settings.follow_redirects,
            # No proxy for hosts on this machine.
            "trust_env": not is_loopback(self._settings.base_url),
        }
        if self._settings.offline:
            arguments["transport"] = httpx.MockTransport(_answer_offline)
        return arguments


class _ThreadedClient:
    """Sends requests over a given synchronous httpx.Client, in worker threads."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    async def request(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        """Do what `httpx.AsyncClient.request` does."""
        return await asyncio.to_thread(self._client.request, method, url, **arguments)


class _ClientPerLoop:
    """One `httpx.AsyncClient` for each event loop: connections belong to their loop."""

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._making: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, asyncio.Future[httpx.AsyncClient]
        ] = weakref.WeakKeyDictionary()
        self._is_closed = False

    async def request(self, **arguments: Any) -> httpx.Response:
        """Do what `httpx.AsyncClient.request` does."""
        return await (await self._client()).request(**arguments)

    @asynccontextmanager
    async def stream(self, **arguments: Any) -> AsyncIterator[httpx.Response]:
        """Do what `httpx.AsyncClient.stream` does."""
        async with (await self._client()).stream(**arguments) as response:
            yield response

    def refuse(self) -> None:
        """Send no further request."""
        self._is_closed = True

    async def aclose(self) -> None:
        """Close the client of this loop; requests on other loops go on."""
        making = self._making.pop(asyncio.get_running_loop(), None)
        if making is not None:
            [client] = await asyncio.gather(making, return_exceptions=True)
            if isinstance(client, httpx.AsyncClient):
                await client.aclose()

    async def _client(self) -> httpx.AsyncClient:
        if self._is_closed:
            raise RuntimeError("the client is shut down")
        loop = asyncio.get_running_loop()
        making = self._making.get(loop)
        if making is None:
            # In a thread, as reading the system's certificates would block the loop.
            making = asyncio.ensure_future(asyncio.to_thread(self._make))
            self._making[loop] = making
        try:
            return await asyncio.shield(making)
        except Exception:
            # The environment may name a kind of proxy that httpx does not support: it may change.
            self._making.pop(loop, None)
            raise


def is_installed() -> bool:
    """Tell whether the published package can be imported, without importing it."""
    try:
        return find_spec("schematic.base_client") is not None
    except (ImportError, ValueError):
        return False


def _answer_offline(request: httpx.Request) -> httpx.Response:
    """Respond as the published client does offline: with success, and no data."""
    return httpx.Response(200, json={"data": {}}, request=request)
