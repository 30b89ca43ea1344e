"""Connections to one server: made as the user's client makes its own, and never trusted too far."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
from redis.credentials import CredentialProvider

from schematic_native.faults import StoreError
from schematic_native.redis.faults import unheard
from schematic_native.redis.rest import FIRST_REST, LONGEST_REST, PATIENCE, Rest
from tests.conftest import eventually
from tests.stores.asking import KINDS, SLOT, Asked, client_of, hold
from tests.stores.servers import RedisServer, Sentinel

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def one_server(tmp_path_factory) -> Iterator[RedisServer]:
    path = tmp_path_factory.mktemp("redis") / "redis.sock"
    running = RedisServer("--unixsocket", str(path)).start()
    yield running
    running.remove()


@pytest.fixture
def server(one_server) -> RedisServer:
    one_server.command("FLUSHALL")
    return one_server


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def ask(kind) -> Iterator[Any]:
    """Opens the store of a client with such settings."""
    opened: list[Asked] = []

    def open_one(url: str, **settings: Any) -> Asked:
        opened.append(Asked(client_of(kind, url, **settings)))
        return opened[-1]

    yield open_one
    for asked in opened:
        asked.close()


def use(store: Asked) -> None:
    """Take a hold and settle it."""
    store.lend()
    assert store.run(store.operations.try_reserve(SLOT, 10.5)).remaining == 89.5
    assert store.run(store.operations.add(hold("a", 10.5)))
    assert store.run(store.operations.consume("a", 4.25)) == 4.25
    assert store.remaining() == 95.75


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decoding", [{}, {"decode_responses": True}])
def test_replies_are_read_alike_however_the_client_reads_its_own(server, ask, protocol, decoding):
    use(ask(server.url, protocol=protocol, **decoding))


def test_rows_are_written_alike_whatever_the_encoding_of_the_client(server, ask):
    use(ask(server.url, encoding="utf-16", decode_responses=True))
    assert (
        server.command("HGET", "schematic:credit-lease:comp_acme:credit_inference", "leaseId")
        == "lse"
    )


def test_a_server_behind_a_file_is_reached(server, ask):
    path = server.command("CONFIG GET", "unixsocket")["unixsocket"]
    use(ask(f"unix://{path}"))


def test_a_password_and_a_database_are_those_of_the_client(server, ask):
    server.command("ACL", "SETUSER", "pod", "on", "resetpass", ">secret", "~*", "+@all")
    use(ask(f"redis://pod:secret@127.0.0.1:{server.port}/3"))
    assert server.command("DBSIZE") == 0


def test_a_wrong_password_is_a_failure_that_did_nothing(server, ask):
    server.command("ACL", "SETUSER", "pod", "on", "resetpass", ">secret", "~*", "+@all")
    store = ask(f"redis://pod:wrong@127.0.0.1:{server.port}/0")
    with pytest.raises(StoreError, match="cannot be reached") as failure:
        store.lend()
    assert not failure.value.lost
    assert "wrong" not in str(failure.value)


class NoCredentials(CredentialProvider):
    """A user's own provider that cannot reach what it asks."""

    def get_credentials(self) -> tuple[str]:
        raise LookupError("no token today")


def test_whatever_a_provider_of_credentials_raises_is_a_failure_of_the_store(server, ask):
    store = ask(server.url, credential_provider=NoCredentials())
    with pytest.raises(StoreError, match="no token today") as failure:
        store.lend()
    assert not failure.value.lost


def test_asynchronous_checks_share_as_many_connections_as_the_pool_may_have(server):
    store = Asked(redis.asyncio.Redis.from_url(server.url, max_connections=5))
    store.lend()
    before = server.command("INFO", "stats")["total_connections_received"]
    debits = store.together([store.operations.try_reserve(SLOT, 1.0) for _ in range(50)], 5.0)
    assert sorted(debit.remaining for debit in debits) == [*range(50, 100)]
    after = server.command("INFO", "stats")["total_connections_received"]
    assert after - before <= 5 + 1  # and the one that asks for this
    store.close()


def test_a_check_that_finds_every_connection_in_use_waits_no_longer_than_its_time(server):
    store = Asked(redis.asyncio.Redis.from_url(server.url, max_connections=1))
    store.lend()
    server.freeze()
    try:
        waits = [store.operations.try_reserve(SLOT, 1.0) for _ in range(3)]
        failures = store.together(waits, 0.1)
    finally:
        server.thaw()
    assert [type(failure) for failure in failures] == [StoreError] * 3
    # One was sent. Nobody knows of it; the others surely did nothing.
    assert sorted(failure.lost for failure in failures) == [False, False, True]
    store.close()


def test_a_new_connection_to_a_server_that_says_nothing_ends_with_the_time_given(ask):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = ask(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        started = time.monotonic()
        with pytest.raises(StoreError) as failure:
            store.run(store.operations.lease(SLOT), 0.1)
        assert time.monotonic() - started < 0.9
    assert not failure.value.lost


def test_a_connection_made_in_a_hurry_has_its_ordinary_limits_afterwards(server):
    store = Asked(redis.Redis.from_url(server.url))
    made: list[Any] = []
    make = store.links._make
    store.links._make = lambda **settings: made.append(make(**settings)) or made[-1]
    store.run(store.operations.lease(SLOT), 0.5)
    [connection] = made
    assert connection._sock.gettimeout() == 1.0
    assert connection.socket_connect_timeout == connection.socket_timeout == 1.0
    store.close()


def test_a_server_that_has_become_a_replica_is_left_for_what_the_address_leads_to(server, ask):
    store = ask(server.url)
    store.lend()
    server.command("REPLICAOF", "127.0.0.1", "1")
    try:
        known = {client["id"] for client in server.clients()}
        with pytest.raises(StoreError, match="read only") as failure:
            store.run(store.operations.try_reserve(SLOT, 1.0))
        assert not failure.value.lost
    finally:
        server.command("REPLICAOF", "NO", "ONE")
    assert store.run(store.operations.try_reserve(SLOT, 1.0)).remaining == 99
    assert {client["id"] for client in server.clients()}.isdisjoint(known)


def test_a_failover_that_sentinel_decides_is_followed(kind):
    with Sentinel() as sentinel:
        module: Any = redis.sentinel if kind == "sync" else redis.asyncio.sentinel
        watched = module.Sentinel([("127.0.0.1", sentinel.port)])
        store = Asked(watched.master_for("watched"), *watched.sentinels)
        store.lend()
        assert store.run(store.operations.try_reserve(SLOT, 10.0)).remaining == 90
        eventually(sentinel.is_replicated)
        master = sentinel.fail_over()

        def is_answered() -> bool:
            debit = store.attempt(store.operations.try_reserve(SLOT, 1.0))
            return debit is not None and debit.remaining == 89

        eventually(is_answered, 30.0)
        with redis.Redis.from_url(sentinel.address_of_master()) as reader:
            assert reader.connection_pool.connection_kwargs["port"] != master.port
            assert reader.hget("schematic:credit-lease:comp_acme:credit_inference",
                               "localRemainingCredits") == b"89"  # fmt: skip
        store.close()


# Rest


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


FAULT = ConnectionError("cut")


def test_a_server_that_failed_rests_longer_after_each_fault_and_is_asked_again():
    clock = Clock()
    rest = Rest(clock)
    for length in (FIRST_REST, 0.1, 0.2, 0.4, 0.8, LONGEST_REST, LONGEST_REST):
        rest.note(unheard(FAULT), FAULT, rest.begin())
        clock.now += length * 0.99
        with pytest.raises(StoreError, match="cut") as failure:
            rest.begin()
        assert not failure.value.lost
        clock.now += length * 0.02
    rest.begin()
    rest.end()
    rest.note(unheard(FAULT), FAULT, rest.begin())
    clock.now += FIRST_REST
    assert rest.begin() == clock.now


def test_a_time_too_short_to_judge_by_is_no_reason_to_rest():
    clock = Clock()
    rest = Rest(clock)
    error = TimeoutError()
    began = rest.begin()
    clock.now += PATIENCE / 2
    rest.note(unheard(error), error, began)
    assert rest.begin() == clock.now
    clock.now = began + PATIENCE
    rest.note(unheard(error), error, began)
    with pytest.raises(StoreError):
        rest.begin()
