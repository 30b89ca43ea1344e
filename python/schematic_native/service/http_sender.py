"""Sends one HTTP request: over the program's own client or one of ours, with redirects and a deadline.

Every failure is an `ApiConnectionError`. None of them ever contains the API key, and nothing here retries.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urljoin

# httpx imports httpcore when it makes its first client. It is imported here, as a child that is forked during
# that import would inherit a locked module.
import httpcore  # noqa: F401
import httpx

from schematic_native._native import __version__
from schematic_native.config.http_clients import Response, adapt, send_over_httpx
from schematic_native.ground.own_requests import own_request
from schematic_native.ground.time_limit import within
from schematic_native.ground.urls import is_loopback
from schematic_native.service.errors import ApiConnectionError, ApiTimeoutError
from schematic_native.service.proxies import MALFORMED_PROXY
from schematic_native.service.redirects import KEEPING_REDIRECTS, MOST_REDIRECTS
from schematic_native.service.tls import TRUSTING_NOBODY, make_context, using_openssl

if TYPE_CHECKING:
    from schematic_native.config.settings import Settings

USER_AGENT = f"schematic-native/{__version__}"


class HttpSender:
    """Sends requests with the API key.

    Args:
        settings: the key, the HTTP client if there is one, and whether to follow redirects.

    """

    def __init__(self, settings: Settings) -> None:
        self._api_key = settings.api_key
        self.headers = {
            "X-Schematic-Api-Key": settings.api_key,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }
        # One client for each kind of URL, made when it is needed: on this machine or not, and without TLS or
        # with it.
        self._owned: dict[tuple[bool, bool], asyncio.Future[httpx.AsyncClient]] = {}
        given = settings.httpx_client
        self._send_over_given = None if given is None else adapt(given)
        # The setting of a given client takes precedence over the configuration's, which is for our own clients.
        self.follows = bool(getattr(given, "follow_redirects", settings.follow_redirects))
        self.is_closed = False

    async def close(self) -> None:
        """Close the connections. A client that the program gave us stays open."""
        self.is_closed = True
        owned, self._owned = self._owned, {}
        for making in owned.values():
            [client] = await asyncio.gather(making, return_exceptions=True)
            if isinstance(client, httpx.AsyncClient):
                await client.aclose()

    async def send(self, method: str, url: str, content: bytes | None, timeout: float) -> Response:
        """Send a request and return its response, whatever the status.

        Raises:
            ApiConnectionError: there was no response within `timeout` seconds.

        """
        if self.is_closed:
            raise ApiConnectionError("the client is shut down")
        if timeout <= 0:
            raise ApiConnectionError("no time is left for the request")
        try:
            # httpx limits each phase of a request, so a server could drip its response for ever: this
            # limits the request as a whole.
            with own_request():
                return await within(self._follow(method, url, content, timeout), timeout)
        except asyncio.TimeoutError:
            raise ApiTimeoutError from None
        except ApiConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - a given client may raise anything
            raise self.connection_error(error) from None

    def connection_error(self, error: Exception) -> ApiConnectionError:
        """Return our error for one of an HTTP client or a socket."""
        # Of httpx or of httpx2.
        if any(kind.__name__ == "TimeoutException" for kind in type(error).__mro__):
            return ApiTimeoutError()
        return ApiConnectionError(f"{type(error).__name__}: {self.redact(str(error))}")

    def redact(self, text: str) -> str:
        """Take the API key out of a text."""
        return text.replace(self._api_key or "\0", "***")

    async def _follow(
        self, method: str, url: str, content: bytes | None, timeout: float
    ) -> Response:
        for _ in range(MOST_REDIRECTS):
            if self._send_over_given is not None:
                response = await self._send_over_given(method, url, content, self.headers, timeout)
            else:
                client = await self._own_client(url)
                response = await send_over_httpx(client, method, url, content, self.headers, None)
            location = response.headers.get("location")
            if response.status not in KEEPING_REDIRECTS or location is None or not self.follows:
                return response
            url = urljoin(url, location)
        raise ApiConnectionError(f"it was redirected more than {MOST_REDIRECTS} times")

    async def _own_client(self, url: str) -> httpx.AsyncClient:
        """Return our client for a URL: hosts on this machine are never reached over a proxy."""
        loopback = is_loopback(url)
        kind = (loopback, loopback and url.startswith("http:"))
        if kind not in self._owned:
            self._owned[kind] = asyncio.ensure_future(self._make_client(*kind))
        owned = self._owned[kind]
        try:
            return await asyncio.shield(owned)
        except Exception:
            # The environment may name a kind of proxy that httpx does not support: it may change.
            if self._owned.get(kind) is owned:
                del self._owned[kind]
            raise

    async def _make_client(self, loopback: bool, plain: bool) -> httpx.AsyncClient:
        if plain:
            return httpx.AsyncClient(trust_env=False, verify=TRUSTING_NOBODY)

        def make() -> httpx.AsyncClient:
            with using_openssl:
                # Without the environment httpx leaves out SSL_CERT_FILE, too, which is to hold everywhere.
                verify = make_context() if loopback else True
                try:
                    return httpx.AsyncClient(trust_env=not loopback, verify=verify)
                except httpx.InvalidURL:
                    raise ApiConnectionError(MALFORMED_PROXY) from None

        # In a thread, as reading the system's certificates would block the loop.
        return await asyncio.to_thread(make)
