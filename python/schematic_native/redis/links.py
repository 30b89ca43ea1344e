"""Connections to one server.

They are made as the user's client makes its own (address, credentials, TLS, protocol, Sentinel),
but never send anything again, and end when the caller's time does. What of redis-py is not part of
its documented interface is used here and in `clusters`, and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ReadOnlyError,
    ResponseError,
)
from redis.retry import Retry

from schematic_native.redis.faults import FAULTS, unheard, unsent
from schematic_native.redis.rest import Rest

if sys.version_info >= (3, 11):
    from asyncio import timeout_at
else:
    from async_timeout import timeout_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from schematic_native.faults import StoreError
    from schematic_native.redis.operations import Batch, Replies

# Seconds that connecting, and waiting for an answer, take at most where nobody says less.
CONNECT_TIMEOUT = 1.0
SHORTEST_WAIT = 0.001
# Seconds that a connection which was used is not looked at again before it is used again.
TRUSTED = 0.1
# What a server answers instead of carrying a command out.
REFUSALS = (ResponseError, BusyLoadingError, AuthenticationError)


class SyncLinks(Protocol):
    """Exchanges batches on the calling thread."""

    def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch, read its replies; the deadline is one of `time.monotonic`."""

    def close(self) -> None:
        """Close the connections."""


class AsyncLinks(Protocol):
    """Exchanges batches on the event loop."""

    async def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch, read its replies; the deadline is one of the loop's clock."""

    async def close(self) -> None:
        """Close the connections."""


class Sent(NamedTuple):
    """A batch whose replies are still to be read."""

    connection: Any
    replies: int
    began: float


class SyncServer:
    """Connections to one server, for any thread.

    Args:
        make: makes a connection.
        settings: what it is made with.

    """

    def __init__(self, make: Callable[..., Any], settings: dict[str, Any]) -> None:
        self._make = make
        self._settings = {**settings, **_OWN_ENCODING, "retry": Retry(NoBackoff(), 0)}
        # Connections, and until when each may be thought to be open still.
        self._free: deque[tuple[Any, float]] = deque()
        self._process = os.getpid()
        self._rest = Rest()

    def exchange(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> Replies:
        """Send a batch, read its replies."""
        return self.receive(self.send(batch, deadline, in_full=in_full, asking=asking), deadline)

    def send(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> Sent:
        """Send a batch."""
        began = self._rest.begin(is_owed=_is_owed(batch))
        commands = _words(batch, in_full=in_full, asking=asking)
        try:
            connection = self._connected(deadline)
        except Exception as error:  # a provider of credentials raises what it likes
            raise self._noted(unsent(error), error, began) from error
        try:
            _bound(connection, deadline)
            connection.send_packed_command([_packed(commands)], check_health=False)
        except FAULTS as error:
            connection.disconnect()
            raise self._noted(unheard(error), error, began) from error
        except BaseException:
            connection.disconnect()
            raise
        return Sent(connection, len(commands), began)

    def receive(self, sent: Sent, deadline: float | None) -> Replies:
        """Read the replies of what was sent."""
        connection = sent.connection
        replies: list[object] = []
        try:
            while len(replies) < sent.replies:
                replies.append(_read(connection, deadline))
                if is_refusal(replies[-1]):
                    replies += [replies[-1]] * (sent.replies - len(replies))
        except FAULTS as error:
            connection.disconnect()
            raise self._noted(unheard(error), error, sent.began) from error
        except BaseException:
            connection.disconnect()
            raise
        self._rest.end()
        if leads_elsewhere(replies):
            connection.disconnect()
        self._free.append((connection, time.monotonic() + TRUSTED))
        return replies

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._free:
            self._free.pop()[0].disconnect()

    def _forget_parent(self) -> None:
        """Leave the connections of the process that this one was forked from to it."""
        process = os.getpid()
        if process != self._process:
            self._process, self._free = process, deque()

    def _noted(self, failure: StoreError, error: BaseException, began: float) -> StoreError:
        self._rest.note(failure, error, began)
        return failure

    def _connected(self, deadline: float | None) -> Any:
        """Take a connection that is open and has nothing to say."""
        self._forget_parent()
        try:
            connection, trusted_until = self._free.pop()
        except IndexError:
            connection, trusted_until = self._make(**self._settings), 0.0
        if connection.is_connected and time.monotonic() > trusted_until:
            _drop_if_closed(connection)
        if not connection.is_connected:
            _connect(connection, deadline)
        return connection


class AsyncServer:
    """Connections to one server, for one event loop after another.

    Args:
        make: makes a connection.
        settings: what it is made with.
        most: so many are open at once, and no more.

    """

    def __init__(self, make: Callable[..., Any], settings: dict[str, Any], most: int) -> None:
        self._make = make
        # The whole exchange has one deadline; one for each call would cost a task each.
        limits = {"socket_connect_timeout": None, "socket_timeout": None}
        retry = AsyncRetry(NoBackoff(), 0)
        self._settings = {**settings, **_OWN_ENCODING, **limits, "retry": retry}
        self._most = most
        self._free: deque[Any] = deque()
        self._gate = asyncio.Semaphore(most)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rest = Rest()

    async def exchange(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> Replies:
        """Send a batch, read its replies."""
        began = self._rest.begin(is_owed=_is_owed(batch))
        self._enter_loop()
        commands = _words(batch, in_full=in_full, asking=asking)
        failure = unsent
        try:
            async with timeout_at(_limit(deadline)), self._gate:
                connection = await self._connected()
                failure = unheard
                replies = await self._talk(connection, commands)
        except Exception as error:  # as for threads
            fault = failure(error)
            self._rest.note(fault, error, began)
            raise fault from error
        self._rest.end()
        return replies

    async def close(self) -> None:
        """Close the connections that are not in use."""
        self._enter_loop()
        while self._free:
            await self._free.pop().disconnect(nowait=True)

    async def _talk(self, connection: Any, commands: list[Sequence[str | int]]) -> Replies:
        replies: list[object] = []
        try:
            await connection.send_packed_command([_packed(commands)], check_health=False)
            while len(replies) < len(commands):
                try:
                    replies.append(await connection.read_response())
                except REFUSALS as error:
                    replies.append(error)
                    if is_refusal(error):
                        replies += [error] * (len(commands) - len(replies))
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if leads_elsewhere(replies):
            await connection.disconnect(nowait=True)
        self._free.append(connection)
        return replies

    def _enter_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # The connections of a loop that has ended have ended with it.
            self._loop, self._free, self._gate = loop, deque(), asyncio.Semaphore(self._most)

    async def _connected(self) -> Any:
        """Take a connection whose other end is open, or a new one."""
        while self._free:
            connection = self._free.pop()
            reader = getattr(connection, "_reader", None)
            if connection.is_connected and reader is not None and not reader.at_eof():
                return connection
            await connection.disconnect(nowait=True)
        connection = self._make(**self._settings)
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


def is_refusal(reply: object) -> bool:
    """Tell whether a reply ends the connection and stands for those after it, too."""
    return isinstance(reply, (BusyLoadingError, AuthenticationError))


def leads_elsewhere(replies: Iterable[object]) -> bool:
    """Tell whether the server may no longer be what the address leads to.

    A server that has become a replica answers on its old connections for ever; a new connection
    finds the one that has taken its place.
    """
    return ReadOnlyError in map(type, replies)


def _is_owed(batch: Batch) -> bool:
    return any(command.is_owed for command in batch)


# Replies are read as bytes, whatever the user's own encoding is: others write the same rows.
_OWN_ENCODING = {"decode_responses": False, "encoding": "utf-8"}


def _words(batch: Batch, *, in_full: bool, asking: bool) -> list[Sequence[str | int]]:
    commands: list[Sequence[str | int]] = [command.words(in_full=in_full) for command in batch]
    if not asking:
        return commands
    return [word for command in commands for word in (("ASKING",), command)]


def _drop_if_closed(connection: Any) -> None:
    """Disconnect from a server that has closed its end, which makes the socket readable."""
    try:
        if connection.can_read(0):
            connection.disconnect()
    except FAULTS:
        connection.disconnect()


def _connect(connection: Any, deadline: float | None) -> None:
    left = _left(deadline)
    if left <= 0:
        raise TimeoutError("no time was left to connect")
    # The second is for what is said at the start: the protocol, who is there, the password.
    connection.socket_connect_timeout = connection.socket_timeout = left
    try:
        connection.connect()
    except BaseException:
        connection.disconnect()
        raise


def _read(connection: Any, deadline: float | None) -> object:
    _bound(connection, deadline)
    try:
        reply: object = connection.read_response()
    except REFUSALS as error:
        return error
    return reply


def _bound(connection: Any, deadline: float | None) -> None:
    """Let nothing on a connection wait longer than until the deadline.

    What has come in time is still read after it: a timeout of 0 would be none.
    """
    connection._sock.settimeout(max(_left(deadline), SHORTEST_WAIT))  # noqa: SLF001


def _left(deadline: float | None) -> float:
    return CONNECT_TIMEOUT if deadline is None else deadline - time.monotonic()


def _packed(commands: Iterable[Sequence[str | int]]) -> bytes:
    """Write commands as the protocol wants them: in a third of the time that redis-py takes."""
    parts: list[str] = []
    for words in commands:
        parts.append(f"*{len(words)}\r\n")
        for word in map(str, words):
            length = len(word) if word.isascii() else len(encoded(word))
            parts.append(f"${length}\r\n{word}\r\n")
    return encoded("".join(parts))


def encoded(text: str) -> bytes:
    """Encode as UTF-8; bytes that were read and are no text go back as they came."""
    return text.encode("utf-8", "surrogateescape")


def _limit(deadline: float | None) -> float:
    return asyncio.get_running_loop().time() + CONNECT_TIMEOUT if deadline is None else deadline
