"""What a server does to a store: each fault is a `StoreError`, and none leaves a trace."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import open_store, scripts, sync_connections
from tests.conftest import PATIENCE, eventually, eventually_async
from tests.forks import in_fork
from tests.limits import within
from tests.stores.callers import (
    BOTH,
    LEASE,
    PREFIX,
    SLACK,
    SLOT,
    Caller,
    Kind,
    hold,
    hold_key,
)
from tests.stores.inspection import count_holds, is_open, sweep_all
from tests.stores.proxies import Cut, Proxy
from tests.stores.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

YEAR_2100 = 4_102_444_800.0


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that a test may break."""
    server = RedisServer().start()
    yield server
    server.remove()


@pytest.fixture(params=BOTH, ids=str)
def kind(request) -> Kind:
    return request.param


@pytest.fixture
def caller(own_server, make_caller, kind) -> Caller:
    """A program with a connection, and a lease of 100 of which one hold has 20."""
    return prepared(make_caller(own_server, kind))


def prepared(caller: Caller) -> Caller:
    caller.do(caller.ask.install(SLOT, "lease_1", 100, YEAR_2100))
    caller.do(caller.ask.try_reserve(SLOT, 20))
    assert caller.do(caller.ask.add(hold("hold_1")))
    return caller


def failure_of(caller: Caller, operation: Any, timeout: float = PATIENCE) -> StoreError:
    with pytest.raises(StoreError) as failure:
        caller.do(operation, timeout)
    return failure.value


def await_answer(caller: Caller) -> None:
    def answers() -> bool:
        with contextlib.suppress(StoreError):
            caller.do(caller.ask.lease(SLOT))
            return True
        return False

    eventually(answers)


# The server's own faults


def test_a_server_that_restarts_is_used_again_and_has_forgotten_no_credit(caller, own_server):
    own_server.stop()
    failure_of(caller, caller.ask.try_reserve(SLOT, 1))
    assert not failure_of(caller, caller.ask.try_reserve(SLOT, 1)).lost
    own_server.start(keep=True)
    await_answer(caller)
    assert caller.do(caller.ask.lease(SLOT)).remaining == 80
    assert caller.do(caller.ask.consume("hold_1", 5)) == 5


def test_a_connection_that_was_killed_while_it_was_idle_costs_nothing(caller, own_server):
    with own_server.connect() as other:
        other.client_kill_filter(_type="normal", skipme=True)
    # Only what has been idle for a while is looked at before it is used.
    threading.Event().wait(sync_connections.TRUSTED)
    caller.loop.run_until_complete(asyncio.sleep(0))
    assert caller.do(caller.ask.consume("hold_1", 5)) == 5
    assert caller.do(caller.ask.lease(SLOT)).remaining == 95


def test_scripts_that_are_forgotten_in_the_middle_of_a_batch_are_sent_in_full(caller, own_server):
    caller.do(caller.ask.install(("other", "credit"), "lease_2", 100, YEAR_2100))
    with own_server.connect() as other:
        other.script_flush()
        # One script of the settle's and the sweep's batches is known, the others are not.
        other.script_load(scripts.CLAIM.text)
    assert caller.do(caller.ask.consume("hold_1", 5)) == 5
    assert caller.do(caller.ask.lease(SLOT)).remaining == 95
    for at in range(3):
        caller.do(caller.ask.try_reserve(SLOT, 10))
        caller.do(caller.ask.add(hold(f"swept_{at}", credits_reserved=10.0, expires_at=1.0)))
    with own_server.connect() as other:
        other.script_flush()
    assert caller.do(sweep_all(caller.ask, 2.0)) == 0, "their rows lapsed with them"
    assert caller.do(count_holds(caller.ask)) == 0


def test_a_replica_refuses_and_nothing_is_done(caller, own_server):
    with own_server.connect() as other:
        other.replicaof("127.0.0.1", 1)
        for operation in (
            caller.ask.try_reserve(SLOT, 1),
            caller.ask.consume("hold_1", 5),
            caller.ask.add(hold("hold_2")),
            caller.ask.install(("other", "credit"), "lease_2", 5, YEAR_2100),
        ):
            assert not failure_of(caller, operation).lost
        other.replicaof("NO", "ONE")
    assert caller.do(caller.ask.lease(SLOT)).remaining == 80
    assert caller.do(caller.ask.consume("hold_1", 5)) == 5
    assert not caller.do(is_open(caller.ask, "hold_2"))


def test_a_server_without_memory_refuses_debits_and_takes_none_back_twice(caller, own_server):
    with own_server.connect() as other:
        other.config_set("maxmemory", 1)
        failure = failure_of(caller, caller.ask.try_reserve(SLOT, 1))
        assert not failure.lost
        assert "OOM" in str(failure) or "maxmemory" in str(failure)
        assert not failure_of(caller, caller.ask.add(hold("hold_2"))).lost
        # A claim needs no memory, its refund does: that is owed, and nobody may make it again.
        assert failure_of(caller, caller.ask.consume("hold_1", 5)).lost
        other.config_set("maxmemory", 0)
    assert caller.do(caller.ask.consume("hold_1", 5)) is None
    assert caller.do(caller.ask.lease(SLOT)).remaining == 80


def test_a_server_that_loads_its_data_refuses_until_it_has(make_caller, kind, own_server):
    with own_server.connect() as other:
        with other.pipeline(transaction=False) as pipeline:
            for at in range(60_000):
                pipeline.set(f"other:{at}", "x")
            pipeline.execute()
        prepared(make_caller(own_server, Kind()))
    own_server.stop()
    # It would take many seconds, unless it is told to hurry.
    own_server.options = (
        "--key-load-delay",
        "100",
        "--loading-process-events-interval-bytes",
        "1024",
    )
    own_server.start(keep=True, wait=False)
    caller = make_caller(own_server, kind)
    eventually(lambda: is_loading(own_server))
    # It looks at connections now and then only.
    assert not failure_of(caller, caller.ask.try_reserve(SLOT, 1)).lost
    with own_server.connect() as other:
        other.config_set("key-load-delay", 0)
    own_server.await_answer()
    await_answer(caller)
    assert caller.do(caller.ask.lease(SLOT)).remaining == 80


def is_loading(server: RedisServer) -> bool:
    with server.connect(retry=Retry(NoBackoff(), 0)) as client:
        try:
            client.ping()
        except redis.BusyLoadingError:
            return True
        except redis.ConnectionError:
            return False
    raise AssertionError("the server has loaded without being told to")


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_frozen_server_costs_no_more_than_the_timeout(
    own_server, make_caller, kind, is_connected
):
    caller = make_caller(own_server, kind)
    if is_connected:
        prepared(caller)
    with own_server.frozen():
        for _ in range(2):
            for _ in within(0.2 + SLACK):
                failure_of(caller, caller.ask.try_reserve(SLOT, 1), timeout=0.2)


def test_a_debit_that_a_frozen_server_makes_later_is_made_once(caller, own_server):
    with own_server.frozen():
        # Time enough to send it: what was not sent is not lost.
        assert failure_of(caller, caller.ask.try_reserve(SLOT, 30), timeout=1.0).lost
    await_answer(caller)
    # Nothing else is on the wire than what was sent before.
    for _ in range(3):
        assert caller.do(caller.ask.lease(SLOT)).remaining in {80, 50}
    eventually(lambda: caller.do(caller.ask.lease(SLOT)).remaining == 50)


def test_a_server_that_is_not_there_fails_at_once(make_caller, kind, own_server):
    own_server.stop()
    caller = make_caller(own_server, kind)
    failure = failure_of(caller, caller.ask.try_reserve(SLOT, 1))
    assert not failure.lost
    assert "cannot be reached" in str(failure)


def test_a_wrong_password_is_a_failure_of_the_store_until_it_is_right(
    make_caller, kind, own_server
):
    with own_server.connect() as other:
        other.config_set("requirepass", "right")
    wrong = make_caller(own_server, kind, password="wrong")  # noqa: S106
    none = make_caller(own_server, kind)
    for caller in (wrong, none):
        failure = failure_of(caller, caller.ask.try_reserve(SLOT, 1))
        assert not failure.lost
        assert "right" not in str(failure)
    prepared(make_caller(own_server, kind, password="right"))  # noqa: S106


def test_a_user_without_rights_is_refused(make_caller, kind, own_server):
    with own_server.connect() as other:
        other.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=["+get"])
    caller = make_caller(own_server, kind, username="reader", password="x")  # noqa: S106
    assert not failure_of(caller, caller.ask.try_reserve(SLOT, 1)).lost


def test_a_key_of_another_kind_is_refused(caller, own_server):
    with own_server.connect() as other:
        other.delete(LEASE)
        other.set(LEASE, "text")
    for operation in (
        caller.ask.lease(SLOT),
        caller.ask.try_reserve(SLOT, 1),
        caller.ask.install(SLOT, "lease_2", 5, YEAR_2100),
    ):
        assert not failure_of(caller, operation).lost


@pytest.mark.parametrize("decoded", [True, False])
def test_bytes_that_are_no_text_are_a_failure_and_do_not_end_the_sweeps(
    make_caller, own_server, kind, decoded
):
    caller = prepared(make_caller(own_server, kind, decode_responses=decoded))
    with own_server.connect() as other:
        other.hset(LEASE, "leaseId", b"\xff\xfe")
        other.hset(hold_key(), "eventSubtype", b"\xff\xfe")
        other.hset(hold_key(), "leaseId", b"\xff\xfe")
    for operation in (caller.ask.try_reserve(SLOT, 1), caller.ask.consume("hold_1", 1)):
        with contextlib.suppress(StoreError):
            caller.do(operation)
    assert caller.do(sweep_all(caller.ask, YEAR_2100 + 1)) in {0, 1}


# Connections


def test_a_unix_socket_is_used_as_any_other(tmp_path, kind, make_caller):
    path = str(tmp_path / "redis.sock")
    server = RedisServer("--unixsocket", path).start()
    try:
        module = redis.asyncio if kind.is_async else redis

        class Local:
            def connect(self, _module: Any, **options: Any) -> Any:
                return module.Redis(unix_socket_path=path, **options)

        prepared(make_caller(Local(), kind))
    finally:
        server.remove()


def test_a_forked_child_never_uses_the_connections_of_its_parent(own_server, make_caller):
    caller = prepared(make_caller(own_server))
    with own_server.connect() as other:
        before = other.info("stats")["total_connections_received"]
        in_fork(lambda: caller.do(caller.ask.try_reserve(SLOT, 1)).remaining)
        assert other.info("stats")["total_connections_received"] == before + 1
    # The parent's own connection is open, and has nothing to read but its own answers.
    assert caller.do(caller.ask.lease(SLOT)).remaining == 79
    assert caller.do(caller.ask.consume("hold_1", 20)) == 20


def test_a_forked_childs_end_leaves_the_parents_connections_open(own_server, make_caller):
    caller = prepared(make_caller(own_server))
    with own_server.connect() as other:
        before = other.info("stats")["total_connections_received"]
        in_fork(caller.close)
        assert caller.do(caller.ask.lease(SLOT)).remaining == 80
        assert other.info("stats")["total_connections_received"] == before


def test_sixteen_threads_share_a_store(own_server, make_caller):
    caller = make_caller(own_server)
    caller.do(caller.ask.install(SLOT, "lease_1", 10_000, YEAR_2100))
    start = threading.Barrier(16)

    def work(thread: int) -> None:
        start.wait()
        for at in range(25):
            name = f"hold_{thread}_{at}"
            caller.do(caller.ask.try_reserve(SLOT, 2))
            assert caller.do(caller.ask.add(hold(name, credits_reserved=2.0)))
            assert caller.do(caller.ask.consume(name, 1)) == 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    assert caller.do(caller.ask.lease(SLOT)).remaining == 10_000 - 16 * 25
    assert caller.do(caller.ask.reserved_credits(SLOT)) == 0
    assert caller.do(count_holds(caller.ask)) == 0


def test_sixteen_threads_never_get_more_than_the_lease_has(own_server, make_caller):
    caller = make_caller(own_server)
    caller.do(caller.ask.install(SLOT, "lease_1", 100, YEAR_2100))

    def work(_: int) -> int:
        answers = [caller.do(caller.ask.try_reserve(SLOT, 3)) for _ in range(10)]
        return sum(hasattr(answer, "remaining") for answer in answers)

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(work, range(16))) == 33
    assert caller.do(caller.ask.lease(SLOT)).remaining == 1


async def test_cancelled_in_the_middle_leaves_no_connection_with_an_answer(own_server):
    with Proxy(own_server.port) as proxy:
        async with proxy.connect(redis.asyncio) as client:
            store = open_store(client, PREFIX)
            await store.run(store.operations.install(SLOT, "lease_1", 100, YEAR_2100))
            for _ in range(5):
                proxy.cut_at(1, Cut.SILENCE)
                task = asyncio.ensure_future(store.run(store.operations.try_reserve(SLOT, 1)))
                await eventually_async(lambda: proxy.batches)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                lease = await store.run(store.operations.lease(SLOT))
                assert lease.lease_id == "lease_1"
            await store.close()


async def test_many_cancelled_at_random_never_desynchronise(own_server):
    async with own_server.connect(redis.asyncio) as client:
        store = open_store(client, PREFIX)
        slots = [("comp", f"credit_{at}") for at in range(20)]
        for at, slot in enumerate(slots):
            await store.run(store.operations.install(slot, f"lease_{at}", 100, YEAR_2100))

        async def read(at: int) -> None:
            lease = await store.run(store.operations.lease(slots[at]))
            assert lease.lease_id == f"lease_{at}"

        for turn in range(40):
            tasks = [asyncio.ensure_future(read(at)) for at in range(20)]
            for _ in range(turn % 8):
                await asyncio.sleep(0)
            for task in tasks[turn % 3 :: 3]:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        await store.close()


def test_two_event_loops_in_turn_use_connections_of_their_own(own_server):
    client = own_server.connect(redis.asyncio)
    store = open_store(client, PREFIX)
    with warnings.catch_warnings():
        # Of the loop that has ended, connections are left open: that loop is gone that would close them.
        warnings.simplefilter("ignore", ResourceWarning)
        for at in range(3):
            remaining = asyncio.run(reserve_once(store))
            assert remaining == 99 - at
        asyncio.run(store.close())
        gc.collect()


async def reserve_once(store: Any) -> float:
    await store.run(store.operations.install(SLOT, "lease_1", 100, YEAR_2100))
    return (await store.run(store.operations.try_reserve(SLOT, 1))).remaining
