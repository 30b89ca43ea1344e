"""Connections of an event loop: what they hear, in whatever pieces it comes, and how they end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis._parsers import Encoder, _AsyncRESP2Parser, _AsyncRESP3Parser
from redis.exceptions import ReadOnlyError, ResponseError

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import AsyncStore, Operations
from schematic_native.redis.async_connections import _Connection, _Exchange
from schematic_native.redis.keys import Keys
from schematic_native.redis.resp import plain_replies
from tests.stores.callers import BOTH, LEASE, MATRIX, SLOT, Kind, hold
from tests.stores.proxies import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schematic_native.redis.commands import Batch
    from schematic_native.redis.connections import Answered

ASK = Operations(Keys("schematic:"))
ASYNC = Kind(is_async=True)

PLAIN = st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40)
# Lists in lists, as deep as replies are read at once.
LISTED = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4), max_leaves=12).filter(
    lambda reply: depth_of(reply) <= 4
)


def depth_of(reply: object) -> int:
    """Return how many lists of a reply lie in each other."""
    return 1 + max(map(depth_of, reply), default=0) if isinstance(reply, list) else 0


def packed(reply: object, protocol: int) -> bytes:
    """Write a reply as a server does."""
    if reply is None:
        return b"_\r\n" if protocol == 3 else b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if isinstance(reply, Exception):
        return f"-{reply.args[0]}\r\n".encode()
    assert isinstance(reply, list)
    return b"*%d\r\n%b" % (len(reply), b"".join(packed(one, protocol) for one in reply))


@given(st.lists(LISTED, min_size=1, max_size=5), st.sampled_from([2, 3]), st.data())
def test_plain_replies_are_read_at_once_and_only_whole_ones(replies, protocol, data):
    whole = b"".join(packed(reply, protocol) for reply in replies)
    assert plain_replies(whole, len(replies)) == replies
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert plain_replies(whole[:cut], len(replies)) is None
    assert plain_replies(whole + data.draw(st.binary(min_size=1, max_size=3)), len(replies)) is None


@pytest.mark.parametrize(
    "told",
    [
        b"-ERR no\r\n", b"+OK\r\n", b"*1\r\n-ERR no\r\n", b"*1\r\n" * 5 + b":1\r\n", b",1.5\r\n",
        b"*-2\r\n", b"*x\r\n", b"*9999999999\r\n:1\r\n", b"*1\r\n$2\r\nab\r\n:1\r\n", b"#t\r\n", b"%0\r\n",
        b">2\r\n:1\r\n:1\r\n", b"~0\r\n", b":\r\n", b":-\r\n", b":1.5\r\n", b":+1\r\n", b"$1_0\r\n0123456789\r\n",
        b"$-2\r\n", b"$x\r\n", b"$2\r\nabc\r\n", b"_x\r\n", b"\r\n", b"",
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_parser(told):
    assert plain_replies(told, 1) is None


class Wire:
    """A transport that keeps what is written to it."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol
        self.written: list[bytes] = []
        self.is_aborted = False

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True


class Pool:
    """What a connection belongs to: it keeps how the connection was left, and how exchanges ended."""

    def __init__(self) -> None:
        self.left: list[str] = []

    def take_back(self, connection: _Connection) -> None:
        assert connection.is_usable
        self.left.append("free")

    def lose(self, connection: _Connection) -> None:
        connection.close()
        self.left.append("lost")

    def end(self, exchange: _Exchange, outcome: Any) -> None:
        exchange.end(outcome)


def a_connection(protocol: int) -> tuple[_Connection, Wire, Pool]:
    """Make a connection over a transport that says what the test does."""
    reader = asyncio.StreamReader()
    wire = Wire(asyncio.StreamReaderProtocol(reader))
    connection: Any = SimpleNamespace(
        _parser=(_AsyncRESP3Parser if protocol == 3 else _AsyncRESP2Parser)(65536),
        _reader=reader,
        _writer=SimpleNamespace(transport=wire),
        encoder=Encoder("utf-8", "strict", decode_responses=False),
    )
    connection._parser.on_connect(connection)
    pool: Any = Pool()
    return _Connection(connection, pool), wire, pool


def carried(connection: _Connection, count: int) -> list[Any]:
    """Let a connection carry a batch; what is told of it comes into the list."""
    ended: list[Any] = []
    connection.carry(_Exchange(b"ask", count, 0.0, lambda outcome, _: ended.append(outcome)))
    return ended


REPLY = PLAIN | st.lists(PLAIN, max_size=3) | st.just(ResponseError("OOPS no"))
PUSH = b">2\r\n$7\r\nmessage\r\n:7\r\n"


@given(
    st.lists(st.lists(REPLY, min_size=1, max_size=3), min_size=1, max_size=4),
    st.sampled_from([2, 3]),
    st.data(),
)
def test_replies_are_read_in_whatever_pieces_they_come(batches, protocol, data):
    async def converse() -> None:
        connection, wire, pool = a_connection(protocol)
        told = b""
        for replies in batches:
            if protocol == 3:
                told += data.draw(st.sampled_from([b"", PUSH]), "before")
            # What is left of a push may come before the batch is asked for, or after.
            early = data.draw(st.integers(0, len(told)), "early")
            if early:
                wire.protocol.data_received(told[:early])
            told = told[early:] + b"".join(packed(reply, protocol) for reply in replies)
            ended = carried(connection, len(replies))
            after = (
                data.draw(st.sampled_from([b"", PUSH, PUSH[:9]]), "after") if protocol == 3 else b""
            )
            whole = told + after
            while not ended:
                size = data.draw(st.integers(1, max(1, len(whole))), "piece")
                wire.protocol.data_received(whole[:size])
                whole = whole[size:]
            told = whole
            # Where a push has begun, its rest comes later.
            if after == PUSH[:9]:
                told += PUSH[9:]
            assert list(map(repr, ended[0])) == list(map(repr, replies))
        assert pool.left == ["free"] * len(batches)
        assert wire.written == [b"ask"] * len(batches)

    asyncio.run(converse())


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_connection_whose_other_end_is_gone_fails_its_exchange(protocol):
    for end in ("eof_received", "connection_lost"):
        connection, wire, pool = a_connection(protocol)
        ended = carried(connection, 2)
        wire.protocol.data_received(b":1\r\n$5\r\nab")
        getattr(wire.protocol, end)(*([None] if end == "connection_lost" else []))
        [failure] = ended
        assert isinstance(failure, StoreError)
        assert failure.lost
        assert (pool.left, wire.is_aborted) == (["lost"], True)


async def test_a_connection_that_receives_nonsense_is_closed():
    connection, wire, pool = a_connection(3)
    ended = carried(connection, 1)
    wire.protocol.data_received(b":x\r\n")
    assert isinstance(ended[0], StoreError)
    assert pool.left == ["lost"]


async def test_an_idle_connection_that_ends_is_not_used_again():
    connection, wire, _ = a_connection(2)
    assert connection.is_usable
    wire.protocol.eof_received()
    assert not connection.is_usable


async def test_a_connection_to_a_server_that_became_a_replica_is_closed():
    connection, wire, pool = a_connection(2)
    ended = carried(connection, 1)
    wire.protocol.data_received(b"-READONLY no writes\r\n")
    assert [type(reply) for reply in ended[0]] == [ReadOnlyError]
    assert pool.left == ["lost"]


@pytest.mark.parametrize("kind", MATRIX, ids=str)
def test_replies_that_come_byte_by_byte_are_read(server, make_caller, kind):
    with Proxy(server.port, drips=True) as proxy:
        caller = make_caller(proxy, kind)
        assert caller.do(caller.ask.install(SLOT, "lease_1", 100.0, 4_102_444_800.0)).written
        assert caller.do(caller.ask.try_reserve(SLOT, 10.5)).remaining == 89.5
        assert caller.do(caller.ask.add(hold("a", credits_reserved=10.5)))
        assert caller.do(caller.ask.reserved_credits(SLOT)) == 10.5
        assert caller.do(caller.ask.consume("a", 4.25)) == 4.25
        assert caller.do(caller.ask.lease(SLOT)).remaining == 95.75


# Callers that leave


class Held:
    """Links that answer when they are told to."""

    def __init__(self) -> None:
        self.answer: list[Callable[[Sequence[object] | StoreError], None]] = []

    def ask(
        self, batch: Batch, deadline: float | None, answered: Answered, *, in_full: bool
    ) -> None:
        del batch, deadline, in_full
        self.answer.append(answered)

    async def close(self) -> None:
        """Nothing is open."""


DEBIT = b"89.5\n100\n4102444800000\n1750000000\n0\nlease_1"


async def left(connections: Held, told: list[Any]) -> asyncio.Task[Any]:
    """Start a debit."""
    store = AsyncStore(ASK, connections)
    running = asyncio.ensure_future(store.run(ASK.try_reserve(SLOT, 10.5), 1.0, told.append))
    await asyncio.sleep(0)
    return running


async def test_an_operation_goes_on_when_its_caller_leaves():
    connections, told = Held(), []
    running = await left(connections, told)
    running.cancel()
    await asyncio.wait({running})
    assert told == []
    connections.answer[0]([DEBIT])
    assert [debit.remaining for debit in told] == [89.5]


async def test_a_caller_that_leaves_as_the_answer_comes_does_not_lose_it():
    connections, told = Held(), []
    running = await left(connections, told)
    connections.answer[0]([DEBIT])
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    assert [debit.remaining for debit in told] == [89.5]


@pytest.mark.parametrize("at_once", [False, True])
async def test_an_operation_that_fails_after_its_caller_left_reports_that(at_once):
    connections, told = Held(), []
    running = await left(connections, told)
    if at_once:
        connections.answer[0](StoreError("broken", lost=True))
    running.cancel()
    await asyncio.wait({running})
    if not at_once:
        connections.answer[0](StoreError("broken", lost=True))
    assert told == [None]


async def test_an_operation_whose_caller_waits_reports_to_the_caller_alone():
    connections, told = Held(), []
    running = await left(connections, told)
    connections.answer[0]([DEBIT])
    assert (await running).remaining == 89.5
    assert told == []


def test_a_store_that_is_closed_fails_the_exchanges_under_way(server, make_caller):
    caller = make_caller(server, ASYNC, max_connections=1)
    caller.do(caller.ask.install(SLOT, "lease_1", 100.0, 4_102_444_800.0))

    async def close_meanwhile() -> list[Any]:
        debits = [caller.store.run(caller.ask.try_reserve(SLOT, 1.0), 5.0) for _ in range(3)]
        running = asyncio.gather(*debits, return_exceptions=True)
        await asyncio.sleep(0)
        await caller.store.close()
        return await running

    with server.frozen():
        failures = caller.loop.run_until_complete(close_meanwhile())
    assert [type(failure) for failure in failures] == [StoreError] * 3
    assert [failure.lost for failure in failures] == [True, False, False]
    assert all("closed" in str(failure) for failure in failures)


@pytest.mark.parametrize("kind", BOTH, ids=str)
def test_a_store_that_was_closed_can_be_used_again(server, make_caller, kind):
    caller = make_caller(server, kind)
    caller.do(caller.ask.install(SLOT, "lease_1", 100.0, 4_102_444_800.0))
    if kind.is_async:
        caller.loop.run_until_complete(caller.store.close())
    else:
        caller.store.close()
    assert caller.do(caller.ask.try_reserve(SLOT, 1.0)).remaining == 99
    assert server.command("HGET", LEASE, "localRemainingCredits") == "99"
