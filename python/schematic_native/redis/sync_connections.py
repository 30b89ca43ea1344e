"""Connections to one server for threads.

A connection whose exchange failed is closed, never used again: its reply may still come.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from redis._parsers.base import _RESPBase
from redis.backoff import NoBackoff
from redis.retry import Retry

from schematic_native.ground.threads import on_new_thread
from schematic_native.redis.circuit_breaker import CircuitBreaker
from schematic_native.redis.commands import is_owed
from schematic_native.redis.connections import CONNECT_TIMEOUT, OWN_ENCODING
from schematic_native.redis.failures import FAULTS, raise_interruption, unheard, unsent
from schematic_native.redis.resp import (
    REFUSALS,
    is_refusal,
    leads_elsewhere,
    packed,
    plain_replies,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.ground.store_errors import StoreError
    from schematic_native.redis.commands import Batch, Replies

SHORTEST_WAIT = 0.001
# Seconds for which a connection that was just used is taken to be open without a look at it.
TRUSTED = 0.1


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
        self._settings = {**settings, **OWN_ENCODING, "retry": Retry(NoBackoff(), 0)}
        # Connections, and until when each is taken to be open without a look at it.
        self._free: deque[tuple[Any, float]] = deque()
        self._process = os.getpid()
        self._breaker = CircuitBreaker()
        # How often the connections were closed.
        self._closings = 0

    def exchange(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> Replies:
        """Send a batch, read its replies."""
        return self.receive(self.send(batch, deadline, in_full=in_full, asking=asking), deadline)

    def send(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> Sent:
        """Send a batch."""
        began = self._breaker.begin(is_owed=is_owed(batch))
        data = packed(batch, in_full=in_full, asking=asking)
        try:
            connection = self._connected(deadline)
        except Exception as error:  # a provider of credentials raises what it likes
            raise self._noted(unsent(error), error, began) from error
        try:
            _bound(connection, deadline)
            connection._sock.sendall(data)  # noqa: SLF001
        except FAULTS as error:
            connection.disconnect()
            raise self._noted(unheard(error), error, began) from error
        except BaseException:
            connection.disconnect()
            raise
        return Sent(connection, len(batch) * (1 + asking), began)

    def receive(self, sent: Sent, deadline: float | None) -> Replies:
        """Read the replies of what was sent."""
        connection = sent.connection
        try:
            replies = _read_at_once(connection, sent.replies, deadline)
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
        self._breaker.succeeded()
        if leads_elsewhere(replies):
            connection.disconnect()
        self._free.append((connection, time.monotonic() + TRUSTED))
        return replies

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._closings += 1
        while self._free:
            self._free.pop()[0].disconnect()

    def _forget_parent(self) -> None:
        """After a fork, leave the connections that were open before it to the parent."""
        process = os.getpid()
        if process != self._process:
            self._process, self._free = process, deque()

    def _noted(self, failure: StoreError, error: BaseException, began: float) -> StoreError:
        raise_interruption(error)
        self._breaker.failed(failure, error, began)
        return failure

    def _connected(self, deadline: float | None) -> Any:
        """Take a connection that is open and has nothing left to read."""
        self._forget_parent()
        try:
            connection, trusted_until = self._free.pop()
        except IndexError:
            connection, trusted_until = self._make(**self._settings), 0.0
        if _is_open(connection) and time.monotonic() > trusted_until:
            _drop_if_closed(connection)
        if not _is_open(connection):
            self._open(connection, deadline)
        return connection

    def _open(self, connection: Any, deadline: float | None) -> None:
        """Open a connection on a thread of its own, as a resolver may block beyond any timeout.

        One that is open too late for its caller serves the next.
        """
        left = _left(deadline)
        if left <= 0:
            raise TimeoutError("no time was left to connect")
        # The second limit is for the handshake: protocol, credentials, database.
        connection.socket_connect_timeout = connection.socket_timeout = left
        owner: dict[str, str] = {}
        closings = self._closings

        def connect() -> None:
            try:
                connection.connect()
            except BaseException:
                connection.disconnect()
                raise
            if owner.setdefault("is", "caller") == "caller":
                return
            if closings == self._closings:
                self._free.append((connection, 0.0))
            else:
                connection.disconnect()

        opening = on_new_thread(connect)
        is_open = False
        try:
            is_open = opening.wait(left)
        finally:
            # A connection that was opened at this very moment still goes to the caller.
            if not is_open and owner.setdefault("is", "server") == "caller":
                is_open = opening.wait(None)
        if not is_open:
            raise TimeoutError("no connection could be opened in time")
        opening.result()


def _is_open(connection: Any) -> bool:
    return connection._sock is not None  # noqa: SLF001 - is_connected came with redis-py 8


def _drop_if_closed(connection: Any) -> None:
    """Disconnect from a server that has closed its end, which makes the socket readable."""
    try:
        if connection.can_read(0):
            connection.disconnect()
    except FAULTS as error:
        connection.disconnect()
        raise_interruption(error)


def _read(connection: Any, deadline: float | None) -> object:
    _bound(connection, deadline)
    try:
        reply: object = connection.read_response()
    except REFUSALS as error:
        return error
    return reply


def _read_at_once(connection: Any, count: int, deadline: float | None) -> list[object]:
    """Read so many replies if they are plain and come in one piece; otherwise leave them to the parser."""
    if not isinstance(connection._parser, _RESPBase):  # noqa: SLF001
        return []
    unread: Any = connection._parser._buffer  # noqa: SLF001
    if unread.unread_bytes():
        return []
    _bound(connection, deadline)
    data = connection._sock.recv(unread.socket_read_size)  # noqa: SLF001
    if not data:
        raise ConnectionError("Connection closed by server.")
    replies = plain_replies(data, count)
    if replies is None:
        words = unread._buffer  # noqa: SLF001
        at = words.tell()
        words.seek(0, os.SEEK_END)
        words.write(data)
        words.seek(at)
    return replies or []


def _bound(connection: Any, deadline: float | None) -> None:
    """Let no call on a connection wait beyond the deadline.

    A reply that came in time is still read after it, since the timeout is never 0. Setting a timeout is a
    system call that releases the interpreter's lock, so a difference of a millisecond is ignored.
    """
    left = max(_left(deadline), SHORTEST_WAIT)
    before = connection._sock.gettimeout()  # noqa: SLF001
    if before is None or abs(before - left) > SHORTEST_WAIT:
        connection._sock.settimeout(left)  # noqa: SLF001


def _left(deadline: float | None) -> float:
    return CONNECT_TIMEOUT if deadline is None else deadline - time.monotonic()
