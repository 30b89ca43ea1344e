"""Posts one batch of events, once: over our own sockets, or httpx where those cannot be used.

Whether a batch is posted again is decided by `events.py` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schematic_native.ground import json_text
from schematic_native.service.errors import ApiTimeoutError
from schematic_native.service.proxies import UnusableTransportError
from schematic_native.service.rest_retries import asked_delay
from schematic_native.service.transport import SocketTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native._native import EventBatch
    from schematic_native.config.settings import Settings
    from schematic_native.service.http_sender import HttpSender


class Posted(NamedTuple):
    """The response to a batch of events."""

    status: int
    is_explained: bool  # whether it is an error in the format of the service
    asked_delay: float | None = None  # seconds that the service asks us to wait
    seconds: float | None = None  # from the request to the response


class EventPoster:
    """Posts batches of events to the capture service. Make it on the event loop that uses it.

    Args:
        settings: where to.
        sender: sends what our own sockets cannot.
        clock: returns epoch seconds.

    """

    def __init__(self, settings: Settings, sender: HttpSender, clock: Callable[[], float]) -> None:
        self._url = f"{settings.event_capture_url}/batch"
        self._timeout = settings.timeout
        self._sender = sender
        self._clock = clock
        self._monotonic = settings.machine.monotonic
        self._transport: SocketTransport | None = None
        if settings.httpx_client is None:
            self._transport = SocketTransport(sender.headers, follows=sender.follows)

    async def close(self) -> None:
        """Close the connections."""
        if self._transport is not None:
            await self._transport.close()

    async def post(self, batch: EventBatch) -> Posted:
        """Post one batch.

        Raises:
            ApiConnectionError: there was no response.

        """
        if self._transport is not None and not self._sender.is_closed:
            try:
                response, seconds = await self._transport.post(self._url, batch, self._timeout)
            except UnusableTransportError:
                pass  # httpx may work
            except TimeoutError:
                raise ApiTimeoutError from None
            except (OSError, ValueError) as error:
                raise self._sender.connection_error(error) from None
            else:
                if response.status // 100 == 2:  # noqa: PLR2004
                    return Posted(response.status, is_explained=False, seconds=seconds)
                delay = asked_delay(response.header, self._clock())
                return Posted(response.status, _is_explained(response.body), delay, seconds)
        return await self._post_over_httpx(batch)

    async def _post_over_httpx(self, batch: EventBatch) -> Posted:
        begun = self._monotonic()
        response = await self._sender.send("POST", self._url, batch.body, self._timeout)
        delay = asked_delay(response.headers.get, self._clock())
        seconds = self._monotonic() - begun
        return Posted(response.status, _is_explained(response.content), delay, seconds)


def _is_explained(content: bytes) -> bool:
    """Tell whether a response is an error in the format of the service: an object with "error"."""
    try:
        body = json_text.read(content)
    except ValueError:
        return False
    return isinstance(body, dict) and "error" in body
