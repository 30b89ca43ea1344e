"""What a process owes the shared store: claims of what was settled, the rest of a page of a sweep."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native._native import Core
from schematic_native._testing import try_reserve
from schematic_native.ground.store_errors import StoreError
from schematic_native.leases.claims import Claim, SlabClaim
from schematic_native.leases.shared_store import SharedStore
from schematic_native.leases.slabs import Slabs
from schematic_native.redis import Operations, SlabNote, ThreadedStore, open_store
from schematic_native.redis.keys import Keys
from schematic_native.redis.slab_operations import Noted
from tests.conftest import ACME, API_KEY, eventually, eventually_async, streaming
from tests.limits import give_stores
from tests.stores.callers import LEASE, SLOT, hold

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from schematic_native import Reservation
    from schematic_native.emulator import Emulator
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.redis import Late, Operation
    from tests.stores.servers import RedisServer

YEAR_2100 = 4_102_444_800.0
HELD, USED, USED_UNITS = 20.0, 6.0, 3.0


class Gate:
    """A store that answers as many operations as it is told to, and then none, or with a fault."""

    def __init__(self, store: Any) -> None:
        self.operations = store.operations
        self._store = store
        self.answers = 1000
        self.is_broken = False
        self.waiting = 0
        self.cut_short = 0
        self.opened = asyncio.Event()

    async def run(
        self, operation: Operation[Any], timeout: float | None = None, late: Late[Any] = None
    ) -> Any:
        if not self.answers and self.is_broken:
            operation.close()
            raise StoreError("broken", lost=False)
        while not self.answers:
            self.waiting += 1
            try:
                await self.opened.wait()
            except asyncio.CancelledError:
                self.cut_short += 1
                operation.close()
                if late is not None:
                    late(None)
                raise
        self.answers -= 1
        return await self._store.run(operation, timeout, late)

    def open(self) -> None:
        self.answers = 1000
        self.opened.set()

    async def close(self) -> None:
        await self._store.close()


@pytest.fixture
async def gate(redis_server: RedisServer) -> AsyncIterator[Gate]:
    async with redis.asyncio.Redis.from_url(redis_server.url) as client:
        gate = Gate(open_store(client, "schematic:"))
        await gate.run(gate.operations.install(SLOT, "lease_1", 1000.0, YEAR_2100))
        yield gate
        await gate.close()


@pytest.fixture
def core() -> Core:
    return Core(api_key=API_KEY, shared=True, slabs=(100.0, 200.0, 10.0))


@pytest.fixture
def shared(gate: Gate, core: Core, faults: FaultLog) -> SharedStore:
    return SharedStore(core, gate, faults)


async def make_holds(gate: Gate, count: int, expires_at: float = YEAR_2100) -> list[Reservation]:
    holds = [hold(f"hold_{at}", expires_at=expires_at) for at in range(count)]
    for one in holds:
        await gate.run(gate.operations.try_reserve(SLOT, HELD))
        await gate.run(gate.operations.add(one))
    return holds


async def books(gate: Gate) -> tuple[float, float]:
    """Return what the lease has left, and what is held of it."""
    gate.open()
    lease = await gate.run(gate.operations.lease(SLOT))
    return lease.remaining, await gate.run(gate.operations.reserved_credits(SLOT))


async def test_claims_under_way_at_a_shutdown_are_made(gate, core, shared):
    for owed in await make_holds(gate, 3):
        core.settle_shared(owed, USED_UNITS)
    gate.answers = 2  # what has lapsed, and one claim
    sweep = asyncio.ensure_future(shared.sweep())
    await eventually_async(lambda: gate.waiting)
    sweep.cancel()
    await asyncio.wait({sweep})
    gate.open()
    await shared.close(5)
    assert await books(gate) == (1000 - 3 * USED, 0)


async def test_a_sweep_asks_the_store_once_if_nothing_has_lapsed(gate, shared):
    await make_holds(gate, 1)
    before = gate.answers
    await shared.sweep()
    assert gate.answers == before - 1
    assert await books(gate) == (1000 - HELD, HELD)


async def test_a_sweep_goes_on_page_by_page(gate, shared, monkeypatch):
    monkeypatch.setattr("schematic_native.redis.sweep_operations.PAGE", 2)
    await make_holds(gate, 5, expires_at=time.time())
    await shared.sweep()
    assert await books(gate) == (1000, 0)


async def test_a_sweep_stops_after_so_many_pages(gate, shared, monkeypatch):
    monkeypatch.setattr("schematic_native.redis.sweep_operations.PAGE", 1)
    monkeypatch.setattr("schematic_native.leases.shared_store.PAGES", 3)
    await make_holds(gate, 5, expires_at=time.time())
    await shared.sweep()
    assert await books(gate) == (1000 - 2 * HELD, 2 * HELD)
    await shared.sweep()
    assert await books(gate) == (1000, 0)


async def test_a_sweep_does_not_give_back_what_this_process_owes_a_claim(gate, core, shared):
    [owed] = await make_holds(gate, 1, expires_at=time.time())
    core.settle_shared(owed, USED_UNITS)
    gate.answers, gate.is_broken = 1, True
    await shared.sweep()
    assert await books(gate) == (1000 - HELD, HELD)
    await shared.sweep()
    assert await books(gate) == (1000 - USED, 0)


async def test_a_store_goes_on_with_the_claims_of_one_whose_loop_ended(gate, core, shared, faults):
    owed, cut_short = await make_holds(gate, 2)
    core.settle_shared(owed, USED_UNITS)
    gate.answers = 0
    claiming = asyncio.ensure_future(shared.claim_settle(core.settle_shared(cut_short, USED_UNITS)))
    await eventually_async(lambda: gate.waiting)
    claiming.cancel()
    await asyncio.wait({claiming})
    following = SharedStore(core, gate, faults)
    following.inherit(shared)
    gate.open()
    await following.sweep()
    assert await books(gate) == (1000 - 2 * USED, 0)


async def test_claims_that_a_shutdown_could_not_make_are_made_on_a_later_loop(
    gate, core, shared, faults
):
    [owed] = await make_holds(gate, 1)
    core.settle_shared(owed, USED_UNITS)
    gate.answers, gate.is_broken = 0, True
    await shared.close(0.01)
    following = SharedStore(core, gate, faults)
    following.inherit(shared)
    gate.open()
    await following.sweep()
    assert await books(gate) == (1000 - USED, 0)


async def test_a_page_of_a_sweep_that_has_begun_is_finished(gate, shared):
    await make_holds(gate, 2, expires_at=time.time())
    gate.answers = 1
    sweep = asyncio.ensure_future(shared.sweep())
    await eventually_async(lambda: gate.waiting)
    sweep.cancel()
    await asyncio.wait({sweep})
    closing = asyncio.ensure_future(shared.close(5))
    gate.open()
    await closing
    assert gate.cut_short == 0
    assert await books(gate) == (1000, 0)


async def test_each_page_of_a_sweep_has_its_own_time(gate, shared, monkeypatch):
    monkeypatch.setattr("schematic_native.redis.sweep_operations.PAGE", 2)
    await make_holds(gate, 5, expires_at=time.time())
    given: list[float | None] = []
    run = gate.run

    async def watch(
        operation: Operation[Any], timeout: float | None = None, late: Late[Any] = None
    ) -> Any:
        given.append(timeout)
        return await run(operation, timeout, late)

    monkeypatch.setattr(gate, "run", watch)
    await shared.sweep()
    assert given == [1.0] * 4  # the clock, and three pages
    assert await books(gate) == (1000, 0)


class ClosingSlab:
    """A core whose slab closes just after it was asked for the slabs that are open."""

    def __init__(self, row: Reservation) -> None:
        self._row = row
        self._closed: list[tuple[Reservation, float]] = []

    def take_slab_uses(self) -> list[tuple[Reservation, float]]:
        self._closed = [(self._row, USED)]
        return []

    def take_closed_slabs(self) -> list[tuple[Reservation, float]]:
        closed, self._closed = self._closed, []
        return closed


class Listener:
    """A store that keeps what it is told about slabs."""

    def __init__(self) -> None:
        self.operations: Any = self
        self.notes: list[SlabNote] = []

    def note(self, notes: Sequence[SlabNote]) -> Sequence[SlabNote]:
        return notes

    async def run(
        self, notes: Sequence[SlabNote], timeout: float | None = None, late: Late[Any] = None
    ) -> list[Noted]:
        del timeout, late
        self.notes += notes
        return [Noted(0, [])] * len(notes)


async def test_what_was_used_of_a_slab_that_closes_meanwhile_is_told(faults):
    row, store = hold("slab"), Listener()
    core: Any = ClosingSlab(row)
    await Slabs(core, store, lambda _: None, faults).note_uses()
    assert store.notes == [SlabNote(row.id, SLOT, USED)]


class SlabCore:
    """A core that wants a slab of ten holds whenever it is asked."""

    def __init__(self) -> None:
        self.opened: list[Reservation] = []
        self.taken = 0

    def plan_slab(self, *_: object) -> Any:
        return SimpleNamespace(credits=200.0, smallest=1.0, usable_for=10.0, kept_for=75.0)

    def slab_row(self, *_: object) -> Reservation:
        self.taken += 1
        return hold(f"slab_{self.taken}", credits_reserved=200.0)

    def open_slab(self, row: Reservation, *_: object) -> None:
        self.opened.append(row)

    def take_closed_slabs(self) -> list[tuple[Reservation, float]]:
        return []


async def test_a_slab_whose_taking_is_cut_short_is_returned(gate, shared, faults):
    core: Any = SlabCore()
    slabs = Slabs(core, gate, shared.claim_later, faults)
    for turns in range(40):
        refill = asyncio.ensure_future(slabs.refill(SLOT))
        for _ in range(turns):
            await asyncio.sleep(0)
        refill.cancel()
        await asyncio.wait({refill})
        for row in core.opened:
            shared.claim_later(Claim(row, 0.0))
        core.opened.clear()
        await settled(gate, shared)
    assert core.taken > 0


async def open_slab(gate: Gate, core: Core) -> Reservation:
    """Take a slab of 200 credits."""
    plan = core.plan_slab(*SLOT)
    assert plan is not None
    row = core.slab_row(*SLOT, "lease_1", 200.0, time.time() + plan.kept_for)
    await gate.run(gate.operations.try_reserve(SLOT, 200.0))
    assert await gate.run(gate.operations.add(row))
    assert core.open_slab(row, plan, plan.usable_for)
    return row


async def lose(gate: Gate, row: Reservation) -> None:
    """Forget a slab and its debit, as a replica that lags has never heard of either."""
    assert await gate.run(gate.operations.consume(row.id, 0.0)) is not None


async def test_a_sweep_drops_a_slab_that_serves_though_its_row_is_lost(gate, core, faults, caplog):
    shared = SharedStore(core, gate, faults)
    row = await open_slab(gate, core)
    assert try_reserve(core, *SLOT, 30.0) is not None
    await shared.sweep()
    assert try_reserve(core, *SLOT, 20.0) is not None
    await lose(gate, row)
    await shared.sweep()
    assert try_reserve(core, *SLOT, 1.0) is None
    assert "50 credits that were taken of it may be spent a second time" in caplog.text
    assert "150 are not served" in caplog.text
    await shared.close(5)
    assert await books(gate) == (1000, 0)


async def test_a_slab_that_closes_after_its_row_was_lost_tells_the_loss(gate, core, faults, caplog):
    shared = SharedStore(core, gate, faults)
    row = await open_slab(gate, core)
    assert try_reserve(core, *SLOT, 30.0) is not None
    await lose(gate, row)
    await shared.close(5)
    assert "30 credits that were taken of it may be spent a second time" in caplog.text


async def test_a_claim_of_a_slab_whose_answer_was_lost_tells_no_loss(gate, core, faults, caplog):
    row = await open_slab(gate, core)
    losses: list[tuple[object, ...]] = []
    claim = SlabClaim(row, 30.0, lambda *loss: losses.append(loss))
    claiming = claim.make(gate.operations, core)
    batch = next(claiming)
    with pytest.raises(StoreError):
        claiming.throw(StoreError("no answer", lost=True))
    assert batch
    await lose(gate, row)
    assert not await gate.run(claim.make(gate.operations, core))
    assert losses == []


async def settled(gate: Gate, shared: SharedStore) -> None:
    """Wait until the lease is whole: what goes on without its caller has ended, and is claimed."""
    until = time.monotonic() + 10
    while await books(gate) != (1000, 0):
        assert time.monotonic() < until, "credits are missing"
        await shared.sweep()


def test_claims_are_made_on_a_later_loop(emulator, redis_server):
    settings = CreditLeaseConfig(
        mode="client",
        redis_client=redis.asyncio.Redis.from_url(redis_server.url),
        sweep_interval=3600.0,
    )
    config = AsyncSchematicConfig(**streaming(emulator, credit_leases=settings))
    client = AsyncSchematic(API_KEY, config)
    operations = Operations(Keys("schematic:"))

    async def settle_without_redis() -> None:
        await client.initialize()
        result = await client.check("inference", ACME, usage=10)
        redis_server.stop()
        await client.track_with_reservation(result.reservation, 3)

    async def end() -> tuple[float, float]:
        await client.initialize()
        await client.shutdown()
        async with redis.asyncio.Redis.from_url(redis_server.url) as reader:
            store: Any = open_store(reader, "schematic:")
            lease = await store.run(operations.lease(SLOT))
            held = await store.run(operations.reserved_credits(SLOT))
            await store.close()
        return lease.remaining, held

    asyncio.run(settle_without_redis())
    redis_server.start(keep=True)
    assert asyncio.run(end()) == (10_000 - 6, 0)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 3}}


async def test_an_event_loop_whose_threads_are_busy_reaches_a_synchronous_redis(
    emulator, redis_server
):
    loop, free = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    with redis.Redis.from_url(redis_server.url) as connection:
        settings = CreditLeaseConfig(mode="client", redis_client=connection)
        fields = streaming(emulator, credit_leases=settings)
        async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
            assert (await client.check("inference", ACME, usage=1)).allowed
            busy = loop.run_in_executor(None, free.wait)
            assert (await client.check("inference", ACME, usage=1)).allowed
            free.set()
            await busy


@pytest.mark.parametrize("module", [redis, redis.asyncio], ids=["threads", "loop"])
async def test_a_check_with_less_time_than_redis_takes_gives_back_what_it_was_debited(
    module, emulator, redis_server
):
    connection = module.Redis.from_url(redis_server.url)
    settings = CreditLeaseConfig(mode="client", redis_client=connection, sweep_interval=0.02)
    fields = streaming(emulator, credit_leases=settings)
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
        result = await client.check("inference", ACME, usage=1)
        await client.track_with_reservation(result.reservation, 1)
        redis_server.command("CLIENT", "PAUSE", 300, "ALL")
        results = await asyncio.gather(
            *(client.check("inference", ACME, usage=10, timeout=0.05) for _ in range(5))
        )
        assert [result.error for result in results] == ["lease_store_error"] * 5
        assert [result.reservation for result in results] == [None] * 5
        await eventually_async(lambda: left_of_lease(redis_server) == 10_000 - 2)
    if module is redis:
        connection.close()
    else:
        await connection.aclose()


class BusyStore:
    """A synchronous store that answers when it is told to."""

    operations = Operations(Keys("schematic:"))

    def __init__(self) -> None:
        self.answer = threading.Event()

    def run(self, operation: Operation[Any], timeout: float | None = None) -> Any:
        self.answer.wait(timeout)
        operation.close()
        return "answered"

    def close(self) -> None:
        """Nothing is open."""


async def test_an_operation_for_which_no_thread_is_free_fails_in_time(monkeypatch):
    monkeypatch.setattr("schematic_native.redis.threaded_store.MOST_WORKERS", 1)
    busy: Any = BusyStore()
    store = ThreadedStore(busy)
    first = asyncio.ensure_future(store.run(store.operations.lapsed()))
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="no thread") as failure:
        await store.run(store.operations.lapsed(), 0.02)
    assert not failure.value.lost
    busy.answer.set()
    assert await first == "answered"
    await store.close()


@pytest.fixture
def user(emulator: Emulator, redis_server: RedisServer) -> Iterator[Schematic]:
    with redis.Redis.from_url(redis_server.url) as connection:
        settings = CreditLeaseConfig(
            mode="client",
            redis_client=connection,
            sweep_interval=0.02,
            default_reservation_ttl=3600,
        )
        config = SchematicConfig(**streaming(emulator, credit_leases=settings))
        with Schematic(API_KEY, config) as client:
            yield client


def left_of_lease(server: RedisServer) -> float:
    return float(server.command("HGET", LEASE, "localRemainingCredits"))


def test_a_settle_that_a_signal_cuts_short_is_claimed_later(
    user, emulator, redis_server, monkeypatch
):
    result = user.check("inference", ACME, usage=10)
    store = user._store
    run = store.run

    def interrupted(*_: object) -> None:
        monkeypatch.setattr(store, "run", run)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        user.track_with_reservation(result.reservation, 3)
    eventually(lambda: left_of_lease(redis_server) == 10_000 - 6)
    user.shutdown()
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 3}}


def test_a_settle_that_is_under_way_at_a_shutdown_is_billed(
    user, emulator, redis_server, monkeypatch
):
    result = user.check("inference", ACME, usage=10)
    store = user._store
    run, begun = store.run, threading.Event()

    def watch(operation: Operation[Any], timeout: float | None = None) -> Any:
        if threading.current_thread() is settling:
            begun.set()
        return run(operation, timeout)

    monkeypatch.setattr(store, "run", watch)
    failures: list[BaseException] = []

    def settle() -> None:
        try:
            user.track_with_reservation(result.reservation, 3)
        except BaseException as error:  # noqa: BLE001 - all that it raises is wrong
            failures.append(error)

    settling = threading.Thread(target=settle)
    with redis_server.frozen():
        settling.start()
        assert begun.wait(10)
        user.shutdown()
        settling.join(10)
    assert failures == []
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 3}}


def test_a_settle_after_a_shutdown_raises_nothing(user, redis_server):
    result = user.check("inference", ACME, usage=10)
    user.shutdown()
    redis_server.stop()
    user.track_with_reservation(result.reservation, 3)


# Seconds that Redis is given: a busy machine may take long for five replies.
LONG = 60.0


class HeldReplies:
    """Carries out what Redis is asked, and keeps its replies until they are let go."""

    def __init__(self, links: Any) -> None:
        self._links, self._ask = links, links.ask
        self._held: list[Any] = []
        links.ask = self.ask

    def ask(self, batch: Any, deadline: float | None, answered: Any, *, in_full: bool) -> None:
        self._ask(
            batch,
            deadline,
            lambda replies: self._held.append((answered, replies)),
            in_full=in_full,
        )

    def __len__(self) -> int:
        return len(self._held)

    def let_go(self) -> None:
        self._links.ask = self._ask
        for answered, replies in self._held:
            answered(replies)


@pytest.mark.parametrize("is_cancelled", [False, True])
@pytest.mark.parametrize("timeout", [LONG - 1, LONG + 1])
async def test_a_shutdown_waits_for_the_debits_that_it_has_sent(
    emulator, redis_server, timeout, is_cancelled, monkeypatch
):
    give_stores(monkeypatch, LONG)
    settings = CreditLeaseConfig(
        mode="client", redis_client=redis.asyncio.Redis.from_url(redis_server.url)
    )
    client = AsyncSchematic(
        API_KEY, AsyncSchematicConfig(**streaming(emulator, credit_leases=settings))
    )
    await client.initialize()
    await client.track_with_reservation(
        (await client.check("inference", ACME, usage=1)).reservation, 1
    )
    replies = HeldReplies(client._store._connections)
    checks = [
        asyncio.ensure_future(client.check("inference", ACME, usage=10, timeout=timeout))
        for _ in range(5)
    ]
    await eventually_async(lambda: len(replies) == len(checks))
    if is_cancelled:
        for check in checks:
            check.cancel()
        await asyncio.wait(checks)
    shutdown = asyncio.ensure_future(client._runtime.close(LONG))
    await eventually_async(lambda: client._runtime._shared._closing)
    assert not shutdown.done()
    replies.let_go()
    await shutdown
    await client.shutdown()
    answers = [] if is_cancelled else [(await check).reservation for check in checks]
    assert None not in answers
    async with redis.asyncio.Redis.from_url(redis_server.url) as reader:
        store: Any = open_store(reader, "schematic:")
        lease = await store.run(store.operations.lease(("comp_acme", "credit_inference")))
        held = await store.run(store.operations.reserved_credits(("comp_acme", "credit_inference")))
        await store.close()
    assert held == 20 * len(answers)
    assert lease.remaining + held == lease.granted - 2


def test_no_call_outlasts_its_timeout_while_the_resolver_hangs(emulator, redis_server, monkeypatch):
    """The connection that was asked for then is opened all the same, and serves what comes next."""
    resolve, is_slow, may_answer = socket.getaddrinfo, threading.Event(), threading.Event()

    def hang(host: Any, *arguments: Any, **keywords: Any) -> Any:
        if host == "localhost" and is_slow.is_set():
            assert may_answer.wait(30)
        return resolve(host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    settings = CreditLeaseConfig(
        mode="client", redis_client=redis.Redis(host="localhost", port=redis_server.port)
    )
    with Schematic(
        API_KEY, SchematicConfig(**streaming(emulator, credit_leases=settings))
    ) as client:
        held = client.check("inference", ACME, usage=1).reservation
        client._store.close()
        is_slow.set()
        refused = client.check("inference", ACME, usage=1, timeout=0.4)
        assert (refused.allowed, refused.error) == (False, "lease_store_error")
        client.track_with_reservation(held, 1)
        may_answer.set()
        eventually(lambda: client.check("inference", ACME, usage=1).allowed)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 1}}


def test_a_missing_right_is_logged_once_until_it_is_given(emulator, redis_server, caplog):
    with redis.Redis.from_url(redis_server.url) as admin:
        admin.acl_setuser("app", enabled=True, nopass=True, keys=["*"], categories=["+@all"])
        user = redis.Redis(port=redis_server.port, username="app", password="-")  # noqa: S106
        settings = CreditLeaseConfig(mode="client", redis_client=user)
        fields = streaming(emulator, credit_leases=settings)
        with Schematic(API_KEY, SchematicConfig(**fields)) as client:
            held = client.check("inference", ACME, usage=1).reservation
            admin.execute_command("ACL", "SETUSER", "app", "-hsetnx")
            with caplog.at_level("INFO", logger="schematic_native"):
                for _ in range(10):
                    assert not client.check("inference", ACME, usage=1).allowed
            assert [line.levelname for line in caplog.records] == ["ERROR"]
            assert "run this command" in (client.status().last_error or "")
            client.track_with_reservation(held, 1)
            assert "run this command" in (client.status().last_error or ""), (
                "a settle needs no such"
            )
            admin.execute_command("ACL", "SETUSER", "app", "+hsetnx")
            assert client.check("inference", ACME, usage=1).allowed
            assert client.status().last_error is None
