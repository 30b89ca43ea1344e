"""A cluster of which a server is dead, or says nothing, or no longer has what it had."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, TypeVar

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
from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.cluster_map import ClusterMap
from schematic_native.redis.cluster_routing import GET_MAP, Router, SpreadBatch
from schematic_native.redis.commands import Command
from schematic_native.redis.keys import Keys
from tests.conftest import ACME, API_KEY, eventually, streaming
from tests.limits import within
from tests.stores.callers import BOTH, LEASE, PATIENCE, PREFIX, SLOT, Caller, Kind, hold
from tests.stores.inspection import count_holds, sweep_all
from tests.stores.servers import ClusterServers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native import Reservation
    from schematic_native.ground.slots import Slot
    from schematic_native.redis import Operation
    from tests.stores.servers import RedisServer

T = TypeVar("T")
KEYS = Keys(PREFIX)


@pytest.fixture(scope="module")
def mortal_servers() -> Iterator[ClusterServers]:
    """A cluster whose servers keep what they had, and go on without each other."""
    options = "--appendonly", "yes", "--cluster-require-full-coverage", "no"
    servers = ClusterServers(*options).start()
    yield servers
    servers.remove()


@pytest.fixture
def cluster(mortal_servers) -> ClusterServers:
    """The cluster, empty and whole: what a test has stopped runs again."""
    for server in mortal_servers.servers:
        if server.process is None:
            server.start(keep=True)
    mortal_servers.flush()
    eventually(mortal_servers.is_complete)
    return mortal_servers


@pytest.fixture(params=BOTH, ids=str)
def caller(request, cluster) -> Iterator[Caller]:
    caller = Caller(cluster, request.param)
    yield caller
    caller.close()


def lend(caller: Caller, slot: Slot = SLOT) -> None:
    """Install a lease of 100 credits."""
    lending = caller.ask.install(slot, "lease_1", 100.0, time.time() + 3600)
    assert caller.do(lending).written


def lapsed(hold_id: str, slot: Slot) -> Reservation:
    """A hold of 20 credits that has lapsed."""
    where = {"company_id": slot[0], "credit_type_id": slot[1]}
    return hold(hold_id, expires_at=time.time() - 1, **where)


def remaining(caller: Caller, slot: Slot = SLOT) -> float:
    lease = caller.do(caller.ask.lease(slot))
    assert lease is not None
    return lease.remaining


def attempt(caller: Caller, operation: Operation[T]) -> T | None:
    """Run an operation on servers that may be down; None if it failed."""
    try:
        return caller.do(operation)
    except StoreError:
        return None


def places(cluster: ClusterServers, hold_id: str, slot: Slot) -> dict[str, RedisServer]:
    """The servers that have a hold's keys, and its lease."""
    keys = {
        "lease": KEYS.lease(slot),
        "row": KEYS.reservation(hold_id),
        "by_expiry": KEYS.by_expiry(),
        "by_credit": KEYS.by_credit(slot),
    }
    return {part: cluster.owner_of(key) for part, key in keys.items()}


def apart(cluster: ClusterServers, part: str) -> tuple[str, Slot, RedisServer]:
    """Find a hold of which one part is on a server that has no other; and that server."""
    for number in itertools.count():
        hold_id, slot = f"hold_{number}", (f"comp_{number // 30}", "credit")
        found = places(cluster, hold_id, slot)
        server = found.pop(part)
        if server not in found.values():
            return hold_id, slot, server
    raise AssertionError


@pytest.mark.parametrize("part", ["row", "by_expiry", "by_credit"])
def test_a_hold_that_is_recorded_in_part_is_given_back_once(cluster, caller, part):
    hold_id, slot, server = apart(cluster, part)
    lend(caller, slot)
    # With what others have used: credits that are given back twice would show.
    assert caller.do(caller.ask.try_reserve(slot, 70.0)).remaining == 30
    server.stop()
    with pytest.raises(StoreError) as failure:
        caller.do(caller.ask.add(lapsed(hold_id, slot)))
    # What a check does then.
    assert failure.value.lost is (part != "row")
    if failure.value.lost:
        with pytest.raises(StoreError):
            caller.do(caller.ask.consume(hold_id, 0.0))
    else:
        caller.do(caller.ask.refund(slot, 20.0, "lease_1"))
    server.start(keep=True)

    def is_swept() -> bool:
        attempt(caller, sweep_all(caller.ask, time.time()))
        return attempt(caller, count_holds(caller.ask)) == 0

    eventually(is_swept)
    eventually(lambda: attempt(caller, caller.ask.reserved_credits(slot)) == 0)
    assert remaining(caller, slot) == 50


def test_a_sweep_gives_back_what_it_can_and_leaves_the_rest_to_the_next(cluster, caller):
    hold_id, slot, server = apart(cluster, "row")
    names = (f"other_{number}" for number in itertools.count())
    other = next(n for n in names if cluster.owner_of(KEYS.reservation(n)) is not server)
    lend(caller, slot)
    caller.do(caller.ask.try_reserve(slot, 50.0))
    for name in (hold_id, other):
        caller.do(caller.ask.add(lapsed(name, slot)))
    server.stop()
    with pytest.raises(StoreError):
        caller.do(sweep_all(caller.ask, time.time()))
    assert remaining(caller, slot) == 70
    server.start(keep=True)
    eventually(lambda: attempt(caller, sweep_all(caller.ask, time.time())) == 1)
    assert remaining(caller, slot) == 90


def test_a_dead_server_does_not_keep_the_others_from_answering(cluster, caller):
    _, slot, server = apart(cluster, "lease")
    slots = ((f"other_{number}", "credit") for number in itertools.count())
    other = next(s for s in slots if cluster.owner_of(KEYS.lease(s)) is not server)
    lend(caller, slot)
    lend(caller, other)
    server.stop()
    for _ in range(3):
        with pytest.raises(StoreError):
            caller.do(caller.ask.try_reserve(slot, 1.0))
        caller.do(caller.ask.try_reserve(other, 1.0))
    assert remaining(caller, other) == 97


def test_a_server_that_says_nothing_costs_no_more_than_the_time_given(cluster, caller):
    lend(caller)
    with cluster.owner_of(LEASE).frozen():
        for _ in within(1.5):
            for _ in range(3):
                with pytest.raises(StoreError):
                    caller.do(caller.ask.try_reserve(SLOT, 1.0), 0.1)


def test_the_first_callers_all_wait_for_the_map(cluster, make_caller):
    caller = make_caller(cluster, Kind(is_async=True))

    async def ask_at_once() -> list[object]:
        leases = [caller.store.run(caller.ask.lease(SLOT), PATIENCE) for _ in range(20)]
        return await asyncio.gather(*leases)

    assert caller.loop.run_until_complete(ask_at_once()) == [None] * 20


class Teller:
    """A user's function that translates addresses, as for servers behind a gateway."""

    def __call__(self, host: str, port: int) -> tuple[str, int]:
        return ("gateway" if host == "10.0.0.1" else host), port


def test_a_map_names_servers_as_they_are_reached():
    servers = ClusterMap(["seed:1"], Teller())
    assert list(servers.sources()) == ["seed:1"]
    servers.is_stale = True
    rows = [[0, 8191, [b"10.0.0.1", 7000, b"id"], [b"10.0.0.9", 7000, b"id"]],
            [8192, 16000, ["", 7001, "id"]], [16001, 16382, [None, 7002]]]  # fmt: skip
    assert servers.read(rows, "10.0.0.7:7001")
    # The slots of these names are 2515, 11694, 16002 and 16383.
    assert servers.server_of("schematic:0") == "gateway:7000"
    assert servers.server_of("schematic:2") == "10.0.0.7:7001"


def test_a_slot_without_a_server_is_a_failure_that_did_nothing():
    servers = ClusterMap(["seed:1"], Teller())
    with pytest.raises(StoreError, match="no server of the Redis cluster can be reached"):
        servers.server_of("schematic:0")
    servers.read([[0, 1, ["there", 2]]], "seed:1")
    servers.is_stale = False
    with pytest.raises(StoreError, match="has slot") as failure:
        servers.server_of("schematic:0")
    assert not failure.value.lost
    assert servers.is_stale


def test_the_map_is_read_from_known_servers_before_the_configured_ones():
    servers = ClusterMap(["seed:1"], Teller())
    servers.read([[0, 16383, ["there", 2]]], "seed:1")
    assert list(servers.sources()) == ["there:2", "seed:1"]


@pytest.mark.parametrize(
    ("is_known", "timeout", "limit"),
    [
        (False, 30.0, 1.0),
        (False, 1.0, 0.5),
        (False, None, 0.5),
        (True, 30.0, 0.25),
        (True, 0.1, 0.05),
    ],
)
def test_the_first_map_has_the_time_that_a_new_connection_needs(is_known, timeout, limit):
    servers = ClusterMap(["seed:1"], Teller())
    if is_known:
        servers.read([[0, 16383, ["there", 2]]], "seed:1")
    deadline = None if timeout is None else 100.0 + timeout
    routing = Router(servers).route([Command("key", ())], deadline, lambda: 100.0, in_full=False)
    [request] = next(routing)
    assert request.batch == GET_MAP
    assert request.deadline == 100.0 + limit


def stored_balance(cluster: ClusterServers) -> float:
    with cluster.owner_of(LEASE).connect() as reader:
        return float(reader.hget(LEASE, "localRemainingCredits"))


@pytest.mark.parametrize("module", [redis, redis.asyncio], ids=["sync", "async"])
def test_a_synchronous_client_on_a_cluster(cluster, emulator, module):
    leases = CreditLeaseConfig(mode="client", redis_client=cluster.connect(module))
    with Schematic(API_KEY, SchematicConfig(**streaming(emulator, credit_leases=leases))) as client:
        client.initialize()
        result = client.check("inference", ACME, usage=10)
        assert result.allowed
        assert result.reservation is not None
        client.track_with_reservation(result.reservation, 4)
    assert stored_balance(cluster) == 10_000 - 8


async def test_an_asynchronous_client_on_a_cluster(cluster, emulator):
    redis_client = cluster.connect(redis.asyncio)
    leases = CreditLeaseConfig(mode="client", redis_client=redis_client)
    config = AsyncSchematicConfig(**streaming(emulator, credit_leases=leases))
    async with AsyncSchematic(API_KEY, config) as client:
        await client.initialize()
        result = await client.check("inference", ACME, usage=10)
        assert result.allowed
        assert result.reservation is not None
        await client.track_with_reservation(result.reservation, 4)
    await redis_client.aclose()
    assert stored_balance(cluster) == 10_000 - 8


def test_a_command_goes_where_a_server_has_said_that_its_key_is_though_the_map_is_older():
    places = SpreadBatch([Command("moved", ("GET", "moved")), Command("other", ("GET", "other"))])
    assert places.by_server(lambda _: "old:1") == {"old:1": [0, 1]}
    places.send_again(0, "new:2")
    assert not places.is_done
    assert places.by_server(lambda _: "old:1") == {"new:2": [0]}
    assert places.is_done
