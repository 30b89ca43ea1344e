"""The model of Redis does what a real Redis does: the same operations, the same replies, the same rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schematic_native.redis import scripts
from schematic_native.redis.reservation_row import FIELDS
from tests.simulation.redis_model import RedisModel, ReplyError
from tests.stores.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

pytest.importorskip("lupa")

# What is far enough in the future that no key of a run expires between two of its commands.
FAR = 4_000_000_000_000


@pytest.fixture(scope="module")
def real() -> Iterator[redis.Redis]:
    server = RedisServer("--appendonly", "no").start()
    with redis.Redis(port=server.port, protocol=2) as client:
        yield client
    server.remove()


KEY = st.sampled_from(["lease", "hold:a", "hold:b", "expiry", "credit"])
AMOUNT = st.one_of(
    st.integers(0, 50).map(str),
    st.floats(0, 1e6, allow_nan=False).map(repr),
    st.sampled_from(["0.1", "0.30000000000000004", "1e21", "9007199254740993", "", "x", "0x10"]),
)
ID = st.sampled_from(["l1", "l2", "h/1", 'h"2', "ä", "\x7f"])
ENDS = st.sampled_from([str(FAR), str(FAR + 1000), "1000"])
SLOT = st.sampled_from([("co", "cr"), ("co2", "cr")])


def script(of: scripts.Script, keys: list[str], *arguments: Any) -> Any:
    return st.tuples(
        st.just(of),
        st.just(keys),
        st.tuples(
            *(each if isinstance(each, st.SearchStrategy) else st.just(each) for each in arguments)
        ),
    )


def flat(*parts: Any) -> tuple[str, ...]:
    words: list[str] = []
    for part in parts:
        words += part if isinstance(part, (tuple, list)) else [part]
    return tuple(words)


# What scripts do not read but reckon with.
WHOLE = AMOUNT.filter(lambda a: a[:1].isdigit() and "x" not in a)
# Of the row of a hold, what comes after its credits.
OTHER_FIELDS = st.just(("1",) * (len(FIELDS) - 4))
HOLD_KEYS = ["lease", "hold:a", "expiry", "credit"]
CALLS = st.one_of(
    script(scripts.INSTALL, ["lease"], ID, SLOT, AMOUNT, ENDS, AMOUNT, st.one_of(ID, st.just(""))),
    script(scripts.RESERVE, ["lease"], WHOLE, SLOT),
    script(scripts.REFUND, ["lease"], WHOLE, ID, "1"),
    script(scripts.EXTEND, ["lease"], WHOLE, ENDS, ID),
    script(scripts.LEASE, ["lease"], SLOT),
    script(scripts.RECORD, ["hold:b"], ENDS, "id", ID, "creditsReserved", AMOUNT),
    script(scripts.CLAIM, ["hold:a"]),
    script(scripts.CLAIM, ["hold:b"]),
    script(
        scripts.HOLD, HOLD_KEYS, "m", str(FAR), str(FAR), ID, SLOT, WHOLE, OTHER_FIELDS,
    ),
    script(scripts.SETTLE, ["hold:a", "lease", "expiry", "credit"], AMOUNT, SLOT, ID, "m"),
    script(scripts.NOTE, ["hold:a"], WHOLE, ID, AMOUNT.filter(
        lambda a: not a or (a[:1].isdigit() and "x" not in a)
    )),
    script(scripts.CLOSE, ["hold:a"]),
    script(scripts.LOWER, ["credit"], ID, "1"),
    script(scripts.LAPSED, ["expiry"], st.sampled_from(["1", "5"])),
)  # fmt: skip
PLAIN = st.one_of(
    st.tuples(st.just("HSET"), KEY, ID, AMOUNT),
    st.tuples(st.just("HSETNX"), KEY, ID, AMOUNT),
    st.tuples(st.just("HDEL"), KEY, ID),
    st.tuples(st.just("HGET"), KEY, ID),
    st.tuples(st.just("HMGET"), KEY, ID, ID),
    st.tuples(st.just("HGETALL"), KEY),
    st.tuples(st.just("HKEYS"), KEY),
    st.tuples(st.just("HVALS"), KEY),
    st.tuples(st.just("DEL"), KEY),
    st.tuples(st.just("DEL"), KEY, KEY),
    st.tuples(st.just("GET"), KEY),
    st.tuples(st.just("SET"), KEY, AMOUNT),
    st.tuples(st.just("PSETEX"), KEY, st.sampled_from(["100000000", "0"]), AMOUNT),
    st.tuples(st.just("EXISTS"), KEY),
    st.tuples(st.just("PEXPIREAT"), KEY, ENDS),
    st.tuples(st.just("ZADD"), KEY, st.just("NX"), st.sampled_from(["1", "2.5"]), ID),
    st.tuples(st.just("ZADD"), KEY, st.sampled_from(["1", "2.5"]), ID),
    st.tuples(st.just("ZREM"), KEY, ID, ID),
    st.tuples(st.just("ZCARD"), KEY),
    st.tuples(
        st.just("ZRANGEBYSCORE"), KEY, st.just("-inf"), st.sampled_from(["1", "9"]), st.just("LIMIT"),
        st.just("0"), st.sampled_from(["1", "5"]),
    ),
)  # fmt: skip


def words_of(call: Any) -> list[bytes]:
    if isinstance(call[0], scripts.Script):
        of, keys, arguments = call
        call = ("EVAL", of.text, str(len(keys)), *keys, *flat(*arguments))
    return [str(word).encode() for word in call]


def real_reply(client: redis.Redis, words: list[bytes]) -> Any:
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*words)
        return connection.read_response()
    except redis.ResponseError as error:
        return error
    finally:
        client.connection_pool.release(connection)


def without_clock(call: Any, reply: Any) -> Any:
    """Leave out the instant that a debit tells, and that at which holds are found to have lapsed."""
    if call[0] is scripts.LAPSED:
        return reply[1]
    if isinstance(reply, bytes) and isinstance(call[0], scripts.Script) and b"\n" in reply:
        return [part for at, part in enumerate(reply.split(b"\n")) if at not in {3, 4}]
    return reply


def rows(client: redis.Redis) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    for key in client.scan_iter():
        kind = client.type(key)
        if kind == b"zset":
            found[key] = dict(client.zrange(key, 0, -1, withscores=True))
        elif kind == b"string":
            found[key] = client.get(key)
        else:
            found[key] = client.hgetall(key)
    return found


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.one_of(CALLS, CALLS, PLAIN), max_size=30))
def test_the_model_replies_and_keeps_as_redis_does(real: redis.Redis, calls: list[Any]) -> None:
    real.flushall()
    model = RedisModel(time.time)
    for call in calls:
        words = words_of(call)
        expected, got = real_reply(real, words), model.execute(words)
        if isinstance(expected, Exception) or isinstance(got, ReplyError):
            assert isinstance(expected, Exception), (call, expected, got)
            assert isinstance(got, ReplyError), (call, expected, got)
            continue
        assert without_clock(call, got) == without_clock(call, expected), call
    kept = {key: _without_end(value) for key, value in model.rows(b"").items()}
    assert kept == {key: _without_end(value) for key, value in rows(real).items()}
    for key in kept:
        told = real.pexpiretime(key)
        assert abs(model.ends.get(key, -1) - told) < 5000, key


def _without_end(row: Any) -> Any:
    """Leave out when a hold lapses, which is told by each server's own clock."""
    if isinstance(row, bytes):
        return row
    return {name: value for name, value in row.items() if name not in {b"expiresAt", b"m"}}


# What a replicator and the pods that read from it send.
CACHED = st.sampled_from(["cache:company:1:a", "cache:company:1:b", "cache:flags:1:x", "other:1"])
WRITES = st.one_of(
    st.tuples(st.just("SET"), CACHED, st.sampled_from(["1", "2"])),
    st.tuples(st.just("PSETEX"), CACHED, st.just("100000000"), st.just("3")),
    st.tuples(st.just("DEL"), CACHED),
    st.tuples(st.just("DEL"), CACHED, CACHED),
    st.tuples(st.just("GET"), CACHED),
)
PREFIXES = (b"cache:company:", b"cache:flags:")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(WRITES, max_size=12))
def test_the_model_tells_of_the_keys_that_redis_tells_of(
    real: redis.Redis, calls: list[tuple[str, ...]]
) -> None:
    model = RedisModel(time.time)
    told: list[bytes] = []
    model.on_change = told.append
    with Told(real) as listener:
        for call in calls:
            words = [word.encode() for word in call]
            assert real_reply(real, words) == model.execute(words), call
            expected = {key for key in told if key.startswith(PREFIXES)}
            told.clear()
            assert listener.hear() == expected, call


class Told:
    """Two connections to a real server, one of which is told of the keys that change."""

    def __init__(self, client: redis.Redis) -> None:
        client.flushall()
        pool = client.connection_pool
        self._listener, self._keeper = (
            pool.connection_class(**pool.connection_kwargs) for _ in range(2)
        )

    def __enter__(self) -> Self:
        number = self._ask(self._listener, "CLIENT", "ID")
        self._ask(self._listener, "SUBSCRIBE", "__redis__:invalidate")
        prefixes = [word for prefix in PREFIXES for word in ("PREFIX", prefix)]
        self._ask(self._keeper, "CLIENT", "TRACKING", "ON", "REDIRECT", number, "BCAST", *prefixes)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.disconnect()
        self._keeper.disconnect()

    def hear(self) -> set[bytes]:
        """Return the keys that it was told of since the last call."""
        keys: set[bytes] = set()
        self._listener.send_command("PING")
        while (reply := self._listener.read_response())[0] == b"message":
            keys.update(reply[2])
        assert reply[0] == b"pong"
        return keys

    @staticmethod
    def _ask(connection: Any, *words: Any) -> Any:
        connection.send_command(*words)
        return connection.read_response()
