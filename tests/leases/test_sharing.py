"""Both clients on leases in a real Redis, whichever client of redis-py they are given."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis
import redis.asyncio

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckResult,
    CreditLeaseConfig,
    LocalSlab,
    Reservation,
    Schematic,
    SchematicConfig,
)
from schematic_native._native import Core
from schematic_native.leases.shared_store import SharedStore
from schematic_native.redis import Operations, ThreadedStore, open_store
from schematic_native.redis.keys import Keys
from tests.callers import Caller
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, streaming
from tests.limits import give_stores
from tests.stores.clocks import ServerClock
from tests.stores.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.emulator import Emulator
    from schematic_native.redis import Late, Operation

INFERENCE, CREDIT, COMPANY = "inference", "credit_inference", "comp_acme"
LEASE = f"schematic:credit-lease:{COMPANY}:{CREDIT}"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, a second is too short for a server that is there; none is frozen here."""
    give_stores(monkeypatch, PATIENCE)


class User(Caller):
    """A program that uses one of the clients with a client of Redis of either kind."""

    def __init__(self, kind: str, redis_kind: str, emulator: Emulator, url: str, **leases: Any):
        module = redis if redis_kind == "sync" else redis.asyncio
        self.redis = module.Redis.from_url(url)
        lease_config = CreditLeaseConfig(mode="client", redis_client=self.redis, **leases)
        fields = streaming(emulator, credit_leases=lease_config, event_buffer_period=0.05)
        super().__init__(kind, fields)

    def check(self, usage: float, **keywords: object) -> CheckResult:
        result = self.do("check", INFERENCE, ACME, usage=usage, **keywords)
        assert isinstance(result, CheckResult)
        return result

    def settle(self, result: CheckResult, quantity: float) -> None:
        self.do("track_with_reservation", result.reservation, quantity)

    def turn(self, seconds: float = 0.01) -> None:
        """Let the asynchronous client's own work go on."""
        if self._is_async:
            self._loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self.do("shutdown")
        with contextlib.suppress(redis.RedisError):
            if isinstance(self.redis, redis.Redis):
                self.redis.close()
            elif self._is_async:
                self._loop.run_until_complete(self.redis.aclose())
        self._loop.close()


COMBINATIONS = [("sync", "sync"), ("async", "async"), ("async", "sync"), ("sync", "async")]


@pytest.fixture(params=COMBINATIONS, ids=lambda p: f"{p[0]}-client-{p[1]}-redis")
def make_user(request, emulator, redis_server) -> Iterator[Any]:
    users: list[User] = []

    def make(**leases: object) -> User:
        user = User(*request.param, emulator, redis_server.url, **leases)
        users.append(user)
        user.do("initialize")
        return user

    yield make
    for user in users:
        user.close()


def lease_row(server: RedisServer) -> dict[str, str]:
    with redis.Redis.from_url(server.url, decode_responses=True) as reader:
        return reader.hgetall(LEASE)


def holds(server: RedisServer) -> list[dict[str, str]]:
    with redis.Redis.from_url(server.url, decode_responses=True) as reader:
        keys = [
            key
            for key in reader.scan_iter("schematic:credit-reservation:*")
            if reader.type(key) == "hash"
        ]
        # One that ends meanwhile is none.
        return [row for row in map(reader.hgetall, keys) if row]


def held(server: RedisServer) -> float:
    return sum(float(hold["creditsReserved"]) for hold in holds(server))


def remaining(server: RedisServer) -> float:
    return float(lease_row(server)["localRemainingCredits"])


def test_a_whole_life_in_redis_is_billed_to_the_unit(make_user, emulator, redis_server):
    user = make_user()
    result = user.check(10)
    assert result.allowed
    assert result.reservation is not None
    assert remaining(redis_server) == 10_000 - 20
    [row] = holds(redis_server)
    assert row["id"] == result.reservation.id
    assert row["leaseId"] == lease_row(redis_server)["leaseId"]
    assert (row["creditsReserved"], row["quantityReserved"]) == ("20", "10")
    user.settle(result, 3.2)
    assert remaining(redis_server) == 10_000 - 8
    assert holds(redis_server) == []
    user.close()
    state = emulator.state()
    assert state["billed"] == {COMPANY: {"inference_tokens": 4}}
    assert [lease["status"] for lease in state["leases"].values()] == ["active"], "not released"
    assert emulator.audit()["balanced"]


def test_two_clients_share_one_lease(make_user, emulator, redis_server):
    first, second = make_user(), make_user()
    results = [first.check(5), second.check(7), first.check(1)]
    assert all(result.allowed for result in results)
    assert remaining(redis_server) == 10_000 - 26
    assert len(emulator.state()["leases"]) == 1
    # Either settles what the other has reserved.
    second.settle(results[0], 5)
    first.settle(results[1], 0)
    second.settle(results[2], 1)
    assert remaining(redis_server) == 10_000 - 12
    assert holds(redis_server) == []


def test_usage_whose_claim_was_interrupted_is_claimed_before_it_is_billed(
    emulator, redis_server, monkeypatch
):
    user = User("sync", "sync", emulator, redis_server.url)
    with contextlib.closing(user):
        result = user.check(10)
        sender, holds_when_billed = user.client._runtime._sender, []
        post = sender._post

        async def watch(body: bytes) -> Any:
            holds_when_billed.append(holds(redis_server))
            return await post(body)

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(sender, "_post", watch)
        with monkeypatch.context() as patch:
            patch.setattr(user.client._store, "run", interrupt)
            with pytest.raises(KeyboardInterrupt):
                user.settle(result, 4)
    assert holds_when_billed == [[]]
    assert remaining(redis_server) == 10_000 - 8
    assert emulator.state()["billed"] == {COMPANY: {"inference_tokens": 4}}


class SlowStore:
    """A store that answers when it is told to."""

    operations = Operations(Keys("schematic:"))

    def __init__(self) -> None:
        self.answer = asyncio.Event()

    async def run(
        self, operation: Operation[Any], timeout: float | None = None, late: Late[Any] = None
    ) -> Any:
        operation.close()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.waiter = asyncio.create_task(self._answer_late(late))
            raise
        return True

    async def _answer_late(self, late: Late[Any]) -> None:
        await self.answer.wait()
        if late is not None:
            late(True)


async def test_usage_waits_for_the_claims_that_are_under_way(faults):
    store = SlowStore()
    core = Core(api_key=API_KEY, shared=True)
    shared = SharedStore(core, store, faults)
    ends = datetime.now(timezone.utc)
    hold = Reservation("r1", "lse_1", "client", COMPANY, CREDIT, "tokens", 1, 2, 2.0, ends)
    owed = core.settle_shared(hold, 1.0)
    assert owed is not None
    claiming = asyncio.ensure_future(shared.claim_settle(owed))
    await asyncio.sleep(0)
    billing = asyncio.ensure_future(shared.before_billing())
    claiming.cancel()
    await asyncio.wait({claiming})
    assert not billing.done(), "a cancelled caller does not cancel the claim"
    store.answer.set()
    await billing


def test_a_check_that_needs_more_than_the_lease_extends_it(make_user, emulator, redis_server):
    user = make_user(default_lease_size=100)
    assert user.check(40).allowed
    assert user.check(40).allowed
    assert float(lease_row(redis_server)["grantedAmount"]) >= 160
    [lease] = emulator.state()["leases"].values()
    assert lease["granted"] == float(lease_row(redis_server)["grantedAmount"])


def test_a_lease_whose_row_is_lost_is_not_spent_a_second_time(make_user, emulator, redis_server):
    user = make_user()
    user.settle(user.check(1000), 1000)
    with redis.Redis.from_url(redis_server.url) as writer:
        writer.delete(LEASE)
    assert user.check(10).allowed
    # Nobody knows what was spent of the first grant: only the second is there to spend.
    assert float(lease_row(redis_server)["grantedAmount"]) == 20_000
    assert remaining(redis_server) == 10_000 - 20
    [lease] = emulator.state()["leases"].values()
    assert lease["granted"] == 20_000


def test_a_lapsed_hold_is_swept_by_any_client(make_user, redis_server):
    first = make_user(default_reservation_ttl=0.05, sweep_interval=3600.0)
    assert first.check(10).allowed
    second = make_user(sweep_interval=0.02)

    def swept() -> bool:
        second.turn()
        return not holds(redis_server) and remaining(redis_server) == 10_000

    eventually(swept)


@pytest.fixture
def redis_clock() -> Iterator[ServerClock]:
    clock = ServerClock()
    yield clock
    clock.remove()


@pytest.mark.parametrize("ahead", [-100, 100])
def test_a_hold_lapses_by_the_clock_of_redis(redis_clock, ahead, emulator, faults):
    at = int(time.time() + ahead) * 1000
    redis_clock.stand_at(at)
    with redis_clock.rules():
        server = RedisServer().start()
    user = User("sync", "sync", emulator, server.url, sweep_interval=3600.0)

    def sweep_by_a_process_with_a_fast_clock() -> None:
        fast = Core(api_key=API_KEY, shared=True, clock=lambda: time.time() + 10_000)
        store = ThreadedStore(open_store(user.redis, "schematic:"))
        asyncio.run(SharedStore(fast, store, faults).sweep())

    try:
        reservation = user.check(10).reservation
        assert reservation is not None
        [row] = holds(server)
        assert row["expiresAt"] == str(at + 60_000)
        assert reservation.expires_at.timestamp() == at / 1000 + 60
        redis_clock.stand_at(at + 59_999)
        sweep_by_a_process_with_a_fast_clock()
        assert len(holds(server)) == 1
        redis_clock.stand_at(at + 60_000)
        sweep_by_a_process_with_a_fast_clock()
        assert (holds(server), remaining(server)) == ([], 10_000)
    finally:
        user.close()
        server.remove()


def test_a_lease_that_has_ended_for_redis_alone_is_renewed_and_spent_on(
    redis_clock, emulator, monkeypatch
):
    """Redis' clock is ahead: until the service calls the lease ended too, it hands out no other."""
    # Nobody is waited for who might yet put the lease into its slot: it is there.
    monkeypatch.setattr("schematic_native.leases.manager.INSTALL_POLL_INTERVAL", 3600.0)
    redis_clock.stand_at(int(time.time()) * 1000)
    with redis_clock.rules():
        server = RedisServer().start()
    short = User("sync", "sync", emulator, server.url, default_lease_duration=30.0)
    long = User("sync", "sync", emulator, server.url, default_lease_duration=300.0)
    try:
        short.settle(short.check(10), 10)
        redis_clock.stand_at(int(time.time() + 31) * 1000)
        assert long.check(10, timeout=30).allowed
        requests = emulator.state()["requests"]
        assert (requests["acquire"], requests["extend"]) == (2, 1)
        assert float(lease_row(server)["grantedAmount"]) == 20_000
        assert remaining(server) == 20_000 - 40
        [lease] = emulator.state()["leases"].values()
        assert lease["granted"] == 20_000
    finally:
        short.close()
        long.close()
        server.remove()


@pytest.fixture
def redis_behind(redis_clock) -> Iterator[RedisServer]:
    """Redis, whose clock is a minute behind the service's."""
    redis_clock.stand_at(int(time.time() - 60) * 1000)
    with redis_clock.rules():
        server = RedisServer().start()
    yield server
    server.remove()


def spent(row: dict[str, str]) -> float:
    """Return the credits of a lease that were spent or are held."""
    return float(row["grantedAmount"]) - float(row["localRemainingCredits"])


def end_for_the_service(emulator: Emulator) -> None:
    """End all leases for the service alone; how they end makes no difference to who holds them."""
    for lease_id in emulator.state()["leases"]:
        answer = httpx.post(
            f"{emulator.base_url}/billing/credits/lease/{lease_id}/release",
            headers={"X-Schematic-Api-Key": API_KEY},
            timeout=60,
        )
        assert answer.status_code == 200


def test_a_lease_that_has_ended_for_the_service_alone_is_replaced(redis_behind, emulator):
    """Redis' clock is behind: it calls a lease live to which nothing can be added any more."""
    user = User("sync", "sync", emulator, redis_behind.url, default_lease_duration=8.0)
    try:
        held = user.check(10)
        before = lease_row(redis_behind)
        end_for_the_service(emulator)
        result = user.check(4_999, timeout=30)
        assert result.reservation is not None
        row = lease_row(redis_behind)
        assert row["leaseId"] == result.reservation.lease_id != before["leaseId"]
        assert spent(row) == 9_998
        user.settle(held, 0)
        assert spent(lease_row(redis_behind)) == 9_998, "a hold is refunded to its own lease alone"
    finally:
        user.close()


def hold_at_last(user: User) -> bool:
    """Check until credits are held: a sibling may take those that an extend was to bring."""
    return any(user.check(4_991, timeout=30).reservation is not None for _ in range(5))


def test_two_processes_replace_an_ended_lease_by_one_and_lend_it_once(redis_behind, emulator):
    short = {"default_lease_duration": 8.0}
    first = User("sync", "sync", emulator, redis_behind.url, **short)
    second = User("sync", "sync", emulator, redis_behind.url, **short)
    try:
        first.check(10)
        second.check(10)
        end_for_the_service(emulator)
        with ThreadPoolExecutor() as threads:
            held = list(threads.map(hold_at_last, (first, second)))
        assert all(held)
        row = lease_row(redis_behind)
        leases = emulator.state()["leases"].items()
        assert [lease_id for lease_id, lease in leases if lease["status"] == "active"] == [
            row["leaseId"]
        ]
        assert spent(row) >= 2 * 9_982
        granted = float(row["grantedAmount"])
        assert granted <= emulator.state()["leases"][row["leaseId"]]["granted"]
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize(("duration", "asked"), [(8.0, 2), (300.0, 1)])
def test_an_extend_that_is_refused_leaves_a_lease_alone_that_is_live(
    make_user, emulator, redis_server, duration, asked
):
    user = make_user(default_lease_duration=duration)
    user.check(10)
    before = lease_row(redis_server)
    emulator.fail("status", on="extend", status=400, times=1)
    result = user.check(4_999)
    assert (result.allowed, result.error) == (False, "insufficient_lease_balance")
    assert lease_row(redis_server) == before
    assert emulator.state()["requests"]["acquire"] == asked


def test_the_balance_is_that_of_all_processes(make_user):
    first, second = make_user(), make_user()
    held = first.check(10)
    used = second.check(10)
    second.settle(used, 10)
    balance = second.do("get_credit_balance", ACME, CREDIT)
    assert (balance.reserved, balance.settled) == (20, 20)
    first.settle(held, 0)
    assert second.do("get_credit_balance", ACME, CREDIT).reserved == 0


@pytest.mark.parametrize(
    ("mode", "allowed", "reason"),
    [
        ("fail-closed", False, "lease_store_error"),
        ("fail-open", True, "(lease_store_error_fail_open)"),
    ],
)
def test_a_check_without_its_redis_is_decided_by_the_mode(
    make_user, redis_server, mode, allowed, reason
):
    user = make_user()
    assert user.check(1).allowed
    redis_server.stop()
    result = user.check(1, on_acquire_failure=mode, timeout=1.0)
    assert result.allowed is allowed
    assert result.reason.endswith(reason)
    assert result.error == "lease_store_error"
    assert result.reservation is None


def test_a_check_that_times_out_leaves_no_hold_behind(make_user, redis_server):
    user = make_user(sweep_interval=0.02)
    user.settle(user.check(1), 1)
    with redis_server.frozen():
        for _ in range(3):
            result = user.check(10, timeout=0.05)
            assert not result.allowed
            # Which of the two it is depends on the step at which the time was over.
            assert result.error in {"lease_store_error", "lease_acquire_failed"}

    def is_back() -> bool:
        user.turn()
        return remaining(redis_server) == 10_000 - 2 and not holds(redis_server)

    eventually(is_back)


def test_a_settle_without_its_redis_is_billed_and_claimed_later(make_user, emulator, redis_server):
    user = make_user(sweep_interval=0.05)
    result = user.check(10)
    assert result.allowed
    redis_server.stop()
    user.settle(result, 4)
    redis_server.start(keep=True)

    def claimed() -> bool:
        user.turn()
        return not holds(redis_server) and remaining(redis_server) == 10_000 - 8

    eventually(claimed)
    user.close()
    assert emulator.state()["billed"] == {COMPANY: {"inference_tokens": 4}}


# Slabs

SLAB = LocalSlab(min_credits=100, max_credits=1000)


def take_slab(user: User, server: RedisServer) -> dict[str, str]:
    """Check until the slab that this asks for is there."""
    found: list[dict[str, str]] = []

    def is_there() -> bool:
        user.settle(user.check(1), 1)
        user.turn()
        found[:] = [row for row in holds(server) if row["eventSubtype"] == "schematic_native.slab"]
        return bool(found) and user.client.status().leases == 1

    eventually(is_there)
    return found[0]


def test_a_slab_serves_checks_from_memory_and_ends_with_what_was_used(
    make_user, emulator, redis_server
):
    user = make_user(local_slab=SLAB)
    row = take_slab(user, redis_server)
    assert row["leaseId"] == lease_row(redis_server)["leaseId"]
    before = remaining(redis_server)
    spent = 10_000 - before - float(row["creditsReserved"])
    results = [user.check(2) for _ in range(5)]
    assert all(result.reservation.lease_id == row["leaseId"] for result in results)
    assert remaining(redis_server) == before, "Redis was not asked"
    assert len(holds(redis_server)) == 1
    for result in results:
        user.settle(result, 1)
    user.close()
    assert holds(redis_server) == []
    in_slab = sum(emulator.state()["billed"][COMPANY].values()) * 2 - spent
    assert in_slab >= 10
    assert remaining(redis_server) == 10_000 - spent - in_slab
    assert emulator.audit()["balanced"]


def test_what_a_dead_process_held_as_a_slab_comes_back(make_user, emulator, redis_server):
    user = make_user(local_slab=SLAB)
    row = take_slab(user, redis_server)

    def is_billed() -> bool:
        user.turn()
        return units(emulator) > 0 and user.client.status().queued_events == 0

    # What is billed was taken off the row before: from now on the row does not change.
    eventually(is_billed)
    spent = 2 * units(emulator)
    lapse(redis_server, row)
    other = make_user(sweep_interval=0.02)

    def is_back() -> bool:
        other.turn()
        # Another slab may be on its way out of the lease.
        left = remaining(redis_server) + held(redis_server)
        is_swept = row["id"] not in {hold["id"] for hold in holds(redis_server)}
        return is_swept and left == 10_000 - spent

    eventually(is_back)


def test_what_was_billed_of_a_slab_does_not_come_back_when_its_process_dies(
    make_user, emulator, redis_server
):
    user = make_user(local_slab=SLAB, sweep_interval=3600.0)
    row = take_slab(user, redis_server)
    for _ in range(5):
        user.settle(user.check(2), 2)

    def billed() -> float:
        user.turn()
        return sum(emulator.state()["billed"].get(COMPANY, {}).values())

    eventually(lambda: billed() >= 10 and user.client.status().queued_events == 0)
    spent = billed() * 2
    [left] = [hold for hold in holds(redis_server) if hold["id"] == row["id"]]
    indexed = f"schematic:credit-reservations:byCredit:{COMPANY}:{CREDIT}"
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as writer:
        assert remaining(redis_server) + float(left["creditsReserved"]) == 10_000 - spent
        assert writer.hgetall(indexed) == {row["id"]: left["creditsReserved"]}
    lapse(redis_server, row)
    other = make_user(sweep_interval=0.02)

    def is_back() -> bool:
        other.turn()
        return not holds(redis_server) and remaining(redis_server) == 10_000 - spent

    eventually(is_back)


FIELDS = (
    "id", "lease_id", "mode", "company_id", "credit_type_id", "event_subtype",
    "quantity_reserved", "credits_reserved", "consumption_rate", "expires_at", "company", "user",
)  # fmt: skip


def by_fields(hold: Reservation) -> Reservation:
    return Reservation(**{name: getattr(hold, name) for name in FIELDS})


LEAVING = {
    "pickle": lambda hold: pickle.loads(pickle.dumps(hold)),
    "dict": lambda hold: Reservation.from_dict(json.loads(json.dumps(hold.to_dict()))),
    "fields": by_fields,
}


@pytest.fixture(params=LEAVING.values(), ids=LEAVING)
def leave(request) -> Any:
    """Take a hold to another process, in one way or the other."""
    return request.param


def lapse(server: RedisServer, row: dict[str, str]) -> None:
    """Let a hold lapse, as if the time had passed and its process were gone."""
    with redis.Redis.from_url(server.url) as writer:
        member = f"{COMPANY}|{CREDIT}|{row['id']}"
        writer.zadd("schematic:credit-reservations:byExpiry", {member: 1})


def units(emulator: Emulator) -> float:
    return sum(emulator.state()["billed"].get(COMPANY, {}).values())


@pytest.mark.parametrize("lapses_here", [False, True], ids=["open", "lapsed"])
def test_what_another_process_billed_of_a_slab_does_not_come_back_when_its_owner_dies(
    make_user, emulator, redis_server, leave, lapses_here
):
    ttl = 0.5 if lapses_here else 60.0
    user = make_user(local_slab=SLAB, sweep_interval=0.02, default_reservation_ttl=ttl)
    row = take_slab(user, redis_server)
    holds_there = [leave(user.check(5).reservation) for _ in range(4)]
    worker = make_user(sweep_interval=0.02)
    for hold in holds_there:
        worker.do("track_with_reservation", hold, 3)

    def has_settled() -> bool:
        user.turn()
        worker.turn()
        queued = user.client.status().queued_events + worker.client.status().queued_events
        return queued == 0 and (not lapses_here or user.client.status().open_holds == 0)

    eventually(has_settled)
    indexed = f"schematic:credit-reservations:byCredit:{COMPANY}:{CREDIT}"
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as reader:
        [left] = [hold for hold in holds(redis_server) if hold["id"] == row["id"]]
        assert reader.hget(indexed, row["id"]) == left["creditsReserved"]
    lapse(redis_server, row)

    def is_swept() -> bool:
        worker.turn()
        with redis.Redis.from_url(redis_server.url) as reader:
            # The last thing that a sweep does for a hold is to take it out of this index.
            name = f"{COMPANY}|{CREDIT}|{row['id']}"
            return reader.zscore("schematic:credit-reservations:byExpiry", name) is None

    eventually(is_swept)
    assert remaining(redis_server) + held(redis_server) == 10_000 - 2 * units(emulator)


def test_what_another_process_billed_of_a_slab_is_not_served_again(
    make_user, emulator, redis_server, leave
):
    user = make_user(local_slab=SLAB, sweep_interval=0.02, default_reservation_ttl=0.5)
    take_slab(user, redis_server)
    results = [user.check(5) for _ in range(4)]
    worker = make_user(sweep_interval=0.02)
    for result in results:
        worker.do("track_with_reservation", leave(result.reservation), 3)

    def has_lapsed() -> bool:
        user.turn()
        return user.client.status().open_holds == 0

    eventually(has_lapsed)
    user.close()
    worker.close()
    assert holds(redis_server) == []
    assert remaining(redis_server) == 10_000 - 2 * units(emulator)
    assert emulator.audit()["balanced"]


def test_a_slab_that_a_failover_has_lost_closes_at_the_next_note_of_use(
    make_user, emulator, redis_server, caplog
):
    user = make_user(local_slab=SLAB, sweep_interval=3600.0)
    row = take_slab(user, redis_server)
    with redis.Redis.from_url(redis_server.url) as writer:
        # What the replica knows: the lease before the debit, and no hold.
        writer.delete(*writer.scan_iter("schematic:credit-reservation*"))
        writer.hincrby(LEASE, "localRemainingCredits", int(float(row["creditsReserved"])))
    user.settle(user.check(2), 2)

    def is_closed() -> bool:
        user.turn()
        return user.client.status().leases == 0

    eventually(is_closed)
    # Its row may have told of less by then: what was used of it is taken off.
    assert f"the row {row['id']} of a slab of {SLAB.min_credits:g} credits is gone" in caplog.text
    before = remaining(redis_server)
    user.settle(user.check(2), 2)
    assert remaining(redis_server) < before, "it was not served from the slab that is lost"


@pytest.mark.parametrize("ahead", [-100, 100])
def test_the_row_of_a_slab_lapses_by_the_clock_of_redis(redis_clock, ahead, emulator):
    at = int(time.time() + ahead) * 1000
    redis_clock.stand_at(at)
    with redis_clock.rules():
        server = RedisServer().start()
    user = User("sync", "sync", emulator, server.url, local_slab=SLAB)
    try:
        row = take_slab(user, server)
        assert int(row["expiresAt"]) == at + (SLAB.lifetime + 60 + 5) * 1000
    finally:
        user.close()
        server.remove()


@pytest.mark.parametrize("step", [-60.0, -3600.0])
def test_a_slab_ends_on_time_though_the_wall_clock_was_set_back(
    monkeypatch, emulator, redis_server, step
):
    """One second is waited for here: the clock that the slab goes by is the system's own."""
    wall = [0.0]

    def core(**settings: Any) -> Core:
        return Core(**settings, clock=lambda: time.time() + wall[0])

    monkeypatch.setattr("schematic_native.client.base.Core", core)
    slab = LocalSlab(min_credits=100, max_credits=1000, lifetime=1.0)
    leases = {"local_slab": slab, "sweep_interval": 3600.0, "default_reservation_ttl": 1.0}
    user = User("sync", "sync", emulator, redis_server.url, **leases)
    try:
        take_slab(user, redis_server)
        held = user.check(1)
        wall[0] = step
        before = remaining(redis_server)
        eventually(lambda: user.client.status().leases == 0)
        user.settle(user.check(1), 1)
        assert remaining(redis_server) < before, "it was served by Redis"
        user.settle(held, 1)
    finally:
        user.close()
    assert emulator.audit()["balanced"]


def test_a_small_lease_serves_checks_one_by_one(make_user, redis_server):
    user = make_user(local_slab=SLAB, default_lease_size=200)
    for _ in range(5):
        result = user.check(1)
        assert result.allowed
        user.settle(result, 1)
        user.turn()
    assert holds(redis_server) == []


def test_a_client_of_something_else_is_refused_by_name():
    for config in (SchematicConfig, AsyncSchematicConfig):
        client = Schematic if config is SchematicConfig else AsyncSchematic
        leases = CreditLeaseConfig(redis_client=object())
        with pytest.raises(TypeError, match="redis_client"):
            client(API_KEY, config(credit_leases=leases))
