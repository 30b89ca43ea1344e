"""Connections to the model of Redis for a replicator's cache: reads, and telling of keys that change.

What is lost of such a connection is lost for good with all that follows, as TCP has it: the connection lives on, and
says nothing any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis.exceptions import ResponseError

from tests.simulation.redis_server import Connection, Transport, written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.network import Link
    from tests.simulation.redis_server import RedisServer

CHANNEL = b"__redis__:invalidate"


class Tracking:
    """Who is told of which keys, by the connection that is told.

    Args:
        server: whose keys.
        is_served: whether the server tells of changes.

    """

    def __init__(self, server: RedisServer, *, is_served: bool) -> None:
        self.server = server
        self.is_served = is_served
        self._sessions: dict[int, Session] = {}
        self._prefixes: dict[Session, tuple[int, list[bytes]]] = {}
        self._count = 0

    def open(self, session: Session) -> int:
        """Number a connection."""
        self._count += 1
        self._sessions[self._count] = session
        return self._count

    def close(self, session: Session) -> None:
        """Tell a connection of nothing, and nobody on behalf of it."""
        self._sessions.pop(session.number, None)
        self._prefixes.pop(session, None)

    def track(self, session: Session, words: Sequence[bytes]) -> None:
        """Carry out `CLIENT TRACKING ON REDIRECT id BCAST PREFIX name ...`."""
        self._prefixes[session] = int(words[4]), list(words[7::2])

    def changed(self, key: bytes) -> None:
        """Tell of a key that has changed."""
        for number, prefixes in list(self._prefixes.values()):
            listener = self._sessions.get(number)
            if listener is not None and listener.is_subscribed and key.startswith(tuple(prefixes)):
                listener.push(written([b"message", CHANNEL, [key]]))


class Session(Transport):
    """One connection, with what the server remembers of it."""

    def __init__(self, tracking: Tracking, link: Link, protocol: Any) -> None:
        super().__init__(tracking.server, link, protocol)
        self._tracking = tracking
        self.number = tracking.open(self)
        self.is_subscribed = False
        self._is_stuck = False

    def carry_out(self, commands: Sequence[list[bytes]]) -> bytes:
        replies = b"".join(map(self._reply, commands))
        self._is_stuck |= self.link.is_silent
        return replies

    def _reply(self, words: list[bytes]) -> bytes:
        if words[0] == b"SUBSCRIBE":
            self.is_subscribed = True
            return written([b"subscribe", words[1], 1])
        if words[:2] == [b"CLIENT", b"ID"]:
            return written(self.number)
        if words[:2] == [b"CLIENT", b"TRACKING"]:
            if not self._tracking.is_served:
                return b"-ERR unknown subcommand 'TRACKING'\r\n"
            self._tracking.track(self, words)
            return b"+OK\r\n"
        if words[0] == b"PING":
            return written([b"pong", b""]) if self.is_subscribed else b"+PONG\r\n"
        return super().carry_out([words])

    def push(self, message: bytes) -> None:
        """Tell something that was not asked for, after all that was told before."""
        if self.link.is_silent and not self._is_stuck:
            self._is_stuck = True
            self.link.note("silent", "push")
        self.send(message)

    def send(self, replies: bytes) -> None:
        if not self._is_stuck:
            super().send(replies)

    def strikes(self, kind: str | None) -> bool:
        was_stuck, self._is_stuck = self._is_stuck, self._is_stuck or kind in {"lost", "unanswered"}
        return was_stuck or kind == "lost"

    def abort(self) -> None:
        super().abort()
        self._tracking.close(self)


class _Connection(Connection):
    """One connection as the package's tracker uses those of redis-py, and as a client that reads."""

    tracking: Tracking

    def __init__(self, **_: Any) -> None:
        super().__init__(server=self.tracking.server, link=self.link)

    def make_transport(self, protocol: Any) -> Transport:
        return Session(self.tracking, self.link, protocol)

    async def send_command(self, *words: Any) -> None:
        if self._writer is None or self._writer.transport.is_closing():
            raise ConnectionError("the connection is closed")
        self._writer.transport.write(pack(words))

    async def read_response(self) -> Any:
        reply = await self._parser.read_response(disable_decoding=True)
        if isinstance(reply, ResponseError):
            raise reply
        return reply


def pack(words: Sequence[Any]) -> bytes:
    """Write a command as it goes over the wire."""
    packed = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(packed) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in packed)


class CacheClient(redis.asyncio.Redis):
    """A client of redis-py that reads over connections to the model, one for each command under way."""

    async def execute_command(self, *words: Any, **_: Any) -> Any:
        pool = self.connection_pool
        connection = await pool.get_connection()
        try:
            await connection.send_command(*words)
            reply = await connection.read_response()
        except BaseException:
            # Its reply may still come.
            await connection.disconnect(nowait=True)
            raise
        await pool.release(connection)
        return reply


class _Pool:
    """What the package asks of a pool of redis-py."""

    def __init__(self, kind: Any) -> None:
        self.connection_class = kind
        self.connection_kwargs: dict[str, Any] = {}
        self._idle: list[Any] = []

    async def get_connection(self) -> Any:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        connection = self.connection_class()
        await connection.connect()
        return connection

    async def release(self, connection: Any) -> None:
        self._idle.append(connection)


def connect(tracking: Tracking, link: Link) -> CacheClient:
    """Return a client of a pod whose connections lead to the model."""
    kind = type("Connection", (_Connection,), {"tracking": tracking, "link": link})
    client = CacheClient.__new__(CacheClient)
    client.connection_pool = _Pool(kind)  # type: ignore[assignment]
    return client
