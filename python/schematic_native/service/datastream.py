"""The DataStream: one WebSocket that keeps flags, companies and users current.

It never gives up: a connection that fails or ends is opened again, after the delay of `reconnects.py`. The
core decides what a message means; this module only keeps the connection, requests entities, and wakes those
who wait for them.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from schematic_native._native import __version__
from schematic_native.ground import json_text
from schematic_native.ground.machine import THIS, Machine
from schematic_native.ground.time_limit import within
from schematic_native.ground.urls import is_loopback
from schematic_native.service.reconnects import STABLE_AFTER, Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from schematic_native._native import Core, Ingested
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.ground.listeners import Listeners

FLAGS = "rulesengine.Flags"
COMPANY, USER = "rulesengine.Company", "rulesengine.User"
TOPIC = "DataStream"
KEY_REFUSED = "the API key was refused"
MISSED_PONGS = 2
# Larger messages are parsed in a thread, as that may take many milliseconds.
LARGE_MESSAGE = 64 * 1024
# The event loop gets a turn after so many messages or requests in a row.
TURN = 64
# At DEBUG, the library would log every header of the handshake, and with them the API key.
_WIRE_LOG = logging.getLogger("schematic_native.websocket")
_WIRE_LOG.setLevel(logging.INFO)
RESUBSCRIBE_PAUSE = 0.01
# The most entities that are requested together with the first flags.
MOST_EARLY = 100

Pair: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Timing:
    """How long the DataStream waits, in seconds."""

    open: float = 10.0
    close: float = 1.0
    request: float = 2.0
    ping: float = 54.0
    pong: float = 60.0
    flags: float = 30.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep  # between attempts to connect


def datastream_url(base_url: str) -> str:
    """Return the URL of the DataStream that belongs to an API.

    `api.x` becomes `datastream.x`, `http` becomes `ws`.
    """
    parts = urlsplit(base_url)
    host = parts.netloc
    label, dot, rest = host.partition(".")
    if label.lower() == "api":
        host = f"datastream{dot}{rest}"
    return urlunsplit(("wss" if parts.scheme == "https" else "ws", host, "/datastream", "", ""))


class _Request:
    """One request for an entity, which any number of callers may wait for."""

    def __init__(self, entity_type: str, keys: Mapping[str, str]) -> None:
        self.pairs = frozenset(_pairs(keys))
        self.name = (entity_type, self.pairs)
        self.outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.is_refused = False  # the service has no such entity

    def send(self, socket: ClientConnection, message: bytes) -> None:
        """Send it on behalf of all callers: one that is cancelled, or in a hurry, does not take it along."""

        async def send() -> None:
            try:
                await socket.send(message, text=True)
            except (WebSocketException, OSError):
                self.resolve(found=False)

        sending = asyncio.create_task(send())
        self.outcome.add_done_callback(lambda _: sending.cancel())

    def resolve(self, found: bool) -> None:
        if not self.outcome.done():
            self.outcome.set_result(found)


@dataclass(frozen=True)
class StreamAddress:
    """Where a DataStream connects.

    Attributes:
        base_url: of the API.
        api_key: sent with the handshake.
        max_message_size: bytes.

    """

    base_url: str
    api_key: str
    max_message_size: int


@dataclass(frozen=True)
class StreamHandlers:
    """Who is told what a DataStream brings.

    Attributes:
        on_ready: called whenever a full set of flags has arrived.
        on_message: called with each message that the core has received.
        on_lost: called when the connection has ended.
        listeners: notified when the flags are current, when they no longer are, and when they change.

    """

    on_ready: Callable[[], None]
    on_message: Callable[[bytes, Ingested], None] | None = None
    on_lost: Callable[[], None] | None = None
    listeners: Listeners | None = None


class DataStream:
    """Keeps the connection.

    Args:
        address: where it connects.
        core: receives the messages.
        faults: where failures are reported.
        handlers: who is told what arrives.
        timing: how long it waits; None as in production.
        machine: opens the socket, tells when messages arrive, and spreads reconnects at random.

    """

    def __init__(
        self,
        address: StreamAddress,
        core: Core,
        faults: FaultLog,
        handlers: StreamHandlers,
        timing: Timing | None = None,
        machine: Machine = THIS,
    ) -> None:
        self._url = datastream_url(address.base_url)
        self._api_key = address.api_key
        self._core = core
        self._faults = faults
        self._max_message_size = address.max_message_size
        self._on_ready = handlers.on_ready
        self._on_message = handlers.on_message
        self._on_lost = handlers.on_lost
        self._listeners = handlers.listeners
        self._timing = timing or Timing()
        self._backoff = Backoff(machine.jitter)
        self._connect = machine.connect or connect
        self._monotonic = machine.monotonic
        self._socket: ClientConnection | None = None
        self._requests: dict[tuple[str, frozenset[Pair]], _Request] = {}
        # Requests by entity type and each key, as an entity arrives under any of its keys.
        self._by_pair: dict[tuple[str, Pair], dict[_Request, None]] = {}
        # Entities that were wanted before the first connection.
        self._early: dict[tuple[str, frozenset[Pair]], Mapping[str, str]] = {}
        self._flags_arrived = asyncio.Event()
        self.ready = False
        # When the latest message of this connection arrived, by time.monotonic; None before the first.
        self.last_message: float | None = None
        # Whether a large message is being parsed.
        self.is_reading = False
        # Set once the first attempt has succeeded or failed.
        self.first_outcome = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether the socket is open."""
        return self._socket is not None

    async def run(self) -> None:
        """Connect, and reconnect, until cancelled."""
        while True:
            try:
                await self._connection()
            except Exception as error:  # noqa: BLE001 - it must survive any failure
                self._faults.raised(TOPIC, _describe(error))
            finally:
                self._disconnected()
            await self._timing.sleep(self._backoff.next())

    async def request(self, entity_type: str, keys: Mapping[str, str], deadline: float) -> bool:
        """Request an entity by its keys and wait until it is in memory.

        Returns False if it does not arrive in time. Concurrent calls for the same keys share one
        request. The deadline is an instant of the loop's clock.
        """
        return await self.confirm(entity_type, keys, deadline) is True

    async def confirm(
        self, entity_type: str, keys: Mapping[str, str], deadline: float
    ) -> bool | None:
        """Do the same, but return None if it did not arrive, and False only if it does not exist."""
        socket = self._socket
        if socket is None or not keys:
            return None
        left = deadline - asyncio.get_running_loop().time()
        request = self._requests.get((entity_type, frozenset(_pairs(keys))))
        if request is None and left > 0:
            message = _write_request(entity_type, keys)
            request = self._open_request(entity_type, keys)
            request.send(socket, message)
        if request is None:
            return None
        if left > 0:
            await asyncio.wait({request.outcome}, timeout=left)
        found = request.outcome.done() and request.outcome.result()
        return found or (False if request.is_refused else None)

    def request_early(self, entity_type: str, keys: Mapping[str, str] | None) -> None:
        """Have the first connection request an entity together with the flags.

        A call of `request` or `confirm` then joins that request, if it is not answered yet.
        """
        if keys and not self.first_outcome.is_set() and len(self._early) < MOST_EARLY:
            self._early.setdefault((entity_type, frozenset(_pairs(keys))), keys)

    async def _request_early_entities(self, socket: ClientConnection) -> None:
        early, self._early = self._early, {}
        for name, keys in early.items():
            if name not in self._requests:
                self._open_request(name[0], keys)
                await _send_request(socket, name[0], keys)

    def _open_request(self, entity_type: str, keys: Mapping[str, str]) -> _Request:
        request = _Request(entity_type, keys)
        self._requests[request.name] = request
        for pair in request.pairs:
            self._by_pair.setdefault((entity_type, pair), {})[request] = None
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._timing.request, request.resolve, False)

        def close(_outcome: asyncio.Future[bool]) -> None:
            timer.cancel()
            self._requests.pop(request.name, None)
            for pair in request.pairs:
                waiting = self._by_pair[entity_type, pair]
                waiting.pop(request, None)
                if not waiting:
                    del self._by_pair[entity_type, pair]

        request.outcome.add_done_callback(close)
        return request

    async def _connection(self) -> None:
        """Open one connection and use it until it ends."""
        headers = {
            "X-Schematic-Api-Key": self._api_key,
            "X-Schematic-Datastream-Mode": "direct",
            "X-Schematic-Client": "schematic-native",
            "X-Schematic-Client-Version": __version__,
        }
        socket = await self._connect(
            self._url,
            additional_headers=headers,
            user_agent_header=f"schematic-native/{__version__}",
            open_timeout=self._timing.open,
            close_timeout=self._timing.close,
            ping_interval=None,
            max_size=self._max_message_size,
            # No limit: a full queue would stop the reading of pongs, too.
            max_queue=None,
            proxy=None if is_loopback(self._url) else True,
            logger=_WIRE_LOG,
        )
        self._socket = socket
        self.last_message = None
        self._flags_arrived.clear()
        coroutines = (
            self._read(socket),
            self._keep_alive(socket),
            self._subscribe(socket),
            self._clear_backoff_later(),
        )
        tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
        try:
            # The subscriptions and the stability timer return; the reader and the pinger only end with
            # an exception.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            self._disconnected()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await socket.close()

    def _disconnected(self) -> None:
        self._socket = None
        self.ready = False
        if self._on_lost is not None:
            self._on_lost()
        if self._listeners is not None:
            self._listeners.set_ready(is_ready=False)
        self.first_outcome.set()
        for request in list(self._requests.values()):
            request.resolve(found=False)

    async def _read(self, socket: ClientConnection) -> None:
        """Pass each message to the core as it arrives."""
        loop = asyncio.get_running_loop()
        turns = 0
        while True:
            message = await socket.recv(decode=False)
            self.last_message = self._monotonic()
            if len(message) > LARGE_MESSAGE:
                self.is_reading = True
                try:
                    ingested = await loop.run_in_executor(None, self._core.ingest, message)
                finally:
                    self.is_reading = False
            else:
                ingested = self._core.ingest(message)
                turns += 1
                if turns % TURN == 0:
                    await asyncio.sleep(0)
            self._backoff.clear()
            if self._on_message is not None:
                self._on_message(message, ingested)
            self._handle(ingested)
            if self._listeners is not None:
                self._listeners.changed(ingested.changed_flags)

    def _handle(self, ingested: Ingested) -> None:
        """Report what the core could not read, and wake those who waited for the entity."""
        for sentence in ingested.skipped:
            self._faults.noted(f"DataStream: {sentence}")
        if ingested.message_type == "error":
            self._handle_error(ingested)
        elif ingested.message_type == "full" and ingested.entity_type == FLAGS:
            self._handle_flags()
        elif ingested.message_type == "full":
            for pair in _pairs(ingested.keys or {}):
                for request in tuple(self._by_pair.get((ingested.entity_type or "", pair), ())):
                    request.resolve(found=True)

    def _handle_error(self, ingested: Ingested) -> None:
        if not ingested.keys:
            # With keys it is the response to a request, and only of interest to those who wait for it.
            self._faults.noted(f"DataStream: the server reports: {ingested.error}")
            return
        pairs = frozenset(_pairs(ingested.keys))
        named = {COMPANY, USER} & {ingested.entity_type or ""}
        for entity_type in named or {COMPANY, USER}:
            if (request := self._requests.get((entity_type, pairs))) is not None:
                request.is_refused = True
                request.resolve(found=False)

    def _handle_flags(self) -> None:
        if not self._core.has_flags():
            return
        self._flags_arrived.set()
        self.ready = True
        self._faults.cleared(TOPIC)
        self._on_ready()
        if self._listeners is not None:
            self._listeners.set_ready(is_ready=True)
        self.first_outcome.set()

    async def _keep_alive(self, socket: ClientConnection) -> None:
        """Send pings; raise when two pongs in a row are missing."""
        missed = 0
        while missed < MISSED_PONGS:
            await asyncio.sleep(self._timing.ping)
            pong = asyncio.ensure_future(await socket.ping())
            await asyncio.wait({pong}, timeout=self._timing.pong)
            missed = 0 if pong.done() else missed + 1
        raise ConnectionError("no answer to two pings")

    async def _subscribe(self, socket: ClientConnection) -> None:
        """Request the flags, what is wanted already, then what is in memory, the most recently used first."""
        await _send_request(socket, FLAGS, None)
        await self._request_early_entities(socket)
        await self._resubscribe(socket, COMPANY, self._core.company_subscriptions())
        await self._resubscribe(socket, USER, self._core.user_subscriptions())
        try:
            await within(self._flags_arrived.wait(), self._timing.flags)
        except asyncio.TimeoutError:
            raise ConnectionError("the flags did not arrive") from None

    async def _resubscribe(
        self, socket: ClientConnection, entity_type: str, subscriptions: list[dict[str, str]]
    ) -> None:
        for number, keys in enumerate(subscriptions, start=1):
            await _send_request(socket, entity_type, keys)
            if number % TURN == 0:
                await self._timing.sleep(RESUBSCRIBE_PAUSE)

    async def _clear_backoff_later(self) -> None:
        await asyncio.sleep(STABLE_AFTER)
        self._backoff.clear()


async def _send_request(
    socket: ClientConnection, entity_type: str, keys: Mapping[str, str] | None
) -> None:
    await socket.send(_write_request(entity_type, keys), text=True)


def _write_request(entity_type: str, keys: Mapping[str, str] | None) -> bytes:
    request: dict[str, object] = {"action": "start", "entity_type": entity_type}
    if keys is not None:
        request["keys"] = dict(keys)
    return json_text.write({"data": request})


def _pairs(keys: Mapping[str, str]) -> Iterable[Pair]:
    """Return keys in lower case: names and values compare case-insensitively."""
    return ((name.lower(), value.lower()) for name, value in keys.items())


def _describe(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        if status in {401, 403}:
            return f"{KEY_REFUSED} (HTTP {status}); trying again"
        return f"the handshake was answered with HTTP {status}; trying again"
    if isinstance(error, ConnectionClosed):
        return "the connection was closed; trying again"
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "the handshake timed out; trying again"
    return f"no connection ({type(error).__name__}: {error}); trying again"
