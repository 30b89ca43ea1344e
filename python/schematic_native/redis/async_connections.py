"""Connections to one server for event loops.

What a server answers is taken up where it is heard, within the callback of the transport: an
exchange has no task, wakes none, and goes on whether or not somebody still waits for it.
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
from schematic_native.redis.circuit_breaker import Rest
from schematic_native.redis.connections import (
    CONNECT_TIMEOUT,
    OWN_ENCODING,
    REFUSALS,
    is_owed,
    is_refusal,
    leads_elsewhere,
    packed,
    plain_replies,
)
from schematic_native.redis.failures import unheard, unsent

if sys.version_info >= (3, 11):
    from asyncio import timeout_at
else:
    from async_timeout import timeout_at

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schematic_native.redis.connections import Answered
    from schematic_native.redis.operations import Batch, Replies

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
        self._lines: _Lines | None = None
        self._rest = Rest(clock)

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
            began = self._rest.begin(is_owed=is_owed(batch))
        except StoreError as error:
            answered(error)
            return
        loop = asyncio.get_running_loop()
        lines = self._lines
        if lines is None or lines.loop is not loop:
            # The connections of a loop that has ended have ended with it.
            lines = self._lines = _Lines(loop, self._make, self._most)
        data = packed(batch, in_full=in_full, asking=asking)
        limit = loop.time() + CONNECT_TIMEOUT if deadline is None else deadline
        ended = partial(self._note, began, answered)
        lines.begin(_Exchange(data, len(batch) * (1 + asking), limit, ended))

    async def exchange(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> Replies:
        """Send a batch, read its replies."""
        replies: asyncio.Future[Replies] = asyncio.get_running_loop().create_future()
        self.ask(batch, deadline, partial(_tell, replies), in_full=in_full, asking=asking)
        return await replies

    async def close(self) -> None:
        """Close the connections."""
        lines, self._lines = self._lines, None
        if lines is not None and lines.loop is asyncio.get_running_loop():
            lines.close()

    def _note(
        self,
        began: float,
        answered: Answered,
        outcome: Replies | StoreError,
        error: BaseException | None,
    ) -> None:
        """Note how the server is before anybody asks it again."""
        if isinstance(outcome, StoreError) and error is not None:
            self._rest.note(outcome, error, began)
        else:
            self._rest.end()
        answered(outcome)


class _Exchange:
    """A batch on its way, until it is answered or its time is over.

    Args:
        data: what is sent.
        replies: so many will come.
        limit: the instant at which its time is over.
        ended: is told the replies, or what went wrong and why.

    """

    line: _Line | None = None
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
        """Tell how it has ended, once."""
        if self.is_over:
            return
        self.is_over = True
        if isinstance(outcome, BaseException):
            fault = unsent(outcome) if self.line is None else unheard(outcome)
            fault.__cause__ = outcome
            self._ended(fault, outcome)
        else:
            self._ended(outcome, None)

    def expire(self) -> None:
        """End it for want of time."""
        if self.line is None:
            self.end(TimeoutError())
        else:
            self.line.fail(TimeoutError())


class _Lines:
    """The connections that were made on one loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, make: Callable[..., Any], most: int
    ) -> None:
        self.loop = loop
        self._make = make
        self._most = most
        self._open: set[_Line] = set()
        self._free: list[_Line] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[_Exchange] = deque()
        # What is under way, and the timer for the first of it whose time is over: one for all, as
        # most are answered long before.
        self._under_way: set[_Exchange] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, exchange: _Exchange) -> None:
        """Let the time of an exchange begin, and carry it."""
        self._under_way.add(exchange)
        timer = self._timer
        if timer is None or timer.when() > exchange.limit:
            if timer is not None:
                timer.cancel()
            self._timer = self.loop.call_at(exchange.limit, self._expire)
        self.carry(exchange)

    def end(self, exchange: _Exchange, outcome: Replies | BaseException) -> None:
        """End an exchange."""
        self._under_way.discard(exchange)
        exchange.end(outcome)

    def _expire(self) -> None:
        """End what has run out of time, and wait for the next that will."""
        now = self.loop.time()
        for exchange in [one for one in self._under_way if one.limit <= now]:
            self._under_way.discard(exchange)
            exchange.expire()
        limits = [exchange.limit for exchange in self._under_way]
        self._timer = self.loop.call_at(min(limits), self._expire) if limits else None

    def carry(self, exchange: _Exchange) -> None:
        """Let a connection carry an exchange: one that is free, a new one, or the next."""
        while self._free:
            line = self._free.pop()
            if line.is_usable:
                line.carry(exchange)
                return
            self.drop(line)
        if len(self._open) + len(self._connecting) < self._most:
            task = self.loop.create_task(self._connect(exchange))
            self._connecting.add(task)
        else:
            self._waiting.append(exchange)

    def take_back(self, line: _Line) -> None:
        """Take a connection that has carried what it had to, and may carry the next."""
        self._free.append(line)
        self._serve()

    def drop(self, line: _Line) -> None:
        """Close a connection that is not to be used again."""
        self._open.discard(line)
        line.close()

    def lose(self, line: _Line) -> None:
        """Drop a connection that was in use: another may take its place."""
        self.drop(line)
        self._serve()

    def close(self) -> None:
        """Close all connections; what is under way is not answered."""
        waiting, self._waiting = self._waiting, deque()
        for exchange in waiting:
            self.end(exchange, ConnectionError(CLOSED))
        for task in self._connecting:
            task.cancel()
        for line in list(self._open):
            line.fail(ConnectionError(CLOSED))
            self.drop(line)
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
        connection = self._make()
        try:
            async with timeout_at(exchange.limit):
                await connection.connect()
        except BaseException as error:
            await connection.disconnect(nowait=True)
            self._connected()
            self.end(exchange, error)
            if not isinstance(error, Exception):
                raise
            self._serve()
            return
        self._connected()
        line = _Line(connection, self)
        self._open.add(line)
        if exchange.is_over:
            self.take_back(line)
        else:
            line.carry(exchange)

    def _connected(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connecting.discard(task)


class _Line(asyncio.Protocol):
    """A connection of redis-py that carries one exchange at a time.

    It hears what the transport says before the stream that redis-py's parser reads from, passes it
    on, and then lets the parser go on: the parser is a coroutine that waits for nothing else.
    """

    def __init__(self, connection: Any, lines: _Lines) -> None:
        self._connection = connection
        self._lines = lines
        self._reader: asyncio.StreamReader = connection._reader  # noqa: SLF001
        self._transport = connection._writer.transport  # noqa: SLF001
        self._stream = self._transport.get_protocol()
        self._transport.set_protocol(self)
        self._exchange: _Exchange | None = None
        self._reading: Coroutine[Any, None, Replies] | None = None
        # Whether the parser keeps in the stream what it has not read, and nowhere else.
        self._is_plain = isinstance(connection._parser, _AsyncRESPBase)  # noqa: SLF001
        # What the parser waits for: more to be heard.
        self._more: asyncio.Future[None] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether its other end is open, as far as was heard."""
        return not (self._reader.at_eof() or self._transport.is_closing())

    @property
    def _is_at_start(self) -> bool:
        """Whether what comes next is the beginning of a reply."""
        buffer = self._reader._buffer  # type: ignore[attr-defined]  # noqa: SLF001 - redis-py looks, too
        return self._is_plain and self._reading is None and not buffer

    def carry(self, exchange: _Exchange) -> None:
        """Send a batch and wait for its replies."""
        exchange.line, self._exchange = self, exchange
        self._transport.write(exchange.data)

    def fail(self, error: BaseException) -> None:
        """Give up what it carries, and itself: the replies may come yet."""
        exchange, self._exchange = self._exchange, None
        if self._reading is not None:
            self._reading.close()
            self._reading = self._more = None
        if exchange is not None:
            self._lines.lose(self)
            self._lines.end(exchange, error)

    def close(self) -> None:
        """Close it at once."""
        self._transport.abort()
        # Lest redis-py takes it for one that was forgotten.
        self._connection._reader = self._connection._writer = None  # noqa: SLF001

    # What the transport says

    def data_received(self, data: bytes) -> None:
        """Hear replies."""
        exchange = self._exchange
        if exchange is not None and self._is_at_start:
            replies = plain_replies(data, exchange.replies)
            if replies is not None:
                self._end(replies)
                return
        self._stream.data_received(data)
        self._go_on()

    def eof_received(self) -> bool | None:
        """Hear that no more will come."""
        keeps_open: bool | None = self._stream.eof_received()
        self._go_on()
        return keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the connection is no more."""
        self._stream.connection_lost(exc)
        self._go_on()

    def pause_writing(self) -> None:
        """Hear that what is written has to wait."""
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        """Hear that it need not wait any longer."""
        self._stream.resume_writing()

    def _go_on(self) -> None:
        """Let the parser read what has come."""
        if self._exchange is None:
            return
        if self._reading is None:
            self._reading = _read(self._connection._parser, self._exchange.replies)  # noqa: SLF001
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
            self._lines.lose(self)
        else:
            self._lines.take_back(self)
        if exchange is not None:
            self._lines.end(exchange, replies)


async def _read(parser: Any, count: int) -> Replies:
    """Read so many replies. One that ends the connection stands for those after it, too."""
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
        return  # nobody waits any longer
    if isinstance(outcome, StoreError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
