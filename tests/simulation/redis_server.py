"""The model of Redis behind connections: what redis-py's connections are to the package, without a socket."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis._parsers.resp2 import _AsyncRESP2Parser

from schematic_native.redis import scripts
from tests.simulation.network import ENDS, HELD_UP, LATE
from tests.simulation.redis_model import OK, ReplyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.network import Link
    from tests.simulation.redis_model import RedisModel

# By the text of each script, and by its digest.
_NAMES = {
    known: name.lower()
    for name, script in vars(scripts).items()
    if isinstance(script, scripts.Script)
    for text in (script.text.encode(),)
    for known in (text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())
}
# Asked at each sweep, and nothing to be told of.
QUIET = {"lapsed", "zrangebyscore", "lease", "probe", "del"}
SCRIPTED = {b"EVALSHA", b"EVAL"}
SUMMED = {b"HVALS", b"HKEYS"}


def operation_of(commands: Sequence[list[bytes]]) -> str:
    """Name what a batch is about: its first script, or its first command."""
    for words in commands:
        if words[0] in SCRIPTED:
            return _NAMES.get(words[1], "script")
    return commands[0][0].decode().lower()


class RedisServer:
    """One server, which all pods share."""

    def __init__(self, model: RedisModel) -> None:
        self.model = model
        self.slowness = 0.0  # seconds that each batch takes longer
        self.trace: Callable[[str], None] | None = None
        self.seen: Counter[str] = Counter()  # states that schedules are to reach
        self.caller = ""  # whose batch is carried out
        self.sums: Counter[str] = Counter()  # of open holds that pods have asked for
        self.process = 0  # which of those that have been the server, one after another

    def begin_anew(self) -> None:
        """Let another process be the server: it gets nothing that is on its way to the one before."""
        self.process += 1

    def carry_out(self, name: str, commands: Sequence[list[bytes]]) -> bytes:
        """Carry a batch out; the replies as they go over the wire."""
        self.caller = name
        self.sums[name] += commands[0][0] in SUMMED
        replies: list[bytes] = []
        for words in commands:
            reply = self.model.execute(words)
            replies.append(written(reply))
            if type(reply) is list and words[0] in SCRIPTED:
                self._see(operation_of([words]), reply)
            elif isinstance(reply, ReplyError) and (self.model.is_read_only or self.model.is_full):
                is_note = operation_of([words]) == "note"
                self.seen["Redis refused to note what was used of a slab"] += is_note
            if self.trace is not None:
                self._tell(self.trace, name, words, reply)
        return b"".join(replies)

    def _tell(
        self, trace: Callable[[str], None], name: str, words: list[bytes], reply: Any
    ) -> None:
        operation = operation_of([words])
        if operation not in QUIET and "NOSCRIPT" not in str(reply):
            called = b" ".join(words[3:] if words[0] in SCRIPTED else words[1:])
            told = called.decode(errors="replace").replace("schematic:credit-", "")[:150]
            trace(f"{name}: redis: {operation} {told} -> {reply!r}")

    def _see(self, operation: str, reply: list[Any]) -> None:
        is_late = operation == "install" and reply[0] == 0
        self.seen["two pods put a lease into Redis at the same time"] += is_late
        self.seen["a slab was closed"] += operation == "close" and bool(reply)


class Connection:
    """One connection, as `redis.lines` uses those of redis-py."""

    def __init__(self, *, server: RedisServer, link: Link, **_: Any) -> None:
        self._server = server
        self.link = link
        self._parser = _AsyncRESP2Parser(socket_read_size=65536)
        self._reader: asyncio.StreamReader | None = None
        self._writer: _Writer | None = None
        # As redis-py's parser expects of its connection.
        self.encoder = None

    async def connect(self) -> None:
        link = self.link
        if link.is_down:
            await asyncio.sleep(link.delay())
            link.note("refused", "connect")
            raise ConnectionRefusedError("connection refused")
        if link.is_silent:
            link.note("silent", "connect")
            await asyncio.get_running_loop().create_future()
        delay = 2 * link.delay()
        link.waited(delay)
        await asyncio.sleep(delay)
        if link.is_down:
            raise ConnectionResetError("connection reset")
        reader = asyncio.StreamReader(loop=link.loop)
        transport = self.make_transport(asyncio.StreamReaderProtocol(reader, loop=link.loop))
        self._reader, self._writer = reader, _Writer(transport)
        self._parser._stream = reader  # type: ignore[assignment]
        self._parser._connected = True

    def make_transport(self, protocol: Any) -> Transport:
        """Return what carries the connection's batches."""
        return Transport(self._server, self.link, protocol)

    @property
    def is_open(self) -> bool:
        """Whether it can be used, as far as this end knows."""
        return self._writer is not None and not self._writer.transport.is_closing()

    async def disconnect(self, nowait: bool = False) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


class _Writer:
    def __init__(self, transport: Transport) -> None:
        self.transport = transport


class Transport:
    """Carries batches to the server and replies back, in order, as long as nothing is lost."""

    def __init__(self, server: RedisServer, link: Link, protocol: Any) -> None:
        self._server = server
        self.link = link
        self._loop = link.loop
        self._protocol = protocol
        self._is_closed = False
        self._goes_at = self._comes_at = 0.0
        link.ways[self._reset] = None

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._is_closed

    def write(self, data: bytes) -> None:
        link, world = self.link, self.link.world
        commands = read_commands(data)
        operation = operation_of(commands)
        fate = link.fate(operation)
        kind = None if fate is None else fate.kind
        if self.strikes(kind):
            return
        if kind == "cut":
            world.later(link.delay(), self._reset)
            return
        delay = link.delay() + (LATE if kind == "late" else self._server.slowness)
        self._goes_at = max(self._goes_at, world.now + delay)
        link.waited(self._goes_at - world.now)
        world.at(self._goes_at, self._arrive, commands, kind, self._server.process)

    def _arrive(self, commands: Sequence[list[bytes]], kind: str | None, process: int) -> None:
        if process != self._server.process:
            return
        replies = self.carry_out(commands)
        link = self.link
        if kind in ENDS:
            link.end(kind)
        if kind == "fatal":
            return
        if link.swallows() or kind == "unanswered":
            return
        if kind == "cut after":
            self._reset()
            return
        if kind == "held up":
            self._comes_at = max(self._comes_at, link.world.now + HELD_UP)
        self.send(replies)

    def carry_out(self, commands: Sequence[list[bytes]]) -> bytes:
        """Have the server carry a batch out."""
        return self._server.carry_out(self._loop.name, commands)

    def strikes(self, kind: str | None) -> bool:
        """Tell whether a batch is lost on its way."""
        return kind == "lost"

    def send(self, replies: bytes) -> None:
        """Carry replies to the client, in order."""
        link = self.link
        self._comes_at = max(self._comes_at, link.world.now + link.delay())
        link.waited(self._comes_at - link.world.now)
        link.world.on(self._loop, self._comes_at, self._hear, replies)

    def _hear(self, replies: bytes) -> None:
        if not self._is_closed:
            self._protocol.data_received(replies)

    def _reset(self) -> None:
        """Be cut by the network or the server."""
        if not self._is_closed:
            self.abort()
            self._loop.call_soon(self._protocol.connection_lost, ConnectionResetError("reset"))

    def abort(self) -> None:
        self._is_closed = True
        self.link.ways.pop(self._reset, None)

    close = abort


def read_commands(data: bytes) -> list[list[bytes]]:
    """Read what a client has packed."""
    commands: list[list[bytes]] = []
    lines, at = data.split(b"\r\n"), 0
    last = len(lines) - 1
    while at < last:
        end = at + 1 + 2 * int(lines[at][1:])
        commands.append(lines[at + 2 : end : 2])
        at = end
        # With a line's end in a word there would be more lines than words.
        if at > last or not lines[at].startswith(b"*" if at < last else b""):
            raise ValueError(f"a word contains a line's end: {data!r}")
    return commands


def written(reply: Any) -> bytes:
    """Write a reply as it goes over the wire."""
    kind = type(reply)
    if kind is bytes:
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if kind is int:
        return b":%d\r\n" % reply
    if reply is None:
        return b"$-1\r\n"
    if reply is OK:
        return b"+OK\r\n"
    if kind is ReplyError:
        return b"-%b\r\n" % str(reply).encode()
    return b"*%d\r\n%b" % (len(reply), b"".join(map(written, reply)))


def connect(server: RedisServer, link: Link, most: int = 8) -> redis.asyncio.Redis:
    """Return a client of redis-py whose connections lead to a model."""
    pool = redis.asyncio.ConnectionPool(
        connection_class=Connection,  # type: ignore[type-var]
        max_connections=most,
        server=server,
        link=link,
    )
    return redis.asyncio.Redis(connection_pool=pool)
