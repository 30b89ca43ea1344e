"""Keys that move between the servers of a cluster, and servers that are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from schematic_native.ground.store_errors import StoreError
from tests.conftest import eventually
from tests.limits import within
from tests.stores.callers import (
    BOTH,
    BY_CREDIT,
    BY_EXPIRY,
    LEASE,
    SLACK,
    SLOT,
    Caller,
    Kind,
    hold,
    hold_key,
)
from tests.stores.inspection import count_holds, drop_lease, is_open
from tests.stores.servers import ClusterServers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stores.servers import RedisServer

YEAR_2100 = 4_102_444_800.0


@pytest.fixture(scope="module")
def own_servers() -> Iterator[ClusterServers]:
    servers = ClusterServers().start()
    yield servers
    servers.remove()


@pytest.fixture
def cluster(own_servers) -> Iterator[ClusterServers]:
    yield own_servers
    for server in own_servers.servers:
        if server.process is None:
            server.start(keep=True)
    own_servers.restore()


@pytest.fixture(params=BOTH, ids=str)
def caller(request, cluster, make_caller) -> Caller:
    """A program that has spoken to each server."""
    caller = make_caller(cluster, request.param)
    caller.do(caller.ask.install(SLOT, "lease_1", 100, YEAR_2100))
    caller.do(caller.ask.try_reserve(SLOT, 20))
    assert caller.do(caller.ask.add(hold("hold_1")))
    return caller


def another(cluster: ClusterServers, server: RedisServer) -> RedisServer:
    return next(other for other in cluster.servers if other is not server)


def hold_on(cluster: ClusterServers, server: RedisServer) -> str:
    """Find an id of a hold whose row is on a server."""
    names = (f"hold_{at}" for at in range(2, 1000))
    return next(name for name in names if cluster.owner_of(hold_key(name)) is server)


def live_through(caller: Caller) -> None:
    """Reserve, record, settle, and see that each was done once."""
    assert caller.do(caller.ask.try_reserve(SLOT, 20)).remaining == 60
    assert caller.do(caller.ask.add(hold("hold_2")))
    assert caller.do(caller.ask.reserved_credits(SLOT)) == 40
    assert caller.do(caller.ask.consume("hold_2", 5)) == 5
    assert caller.do(caller.ask.consume("hold_1", 20)) == 20
    assert caller.do(caller.ask.lease(SLOT)).remaining == 75
    assert caller.do(count_holds(caller.ask)) == 0


@pytest.mark.parametrize("finish", [True, False], ids=["moved", "on-its-way"])
@pytest.mark.parametrize("key", [LEASE, hold_key("hold_1"), BY_EXPIRY, BY_CREDIT])
def test_a_key_that_moves_is_followed_and_each_thing_done_once(caller, cluster, key, finish):
    cluster.migrate(key, another(cluster, cluster.owner_of(key)), finish=finish)
    live_through(caller)


def test_a_key_that_moves_to_a_server_without_the_scripts_is_followed(caller, cluster):
    target = another(cluster, cluster.owner_of(LEASE))
    with target.connect() as client:
        client.script_flush()
    cluster.migrate(LEASE, target, finish=False)
    live_through(caller)


def test_a_key_that_is_made_while_its_place_is_on_its_way_is_made_at_the_target(caller, cluster):
    caller.do(drop_lease(caller.ask, SLOT))
    source = cluster.owner_of(LEASE)
    target = another(cluster, source)
    cluster.migrate(LEASE, target, finish=False)
    assert caller.do(caller.ask.install(SLOT, "lease_2", 50, YEAR_2100)).written
    with source.connect() as client:
        names = client.keys()
    assert LEASE.encode() not in names
    assert caller.do(caller.ask.lease(SLOT)).lease_id == "lease_2"


def test_a_key_that_moves_and_comes_back_is_followed(caller, cluster):
    source = cluster.owner_of(LEASE)
    target = another(cluster, source)
    cluster.migrate(LEASE, target, finish=True)
    assert caller.do(caller.ask.lease(SLOT)).remaining == 80
    cluster.migrate(LEASE, source, finish=True, source=target)
    live_through(caller)


def test_a_dead_server_fails_only_the_commands_for_its_own_keys(caller, cluster):
    cluster.owner_of(LEASE).stop()
    for _ in range(3):
        with pytest.raises(StoreError):
            caller.do(caller.ask.try_reserve(SLOT, 1))
    # The others go on, until they find that a part of the cluster is missing.
    other = next(
        ("comp_other", f"credit_{at}")
        for at in range(1000)
        if cluster.owner_of(f"schematic:credit-lease:comp_other:credit_{at}").process is not None
    )
    assert caller.do(caller.ask.install(other, "lease_2", 50, YEAR_2100)).written


def test_a_server_that_was_replaced_is_found_by_asking_the_others(caller, cluster):
    gone = cluster.owner_of(LEASE)
    gone.stop()
    cluster.hand_over(LEASE, another(cluster, gone))
    with pytest.raises(StoreError):
        caller.do(caller.ask.lease(SLOT))
    assert caller.do(caller.ask.install(SLOT, "lease_2", 50, YEAR_2100)).written
    assert caller.do(caller.ask.lease(SLOT)).lease_id == "lease_2"


def test_a_cluster_that_is_down_says_so_and_comes_back(caller, cluster):
    gone = cluster.owner_of(BY_EXPIRY)
    gone.stop()
    cluster.await_broken()
    with pytest.raises(StoreError, match="cluster is down") as failure:
        caller.do(caller.ask.try_reserve(SLOT, 1))
    assert not failure.value.lost
    gone.start(keep=True)
    cluster.await_whole()

    def answers() -> bool:
        try:
            return caller.do(count_holds(caller.ask)) == 0
        except StoreError:
            return False

    eventually(answers)


@pytest.mark.parametrize("kind", BOTH, ids=str)
@pytest.mark.parametrize("key", [BY_EXPIRY, BY_CREDIT])
def test_a_hold_whose_index_cannot_be_reached_is_not_recorded_or_is_lost(
    cluster, make_caller, kind, key
):
    """A hold that is there must never be told of as refused: its debit would come back twice."""
    gone = cluster.owner_of(key)
    name = hold_on(cluster, another(cluster, gone))
    caller = make_caller(cluster, kind)
    caller.do(count_holds(caller.ask))
    gone.stop()
    with pytest.raises(StoreError) as failure:
        caller.do(caller.ask.add(hold(name)))
    with cluster.owner_of(hold_key(name)).connect() as client:
        is_there = client.exists(hold_key(name)) == 1
    assert failure.value.lost or not is_there


def await_rested(caller: Caller) -> None:
    """Wait until the server that did not answer is asked again."""

    def answers() -> bool:
        try:
            caller.do(count_holds(caller.ask))
            caller.do(caller.ask.lease(SLOT))
            caller.do(caller.ask.reserved_credits(SLOT))
        except StoreError:
            return False
        return True

    eventually(answers)


def test_a_hold_whose_index_stops_answering_is_lost(caller, cluster):
    silent = cluster.owner_of(BY_EXPIRY)
    name = hold_on(cluster, another(cluster, silent))
    # The row's server must know the script: it is sent in full only after the silent server's timeout.
    assert caller.do(caller.ask.add(hold(name)))
    assert caller.do(caller.ask.consume(name, 0)) == 0
    with silent.frozen(), pytest.raises(StoreError) as failure:
        caller.do(caller.ask.add(hold(name)), timeout=1.0)
    assert failure.value.lost
    await_rested(caller)
    # Its claim cleans up.
    assert caller.do(caller.ask.consume(name, 0)) == 0


def test_a_settle_whose_lease_cannot_be_reached_leaks_and_is_not_made_twice(caller, cluster):
    gone = cluster.owner_of(LEASE)
    name = hold_on(cluster, another(cluster, gone))
    caller.do(caller.ask.add(hold(name)))
    gone.stop()
    with pytest.raises(StoreError) as failure:
        caller.do(caller.ask.consume(name, 5))
    assert failure.value.lost
    assert caller.do(caller.ask.consume(name, 5)) is None


def test_a_frozen_server_costs_no_more_than_the_timeout_and_stops_no_other(caller, cluster):
    frozen = cluster.owner_of(LEASE)
    name = hold_on(cluster, another(cluster, frozen))
    with frozen.frozen():
        for _ in range(3):
            for _ in within(0.2 + SLACK):
                with pytest.raises(StoreError):
                    caller.do(caller.ask.try_reserve(SLOT, 1), timeout=0.2)
        assert not caller.do(is_open(caller.ask, name))


def test_a_cluster_that_was_never_there_is_a_failure_of_the_store(cluster, make_caller):
    # The synchronous client of redis-py cannot even be made without its cluster.
    caller = make_caller(cluster, Kind(is_async=True))
    for server in cluster.servers:
        server.stop()
    with pytest.raises(StoreError) as failure:
        caller.do(caller.ask.lease(SLOT))
    assert not failure.value.lost


def test_a_failed_batch_leaves_no_connection_with_an_answer(caller, cluster):
    """The next batch on a connection must not be given the answers of the one before."""
    silent = cluster.owner_of(BY_EXPIRY)
    with silent.frozen(), pytest.raises(StoreError):
        caller.do(caller.ask.add(hold("hold_2")), timeout=1.0)
    await_rested(caller)
    for _ in range(3):
        assert caller.do(caller.ask.lease(SLOT)).remaining == 80
        assert caller.do(caller.ask.reserved_credits(SLOT)) in {20, 40}
