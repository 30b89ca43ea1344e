"""The store on a real cluster: keys that move, servers that die or say nothing."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.faults import StoreError
from schematic_native.redis.clusters import Map
from schematic_native.redis.keys import Keys
from tests.conftest import ACME, API_KEY, eventually, streaming
from tests.stores.asking import KINDS, SLOT, Asked, client_of, hold
from tests.stores.clusters import RedisCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stores.servers import RedisServer

KEYS = Keys("schematic:")


@pytest.fixture(scope="module")
def one_cluster() -> Iterator[RedisCluster]:
    running = RedisCluster().start()
    yield running
    running.remove()


@pytest.fixture
def cluster(one_cluster) -> RedisCluster:
    """The cluster, empty and whole: what a test has stopped runs again."""
    for server in one_cluster.servers:
        if server.process is None:
            server.start(keep=True)
        server.command("FLUSHALL")
    eventually(one_cluster.is_whole)
    return one_cluster


@pytest.fixture(params=KINDS)
def store(request, cluster) -> Iterator[Asked]:
    asked = Asked(client_of(request.param, cluster.url, cluster=True))
    yield asked
    asked.close()


def places(cluster: RedisCluster, hold_id: str, slot: tuple[str, str]) -> dict[str, int]:
    """The ports of the servers that have a hold's keys, and its lease."""
    keys = {
        "lease": KEYS.lease(slot),
        "row": KEYS.reservation(hold_id),
        "by_expiry": KEYS.by_expiry(),
        "by_credit": KEYS.by_credit(slot),
    }
    return {part: cluster.server_of(key).port for part, key in keys.items()}


def apart(cluster: RedisCluster, part: str) -> tuple[str, tuple[str, str], RedisServer]:
    """Find a hold of which one part is on a server that has no other; and that server."""
    for number in itertools.count():
        hold_id, slot = f"hold-{number}", (f"comp_{number // 30}", "credit")
        found = places(cluster, hold_id, slot)
        port = found.pop(part)
        if port not in found.values():
            return hold_id, slot, next(s for s in cluster.servers if s.port == port)
    raise AssertionError


def test_a_hold_is_taken_settled_and_swept(store):
    store.lend()
    assert store.run(store.operations.try_reserve(SLOT, 30.0)).remaining == 70
    assert store.run(store.operations.add(hold("a", 10.0)))
    assert store.run(store.operations.add(hold("b", 20.0, lapses=time.time() - 1)))
    assert store.run(store.operations.reserved_credits(SLOT)) == 30
    assert store.run(store.operations.consume("a", 4.0)) == 4
    assert store.run(store.operations.sweep(time.time())) == 1
    assert store.run(store.operations.reservation_count()) == 0
    assert store.remaining() == 96


@pytest.mark.parametrize("part", ["row", "by_expiry", "by_credit"])
def test_a_hold_that_is_recorded_in_part_is_given_back_once(cluster, store, part):
    hold_id, slot, server = apart(cluster, part)
    store.lend(slot)
    # What others have used: a credit that is given back twice would show.
    assert store.run(store.operations.try_reserve(slot, 60.0)).remaining == 40
    server.stop()
    with pytest.raises(StoreError) as failure:
        store.run(store.operations.add(hold(hold_id, 10.0, slot, lapses=time.time() - 1)))
    # What a check does then.
    assert failure.value.lost is (part != "row")
    if failure.value.lost:
        with pytest.raises(StoreError):
            store.run(store.operations.consume(hold_id, 0.0))
    else:
        store.run(store.operations.refund(slot, 10.0, "lse"))
    server.start(keep=True)

    def is_swept() -> bool:
        store.attempt(store.operations.sweep(time.time()))
        return store.attempt(store.operations.reservation_count()) == 0

    eventually(is_swept)
    eventually(lambda: store.attempt(store.operations.reserved_credits(slot)) == 0)
    assert store.remaining(slot) == 50


def test_a_sweep_gives_back_what_it_can_and_leaves_the_rest_to_the_next(cluster, store):
    hold_id, slot, server = apart(cluster, "row")
    other = next(
        name
        for name in (f"other-{number}" for number in itertools.count())
        if cluster.server_of(KEYS.reservation(name)) is not server
    )
    store.lend(slot)
    store.run(store.operations.try_reserve(slot, 30.0))
    for name in (hold_id, other):
        store.run(store.operations.add(hold(name, 10.0, slot, lapses=time.time() - 1)))
    server.stop()
    with pytest.raises(StoreError):
        store.run(store.operations.sweep(time.time()))
    assert store.remaining(slot) == 80
    server.start(keep=True)
    eventually(lambda: store.attempt(store.operations.sweep(time.time())) == 1)
    assert store.remaining(slot) == 90


def test_a_dead_server_does_not_keep_the_others_from_answering(cluster, store):
    _, slot, server = apart(cluster, "lease")
    other = next(s for s in ((f"x{n}", "credit") for n in itertools.count())
                 if cluster.server_of(KEYS.lease(s)) is not server)  # fmt: skip
    store.lend(slot)
    store.lend(other)
    server.stop()
    for _ in range(3):
        with pytest.raises(StoreError):
            store.run(store.operations.try_reserve(slot, 1.0))
        store.run(store.operations.try_reserve(other, 1.0))
    assert store.remaining(other) == 97


def test_a_server_that_says_nothing_costs_no_more_than_the_time_given(cluster, store):
    store.lend()
    server = cluster.server_of(KEYS.lease(SLOT))
    server.freeze()
    try:
        started = time.monotonic()
        for _ in range(3):
            with pytest.raises(StoreError):
                store.run(store.operations.try_reserve(SLOT, 1.0), 0.1)
        assert time.monotonic() - started < 1.5
    finally:
        server.thaw()


def test_those_who_come_first_all_wait_for_the_map(cluster):
    store = Asked(client_of("async", cluster.url, cluster=True))
    leases = store.together([store.operations.lease(SLOT) for _ in range(20)], 5.0)
    assert leases == [None] * 20
    store.close()


def move(cluster: RedisCluster, key: str) -> tuple[RedisServer, RedisServer, int]:
    """Begin to move a key's slot to another server."""
    source = cluster.server_of(key)
    target = next(server for server in cluster.servers if server is not source)
    slot = source.command("CLUSTER", "KEYSLOT", key)
    names = [server.command("CLUSTER", "MYID") for server in (source, target)]
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
    return source, target, slot


def test_a_key_is_found_on_its_way_and_where_it_has_moved_to(cluster, store):
    store.lend()
    key = KEYS.lease(SLOT)
    source, target, slot = move(cluster, key)
    source.command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    # On its way: the server that it leaves says where to ask, for this once.
    assert store.run(store.operations.try_reserve(SLOT, 1.0)).remaining == 99
    name = target.command("CLUSTER", "MYID")
    for server in (target, source):
        server.command("CLUSTER", "SETSLOT", slot, "NODE", name)
    # Moved for good.
    assert store.run(store.operations.try_reserve(SLOT, 1.0)).remaining == 98
    assert store.run(store.operations.try_reserve(SLOT, 1.0)).remaining == 97
    assert cluster.row(key)["localRemainingCredits"] == "97"


class Teller:
    """A user's function that translates addresses, as for servers behind a gateway."""

    def __call__(self, host: str, port: int) -> tuple[str, int]:
        return ("gateway" if host == "10.0.0.1" else host), port


def test_a_map_names_servers_as_they_are_reached():
    servers = Map(["seed:1"], Teller())
    assert list(servers.tellers()) == ["seed:1"]
    servers.is_stale = True
    rows = [[0, 8191, [b"10.0.0.1", 7000, b"id"], [b"10.0.0.9", 7000, b"id"]],
            [8192, 16000, ["", 7001, "id"]], [16001, 16382, [None, 7002]]]  # fmt: skip
    assert servers.read(rows, "10.0.0.7:7001")
    # The slots of these names are 2515, 11694, 16002 and 16383.
    assert servers.server_of("schematic:0") == "gateway:7000"
    assert servers.server_of("schematic:2") == "10.0.0.7:7001"


def test_a_slot_that_nobody_has_is_a_failure_that_did_nothing():
    servers = Map(["seed:1"], Teller())
    with pytest.raises(StoreError, match="no server of the Redis cluster can be reached"):
        servers.server_of("schematic:0")
    servers.read([[0, 1, ["there", 2]]], "seed:1")
    servers.is_stale = False
    with pytest.raises(StoreError, match="has slot") as failure:
        servers.server_of("schematic:0")
    assert not failure.value.lost
    assert servers.is_stale


def test_a_map_is_asked_of_those_who_are_there_before_those_who_were_named():
    servers = Map(["seed:1"], Teller())
    servers.read([[0, 16383, ["there", 2]]], "seed:1")
    assert list(servers.tellers()) == ["there:2", "seed:1"]


@pytest.mark.parametrize("redis_kind", KINDS)
def test_a_synchronous_client_on_a_cluster(cluster, emulator, redis_kind):
    leases = CreditLeaseConfig(
        mode="client", redis_client=client_of(redis_kind, cluster.url, cluster=True)
    )
    with Schematic(API_KEY, SchematicConfig(**streaming(emulator, credit_leases=leases))) as client:
        client.initialize()
        result = client.check("inference", ACME, usage=10)
        assert result.allowed
        assert result.reservation is not None
        client.track_with_reservation(result.reservation, 4)
    assert cluster.row(KEYS.lease(SLOT))["localRemainingCredits"] == str(10_000 - 8)


async def test_an_asynchronous_client_on_a_cluster(cluster, emulator):
    redis_client: Any = client_of("async", cluster.url, cluster=True)
    leases = CreditLeaseConfig(mode="client", redis_client=redis_client)
    config = AsyncSchematicConfig(**streaming(emulator, credit_leases=leases))
    async with AsyncSchematic(API_KEY, config) as client:
        await client.initialize()
        result = await client.check("inference", ACME, usage=10)
        assert result.allowed
        assert result.reservation is not None
        await client.track_with_reservation(result.reservation, 4)
    await redis_client.aclose()
    assert cluster.row(KEYS.lease(SLOT))["localRemainingCredits"] == str(10_000 - 8)
