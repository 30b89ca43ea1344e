"""Connections to one server for event loops.

Replies are handled in the transport's callback: an exchange has no task of its own, wakes none, and goes
on whether or not somebody still waits for it. A connection whose exchange failed is closed, never used
again: its reply may still come.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from redis._parsers.base import _AsyncRESPBase
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schematic_native.ground.machine import THIS
from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.circuit_breaker import CircuitBreaker
from schematic_native.redis.commands import is_owed
from schematic_native.redis.connections import CONNECT_TIMEOUT, OWN_ENCODING
from schematic_native.redis.failures import unheard, unsent
from schematic_native.redis.resp import (
    REFUSALS,
    is_refusal,
    leads_elsewhere,
    packed,
    plain_replies,
)

if sys.version_info >= (3, 11):
    from asyncio import timeout_at
else:
    from async_timeout import timeout_at

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schematic_native.redis.commands import Batch, Replies
    from schematic_native.redis.connections import Answered

CLOSED = "the store was closed"


class AsyncServer:
    """Connections to one server, for one event loop after another.

    Args:
        make: makes a connection.
        settings: what it is made with.
        most: so many are open at once, and no more.
        clock: seconds, never going back.

    """

    def __init__(
        self,
        make: Callable[..., Any],
        settings: dict[str, Any],
        most: int,
        clock: Callable[[], float] = THIS.monotonic,
    ) -> None:
        # The whole exchange has one deadline; one for each call would cost a task each.
        limits = {"socket_connect_timeout": None, "socket_timeout": None}
        retry = Retry(NoBackoff(), 0)
        self._make = partial(make, **{**settings, **OWN_ENCODING, **limits, "retry": retry})
        self._most = most
        self._pool: _ConnectionPool | None = None
        self._breaker = CircuitBreaker(clock)

    def ask(
        self,
        batch: Batch,
        deadline: float | None,
        answered: Answered,
        *,
        in_full: bool,
        asking: bool = False,
    ) -> None:
        """Send a batch; `answered` is called with its replies, or with what went wrong."""
        try:
            began = self._breaker.begin(is_owed=is_owed(batch))
        except StoreError as error:
            answered(error)
            return
        loop = asyncio.get_running_loop()
        pool = self._pool
        if pool is None or pool.loop is not loop:
            # The connections of a loop that has ended have ended with it.
            pool = self._pool = _ConnectionPool(loop, self._make, self._most)
        data = packed(batch, in_full=in_full, asking=asking)
        limit = loop.time() + CONNECT_TIMEOUT if deadline is None else deadline
        ended = partial(self._note, began, answered)
        pool.begin(_Exchange(data, len(batch) * (1 + asking), limit, ended))

    async def exchange(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> Replies:
        """Send a batch, read its replies."""
        replies: asyncio.Future[Replies] = asyncio.get_running_loop().create_future()
        self.ask(batch, deadline, partial(_tell, replies), in_full=in_full, asking=asking)
        return await replies

    async def close(self) -> None:
        """Close the connections."""
        pool, self._pool = self._pool, None
        if pool is not None and pool.loop is asyncio.get_running_loop():
            pool.close()

    def _note(
        self,
        began: float,
        answered: Answered,
        outcome: Replies | StoreError,
        error: BaseException | None,
    ) -> None:
        """Tell the circuit breaker how a call went, then the caller."""
        if isinstance(outcome, StoreError) and error is not None:
            self._breaker.failed(outcome, error, began)
        else:
            self._breaker.succeeded()
        answered(outcome)


class _Exchange:
    """A batch from the moment it is to be sent until it is answered or its time is over.

    Args:
        data: what is sent.
        replies: how many there will be.
        limit: the instant at which its time is over.
        ended: called with the replies, or with what went wrong and why.

    """

    connection: _Connection | None = None
    is_over = False

    def __init__(
        self,
        data: bytes,
        replies: int,
        limit: float,
        ended: Callable[[Replies | StoreError, BaseException | None], None],
    ) -> None:
        self.data = data
        self.replies = replies
        self.limit = limit
        self._ended = ended

    def end(self, outcome: Replies | BaseException) -> None:
        """Report the outcome, once."""
        if self.is_over:
            return
        self.is_over = True
        if isinstance(outcome, BaseException):
            fault = unsent(outcome) if self.connection is None else unheard(outcome)
            fault.__cause__ = outcome
            self._ended(fault, outcome)
        else:
            self._ended(outcome, None)

    def expire(self) -> None:
        """End it because its time is over."""
        if self.connection is None:
            self.end(TimeoutError())
        else:
            self.connection.fail(TimeoutError())


class _ConnectionPool:
    """The connections that were opened on one loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, make: Callable[..., Any], most: int
    ) -> None:
        self.loop = loop
        self._make = make
        self._most = most
        self._open: dict[_Connection, None] = {}
        self._free: list[_Connection] = []
        self._connecting: dict[asyncio.Task[None], None] = {}
        self._waiting: deque[_Exchange] = deque()
        # One timer serves all exchanges under way, as most are answered long before their time is over.
        self._under_way: dict[_Exchange, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, exchange: _Exchange) -> None:
        """Start the timer of an exchange, and carry it."""
        self._under_way[exchange] = None
        timer = self._timer
        if timer is None or timer.when() > exchange.limit:
            if timer is not None:
                timer.cancel()
            self._timer = self.loop.call_at(exchange.limit, self._expire)
        self.carry(exchange)

    def end(self, exchange: _Exchange, outcome: Replies | BaseException) -> None:
        """End an exchange."""
        self._under_way.pop(exchange, None)
        exchange.end(outcome)

    def _expire(self) -> None:
        """End the exchanges whose time is over, and set the timer for the next."""
        now = self.loop.time()
        for exchange in [one for one in self._under_way if one.limit <= now]:
            self._under_way.pop(exchange, None)
            exchange.expire()
        limits = [exchange.limit for exchange in self._under_way]
        self._timer = self.loop.call_at(min(limits), self._expire) if limits else None

    def carry(self, exchange: _Exchange) -> None:
        """Let a connection carry an exchange: a free one, a new one, or the next that becomes free."""
        while self._free:
            connection = self._free.pop()
            if connection.is_usable:
                connection.carry(exchange)
                return
            self.drop(connection)
        if len(self._open) + len(self._connecting) < self._most:
            task = self.loop.create_task(self._connect(exchange))
            self._connecting[task] = None
        else:
            self._waiting.append(exchange)

    def take_back(self, connection: _Connection) -> None:
        """Take a connection back that may carry the next exchange."""
        self._free.append(connection)
        self._serve()

    def drop(self, connection: _Connection) -> None:
        """Close a connection that is not to be used again."""
        self._open.pop(connection, None)
        connection.close()

    def lose(self, connection: _Connection) -> None:
        """Drop a connection that was in use: another may take its place."""
        self.drop(connection)
        self._serve()

    def close(self) -> None:
        """Close all connections; exchanges under way fail."""
        waiting, self._waiting = self._waiting, deque()
        for exchange in waiting:
            self.end(exchange, ConnectionError(CLOSED))
        for task in self._connecting:
            task.cancel()
        for connection in list(self._open):
            connection.fail(ConnectionError(CLOSED))
            self.drop(connection)
        if self._timer is not None:
            self._timer.cancel()

    def _serve(self) -> None:
        """Carry the exchange that has waited longest."""
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.is_over:
                self.carry(exchange)
                return

    async def _connect(self, exchange: _Exchange) -> None:
        """Open a connection and let it carry an exchange."""
        raw = self._make()
        try:
            async with timeout_at(exchange.limit):
                await raw.connect()
        except BaseException as error:
            await raw.disconnect(nowait=True)
            self._connected()
            self.end(exchange, error)
            if not isinstance(error, Exception):
                raise
            self._serve()
            return
        self._connected()
        connection = _Connection(raw, self)
        self._open[connection] = None
        if exchange.is_over:
            self.take_back(connection)
        else:
            connection.carry(exchange)

    def _connected(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connecting.pop(task, None)


class _Connection(asyncio.Protocol):
    """A connection of redis-py that carries one exchange at a time.

    It stands between the transport and the stream that redis-py's parser reads from: it passes data on to
    the stream and then resumes the parser, a coroutine that waits for nothing but data.
    """

    def __init__(self, raw: Any, pool: _ConnectionPool) -> None:
        self._raw = raw
        self._pool = pool
        self._reader: asyncio.StreamReader = raw._reader  # noqa: SLF001
        self._transport = raw._writer.transport  # noqa: SLF001
        self._stream = self._transport.get_protocol()
        self._transport.set_protocol(self)
        self._exchange: _Exchange | None = None
        self._reading: Coroutine[Any, None, Replies] | None = None
        # Whether the parser keeps unread data in the stream and nowhere else.
        self._is_plain = isinstance(raw._parser, _AsyncRESPBase)  # noqa: SLF001
        # Done once there is more for the parser to read.
        self._more: asyncio.Future[None] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether its other end is open, as far as is known."""
        return not (self._reader.at_eof() or self._transport.is_closing())

    @property
    def _is_at_start(self) -> bool:
        """Whether the next data is the beginning of a reply."""
        buffer = self._reader._buffer  # type: ignore[attr-defined]  # noqa: SLF001 - redis-py looks, too
        return self._is_plain and self._reading is None and not buffer

    def carry(self, exchange: _Exchange) -> None:
        """Send a batch and wait for its replies."""
        exchange.connection, self._exchange = self, exchange
        self._transport.write(exchange.data)

    def fail(self, error: BaseException) -> None:
        """End what it carries, and close: the replies may still come."""
        exchange, self._exchange = self._exchange, None
        if self._reading is not None:
            self._reading.close()
            self._reading = self._more = None
        if exchange is not None:
            self._pool.lose(self)
            self._pool.end(exchange, error)

    def close(self) -> None:
        """Close it at once."""
        self._transport.abort()
        # So that redis-py does not warn of a connection that was never closed.
        self._raw._reader = self._raw._writer = None  # noqa: SLF001

    def data_received(self, data: bytes) -> None:
        """Read replies, or pass them on to the parser."""
        exchange = self._exchange
        if exchange is not None and self._is_at_start:
            replies = plain_replies(data, exchange.replies)
            if replies is not None:
                self._end(replies)
                return
        self._stream.data_received(data)
        self._go_on()

    def eof_received(self) -> bool | None:
        """Let the parser find the end of the data."""
        keeps_open: bool | None = self._stream.eof_received()
        self._go_on()
        return keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the parser find that the connection is closed."""
        self._stream.connection_lost(exc)
        self._go_on()

    def pause_writing(self) -> None:
        """Pass it on to the stream."""
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on to the stream."""
        self._stream.resume_writing()

    def _go_on(self) -> None:
        """Let the parser read the data that has come."""
        if self._exchange is None:
            return
        if self._reading is None:
            self._reading = _read(self._raw._parser, self._exchange.replies)  # noqa: SLF001
        elif self._more is not None and not self._more.done():
            return
        try:
            self._more = self._reading.send(None)
        except StopIteration as stop:
            self._end(stop.value)
        except Exception as error:  # noqa: BLE001 - whatever it is, the replies are not to be had
            self.fail(error)

    def _end(self, replies: Replies) -> None:
        exchange, self._exchange = self._exchange, None
        self._reading = self._more = None
        if leads_elsewhere(replies) or any(map(is_refusal, replies)):
            self._pool.lose(self)
        else:
            self._pool.take_back(self)
        if exchange is not None:
            self._pool.end(exchange, replies)


async def _read(parser: Any, count: int) -> Replies:
    """Read so many replies. One that ends the connection is taken for those after it, too."""
    replies: list[object] = []
    while len(replies) < count:
        try:
            replies.append(await parser.read_response(disable_decoding=True))
        except REFUSALS as error:
            replies.append(error)
            if is_refusal(error):
                replies += [error] * (count - len(replies))
    return replies


def _tell(future: asyncio.Future[Replies], outcome: Replies | StoreError) -> None:
    if future.done():
        return  # the caller was cancelled
    if isinstance(outcome, StoreError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
