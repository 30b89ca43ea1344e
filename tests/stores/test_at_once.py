"""What one server does at once: a debit with its hold, a claim with its refund.

Where keys are in several places, the store finds that out by itself and does one after the other.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
from redis.crc import key_slot

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import Operations, Refused, SyncStore
from schematic_native.redis.key_placement import PROBES
from schematic_native.redis.keys import Keys
from schematic_native.redis.sync_connections import SyncServer
from tests.conftest import API_KEY, eventually, streaming
from tests.ports import free_port
from tests.stores.callers import (
    BOTH,
    BY_CREDIT,
    BY_EXPIRY,
    LEASE,
    MATRIX,
    PREFIX,
    SLOT,
    Caller,
    hold,
    hold_key,
    member,
)
from tests.stores.inspection import sweep_all
from tests.stores.proxies import Proxy
from tests.stores.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native import Reservation

YEAR_2100 = 4_102_444_800.0
TTL = 45_000
GRACE = 30_000


@pytest.fixture(scope="module")
def lone_node() -> Iterator[RedisServer]:
    """A server of a cluster that has every slot, as a proxy's address has, or a managed service's."""
    options = "--appendonly", "no", "--cluster-enabled", "yes"
    server = RedisServer(*options, "--cluster-port", str(free_port())).start()
    server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    eventually(lambda: server.command("CLUSTER INFO")["cluster_state"] == "ok")
    yield server
    server.remove()


@pytest.fixture
def node(lone_node: RedisServer) -> RedisServer:
    lone_node.flush()
    return lone_node


def install(caller: Caller, granted: float = 100.0) -> None:
    assert caller.do(caller.ask.install(SLOT, "lease_1", granted, YEAR_2100)).written


def remaining(server: RedisServer) -> float:
    return float(server.command("HGET", LEASE, "localRemainingCredits"))


def draft(hold_id: str = "hold_1", **changes: Any) -> Reservation:
    return hold(hold_id, lease_id="", expires_at=0.0, **changes)


# One server


@pytest.mark.parametrize("kind", MATRIX, ids=str)
def test_a_hold_is_debited_and_recorded_in_one_round_trip_and_settled_in_one(
    server, make_caller, kind
):
    with Proxy(server.port) as proxy:
        caller = make_caller(proxy, kind)
        install(caller)
        caller.do(caller.ask.hold(draft("hold_0"), TTL))  # makes the scripts known
        assert caller.do(caller.ask.consume("hold_0", 20, SLOT)) == 20
        proxy.batches.clear()
        assert caller.do(caller.ask.hold(draft(), TTL)).recorded
        assert caller.do(caller.ask.consume("hold_1", 5, SLOT)) == 5
        assert len(proxy.batches) == 2
    assert remaining(server) == 75
    assert server.command("KEYS", "*") == [LEASE]


@pytest.mark.parametrize(
    "changes",
    [
        {"company": {"id": "acme", "slug": "ä|b"}, "user": {"email": "é@acme.example"}},
        {"company": {"id": "acme"}, "quantity_reserved": 7.25, "event_subtype": "größe"},
        {"credits_reserved": 0.1, "consumption_rate": 0.1},
        {},
    ],
)
@pytest.mark.parametrize("kind", BOTH, ids=str)
def test_the_rows_are_those_that_two_scripts_write(server, make_caller, kind, changes):
    seen = []
    for at_once in (True, False):
        server.flush()
        caller = make_caller(server, kind, at_once=at_once)
        install(caller)
        debit = caller.do(caller.ask.hold(draft(**changes), TTL))
        assert debit.recorded == at_once
        lapses = round(debit.at * 1000) + TTL
        if not at_once:
            ends = {"lease_id": debit.lease_id, "expires_at": lapses / 1000}
            assert caller.do(caller.ask.add(hold(**changes, **ends)))
        row = server.command("HGETALL", hold_key())
        assert row.pop("expiresAt") == str(lapses)
        assert server.command("PEXPIRETIME", hold_key()) == lapses + GRACE
        assert server.command("ZSCORE", BY_EXPIRY, member()) == lapses
        lease = server.command("HGETALL", LEASE)
        held = server.command("HGETALL", BY_CREDIT)
        seen.append((list(row.items()), lease, held, server.command("ZRANGE", BY_EXPIRY, 0, -1)))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("kind", BOTH, ids=str)
@pytest.mark.parametrize(
    ("grant", "cost", "expected"),
    [(100.0, 100.5, Refused.SHORT), (None, 1.0, Refused.NO_LEASE)],
)
def test_a_hold_that_cannot_be_debited_is_not_recorded(
    server,
    make_caller,
    kind,
    grant,
    cost,
    expected,
):
    caller = make_caller(server, kind, at_once=True)
    if grant is not None:
        install(caller, grant)
    assert caller.do(caller.ask.hold(draft(credits_reserved=cost), TTL)) is expected
    assert server.command("EXISTS", hold_key(), BY_EXPIRY, BY_CREDIT) == 0


@pytest.mark.parametrize("kind", BOTH, ids=str)
def test_an_id_that_is_taken_is_not_debited(server, make_caller, kind):
    caller = make_caller(server, kind, at_once=True)
    install(caller)
    caller.do(caller.ask.hold(draft(), TTL))
    before = server.command("HGETALL", hold_key())
    with pytest.raises(StoreError, match="already") as failure:
        caller.do(caller.ask.hold(draft(credits_reserved=30), TTL))
    assert not failure.value.lost
    assert server.command("HGETALL", hold_key()) == before
    assert remaining(server) == 80


AMOUNTS = [0.0, -0.0, 0.1, 0.3, 7.0, 19.999999999999996, 20.0, 1e300, -3.0, math.inf, -math.inf]


@pytest.mark.parametrize("kind", BOTH, ids=str)
@pytest.mark.parametrize("used", [*AMOUNTS, math.nan])
@pytest.mark.parametrize("held", [20.0, 0.1, 1e15 + 0.5])
def test_a_settle_in_one_script_leaves_the_same_as_in_several(
    server, make_caller, kind, held, used
):
    seen = []
    for at_once in (True, False):
        server.flush()
        caller = make_caller(server, kind, at_once=at_once)
        install(caller, 3e15)
        one = hold(credits_reserved=held)
        caller.do(caller.ask.try_reserve(SLOT, held))
        caller.do(caller.ask.add(one))
        consumed = caller.do(caller.ask.consume("hold_1", used, SLOT))
        assert server.command("KEYS", "*") == [LEASE]
        seen.append((consumed, server.command("HGETALL", LEASE)))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("field", ["id", "companyId", "creditTypeId"])
def test_a_row_of_another_slot_is_settled_where_it_belongs(server, make_caller, field):
    """A caller may name another slot than the row does: the row knows best."""
    caller = make_caller(server, at_once=True)
    install(caller)
    caller.do(caller.ask.hold(draft(), TTL))
    if field == "id":
        server.command("HSET", hold_key(), "id", "hold_2")
        assert caller.do(caller.ask.consume("hold_1", 5, SLOT)) == 5
    else:
        slot = ("comp_b", SLOT[1]) if field == "companyId" else (SLOT[0], "credit_b")
        assert caller.do(caller.ask.consume("hold_1", 5, slot)) == 5
        assert server.command("EXISTS", BY_CREDIT, BY_EXPIRY) == 0
    assert remaining(server) == 95
    assert not server.command("EXISTS", hold_key())


def test_a_settle_never_refunds_the_successor_lease_at_once(server, make_caller):
    caller = make_caller(server, at_once=True)
    install(caller)
    caller.do(caller.ask.hold(draft(), TTL))
    server.command("HSET", LEASE, "leaseId", "lease_2")
    assert caller.do(caller.ask.consume("hold_1", 5, SLOT)) == 5
    assert remaining(server) == 80


def test_a_refund_never_exceeds_the_grant(server, make_caller):
    caller = make_caller(server, at_once=True)
    install(caller)
    caller.do(caller.ask.hold(draft(), TTL))
    server.command("HSET", LEASE, "localRemainingCredits", "99")
    assert caller.do(caller.ask.consume("hold_1", 5, SLOT)) == 5
    assert remaining(server) == 100


def test_a_script_that_failed_half_way_is_cleaned_up_by_the_claim(server, make_caller):
    caller = make_caller(server, at_once=True)
    install(caller)
    server.command("SET", BY_CREDIT, "no hash")
    with pytest.raises(StoreError) as failure:
        caller.do(caller.ask.hold(draft(), TTL))
    assert failure.value.lost
    with pytest.raises(StoreError):
        caller.do(caller.ask.consume("hold_1", 0, SLOT))
    assert remaining(server) == 100
    assert not server.command("EXISTS", hold_key())


def test_a_settle_and_a_sweep_that_race_end_the_hold_once(server, make_caller):
    settler, sweeper = make_caller(server), make_caller(server, at_once=True)
    install(settler, 1000.0)
    used = 0.0
    with ThreadPoolExecutor(2) as threads:
        for at in range(50):
            settler.do(settler.ask.hold(draft(f"hold_{at}"), 0))
            swept = threads.submit(sweeper.do, sweep_all(sweeper.ask, time.time() + 60))
            consumed = settler.do(settler.ask.consume(f"hold_{at}", 5, SLOT))
            assert swept.result() == (1 if consumed is None else 0)
            used += consumed or 0
            assert remaining(server) == 1000 - used
    assert settler.at_once


# Keys in several places


@pytest.mark.parametrize("kind", MATRIX, ids=str)
def test_a_server_that_refuses_several_keys_is_asked_once_and_served_one_by_one(
    node, make_caller, kind
):
    with Proxy(node.port) as proxy:
        caller = make_caller(proxy, kind)
        install(caller)
        proxy.batches.clear()
        for at in range(3):
            debit = caller.do(caller.ask.hold(draft(f"hold_{at}"), TTL))
            assert not debit.recorded
            assert caller.do(caller.ask.add(hold(f"hold_{at}")))
        assert caller.at_once is False
        assert sum(b"PEXPIREAT" in batch and b"probe-" in batch for batch in proxy.batches) == 1
        assert caller.do(caller.ask.consume("hold_0", 5, SLOT)) == 5
        assert caller.do(sweep_all(caller.ask, YEAR_2100 + 1)) == 2
    assert remaining(node) == 95
    assert node.command("KEYS", "*") == [LEASE]


@pytest.mark.parametrize("kind", BOTH, ids=str)
def test_an_address_that_comes_to_lead_to_a_cluster_is_served_one_by_one(node, make_caller, kind):
    caller = make_caller(node, kind, at_once=True)
    install(caller)
    debit = caller.do(caller.ask.hold(draft(), TTL))
    assert (debit.recorded, debit.remaining) == (False, 80)
    assert caller.at_once is False
    for hold_id in ("hold_1", "hold_2"):
        assert caller.do(caller.ask.add(hold(hold_id)))
    caller.ask.placement.is_one_server = True
    assert caller.do(caller.ask.consume("hold_1", 5, SLOT)) == 5
    assert remaining(node) == 95
    caller.ask.placement.is_one_server = True
    with pytest.raises(StoreError):
        caller.do(sweep_all(caller.ask, YEAR_2100 + 1))
    assert node.command("EXISTS", hold_key("hold_2"))
    assert caller.do(sweep_all(caller.ask, YEAR_2100 + 1)) == 1
    assert node.command("KEYS", "*") == [LEASE]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_client_checks_and_settles_at_an_address_of_a_cluster(node, emulator, is_async):
    """A check and its settle, whichever way the client of Redis works, and what is then left."""
    connection = node.connect(redis.asyncio if is_async else redis)
    leases = CreditLeaseConfig(mode="client", redis_client=connection)
    config = SchematicConfig(**streaming(emulator, credit_leases=leases))
    with Schematic(API_KEY, config) as client:
        for _ in range(3):
            result = client.check("inference", company={"id": "acme"}, usage=10)
            assert result.allowed, result
            client.track_with_reservation(result.reservation, 8)
        assert client._store.operations.placement.is_one_server is False
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 24}}
    assert [key.split(":")[1] for key in node.command("KEYS", "*")] == ["credit-lease"]


class Sharded:
    """Two servers behind a proxy that sends each command to where its first key belongs."""

    def __init__(self, *servers: RedisServer) -> None:
        clients = [server.connect() for server in servers]
        pools = [client.connection_pool for client in clients]
        self._servers = [
            SyncServer(pool.connection_class, pool.connection_kwargs) for pool in pools
        ]

    def exchange(self, batch: Any, deadline: float | None, *, in_full: bool) -> list[object]:
        return [
            self._servers[key_slot(command.key.encode()) % 2].exchange(
                [command], deadline, in_full=in_full
            )[0]
            for command in batch
        ]

    def close(self) -> None:
        for server in self._servers:
            server.close()


def test_a_proxy_that_sends_a_script_to_where_its_first_key_belongs_is_found_out(server):
    other = RedisServer("--appendonly", "no").start()
    links = Sharded(server, other)
    try:
        store = SyncStore(Operations(Keys(PREFIX)), links)
        ask, run = store.operations, store.run
        run(ask.install(SLOT, "lease_1", 100.0, YEAR_2100))
        assert not run(ask.hold(draft(), TTL)).recorded
        assert run(ask.add(hold()))
        assert run(ask.consume("hold_1", 5, SLOT)) == 5
        assert run(ask.lease(SLOT)).remaining == 95
        # What it wrote for that is gone within two seconds.
        left = [server.command("KEYS", "*probe*"), other.command("KEYS", "*probe*")]
        assert len(left[0]) + len(left[1]) < PROBES
        for one, names in zip((server, other), left, strict=True):
            assert all(one.command("PTTL", name) <= 2000 for name in names)
    finally:
        links.close()
        other.remove()


@pytest.mark.parametrize("kind", BOTH, ids=str)
def test_a_server_that_runs_no_script_now_is_asked_again_later(server, make_caller, kind):
    caller = make_caller(server, kind)
    install(caller)
    server.command("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(StoreError):
            caller.do(caller.ask.hold(draft(), TTL))
        assert caller.at_once is None
    finally:
        server.command("CONFIG", "SET", "maxmemory", 0)
    assert caller.do(caller.ask.hold(draft(), TTL)).recorded
    assert caller.at_once
