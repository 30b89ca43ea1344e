"""Connections to one server: made as the user's client makes its own, and never trusted too far."""

from __future__ import annotations

import asyncio
import socket
import time
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from redis.credentials import CredentialProvider

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.failures import unheard
from tests.conftest import eventually
from tests.limits import within
from tests.ports import free_port
from tests.stores.callers import BOTH, LEASE, PATIENCE, SLOT, Caller, Kind, hold
from tests.stores.servers import RedisServer, Sentinel

if TYPE_CHECKING:
    from collections.abc import Callable

ASYNC = Kind(is_async=True)


class Reached:
    """Servers as a test reaches them: by a URL, or by what the test makes of redis-py."""

    def __init__(self, client_of: Callable[[Any], Any]) -> None:
        self.connect = client_of


@pytest.fixture(params=BOTH, ids=str)
def kind(request) -> Kind:
    return request.param


@pytest.fixture
def call(kind, make_caller) -> Callable[..., Caller]:
    """Makes a caller that reaches a server by its URL."""

    def make(url: str, **settings: Any) -> Caller:
        reached = Reached(lambda module: module.Redis.from_url(url, **settings))
        return make_caller(reached, kind)

    return make


def lend(caller: Caller) -> None:
    """Install a lease of 100 credits."""
    assert caller.do(caller.ask.install(SLOT, "lease_1", 100.0, time.time() + 3600)).written


def use(caller: Caller) -> None:
    """Take a hold and settle it."""
    lend(caller)
    assert caller.do(caller.ask.try_reserve(SLOT, 10.5)).remaining == 89.5
    assert caller.do(caller.ask.add(hold("a", credits_reserved=10.5)))
    assert caller.do(caller.ask.consume("a", 4.25)) == 4.25
    assert caller.do(caller.ask.lease(SLOT)).remaining == 95.75


def together(caller: Caller, count: int, timeout: float) -> list[Any]:
    """Reserve so often at the same time, one credit each."""

    async def gather() -> list[Any]:
        debits = [
            caller.store.run(caller.ask.try_reserve(SLOT, 1.0), timeout) for _ in range(count)
        ]
        return await asyncio.gather(*debits, return_exceptions=True)

    return caller.loop.run_until_complete(gather())


def test_rows_are_written_alike_whatever_the_encoding_of_the_client(server, call):
    use(call(server.url, encoding="utf-16", decode_responses=True))
    assert server.command("HGET", LEASE, "leaseId") == "lease_1"


def test_a_server_behind_a_file_is_reached(server, call):
    use(call(f"unix://{server.file}"))


def test_a_server_that_speaks_tls_is_reached(call, tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    names = [tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem")]
    authority.cert_pem.write_to_path(names[0])
    certificate.cert_chain_pems[0].write_to_path(names[1])
    certificate.private_key_pem.write_to_path(names[2])
    port = free_port()
    options = zip(
        (
            "--tls-port",
            "--tls-ca-cert-file",
            "--tls-cert-file",
            "--tls-key-file",
            "--tls-auth-clients",
        ),
        (str(port), *map(str, names), "no"),
        strict=True,
    )
    server = RedisServer(*chain.from_iterable(options)).start()
    try:
        caller = call(f"rediss://127.0.0.1:{port}/0", ssl_ca_certs=str(names[0]))
        use(caller)
        # A second connection, and one that ends under it.
        with server.frozen(), pytest.raises(StoreError) as failure:
            caller.do(caller.ask.try_reserve(SLOT, 1.0), 1.0)
        assert failure.value.lost
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        def is_answered() -> bool:
            try:
                return caller.do(caller.ask.lease(SLOT)) is not None
            except StoreError:
                return False

        eventually(is_answered)
    finally:
        server.remove()


def test_a_password_and_a_database_are_those_of_the_client(server, call):
    server.command("ACL", "SETUSER", "pod", "on", "resetpass", ">secret", "~*", "+@all")
    use(call(f"redis://pod:secret@127.0.0.1:{server.port}/3"))
    assert server.command("DBSIZE") == 0


def test_a_wrong_password_is_a_failure_that_did_nothing(server, call):
    server.command("ACL", "SETUSER", "pod", "on", "resetpass", ">secret", "~*", "+@all")
    caller = call(f"redis://pod:wrong@127.0.0.1:{server.port}/0")
    with pytest.raises(StoreError, match="cannot be reached") as failure:
        lend(caller)
    assert not failure.value.lost
    assert "wrong" not in str(failure.value)


class NoCredentials(CredentialProvider):
    """A user's own provider that cannot reach what it asks."""

    def get_credentials(self) -> tuple[str]:
        raise LookupError("no token today")


def test_whatever_a_provider_of_credentials_raises_is_a_failure_of_the_store(server, call):
    caller = call(server.url, credential_provider=NoCredentials())
    with pytest.raises(StoreError, match="no token today") as failure:
        lend(caller)
    assert not failure.value.lost


def test_asynchronous_checks_share_as_many_connections_as_the_pool_may_have(server, make_caller):
    caller = make_caller(server, ASYNC, max_connections=5)
    lend(caller)
    before = server.command("INFO", "stats")["total_connections_received"]
    debits = together(caller, 50, PATIENCE)
    assert sorted(debit.remaining for debit in debits) == [*range(50, 100)]
    after = server.command("INFO", "stats")["total_connections_received"]
    assert after - before <= 5 + 1  # and the one that asks for this


def test_a_check_that_finds_every_connection_in_use_waits_no_longer_than_its_time(
    server, make_caller
):
    caller = make_caller(server, ASYNC, max_connections=1)
    lend(caller)
    with server.frozen():
        failures = together(caller, 3, 1.0)
    assert [type(failure) for failure in failures] == [StoreError] * 3
    # One was sent. Nobody knows of it; the others surely did nothing.
    assert sorted(failure.lost for failure in failures) == [False, False, True]


def test_a_new_connection_to_a_server_that_says_nothing_ends_with_the_time_given(call):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        caller = call(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        for _ in within(0.9):
            with pytest.raises(StoreError) as failure:
                caller.do(caller.ask.lease(SLOT), 0.1)
            assert not failure.value.lost


def test_a_connection_opened_too_late_for_its_caller_serves_the_next(server, make_caller):
    caller = make_caller(server)

    def is_connected() -> bool:
        try:
            return caller.do(caller.ask.lease(SLOT), 0.25) is None
        except StoreError:  # a busy machine took longer
            return False

    eventually(is_connected)
    known = server.clients()
    # Answered only after that time would have been over.
    server.command("CLIENT", "PAUSE", 500, "ALL")
    assert caller.do(caller.ask.lease(SLOT)) is None
    assert {client["id"] for client in known} <= {client["id"] for client in server.clients()}


def test_after_a_failover_the_address_leads_to_the_new_master(server, call):
    caller = call(server.url)
    lend(caller)
    server.command("REPLICAOF", "127.0.0.1", "1")
    try:
        known = {client["id"] for client in server.clients()}
        with pytest.raises(StoreError, match="read only") as failure:
            caller.do(caller.ask.try_reserve(SLOT, 1.0))
        assert not failure.value.lost
    finally:
        server.command("REPLICAOF", "NO", "ONE")
    assert caller.do(caller.ask.try_reserve(SLOT, 1.0)).remaining == 99
    assert {client["id"] for client in server.clients()}.isdisjoint(known)


def test_a_failover_that_sentinel_decides_is_followed(kind, make_caller):
    with Sentinel() as sentinel:
        watchers: list[Any] = []

        def reach(module: Any) -> Any:
            watched = module.sentinel.Sentinel([("127.0.0.1", sentinel.port)])
            watchers.extend(watched.sentinels)
            return watched.master_for("watched")

        caller = make_caller(Reached(reach), kind)
        lend(caller)
        assert caller.do(caller.ask.try_reserve(SLOT, 10.0)).remaining == 90
        eventually(sentinel.is_replicated)
        dead = sentinel.fail_over()

        def is_answered() -> bool:
            try:
                return caller.do(caller.ask.try_reserve(SLOT, 1.0)).remaining == 89
            except StoreError:
                return False

        eventually(is_answered)
        assert sentinel.address_of_master() != dead.url
        for watcher in watchers:
            if kind.is_async:
                caller.loop.run_until_complete(watcher.aclose())
            else:
                watcher.close()


FAULT = ConnectionError("cut")


def test_the_refund_of_a_claim_is_sent_even_to_a_server_that_is_left_alone(server, call):
    caller = call(server.url)
    lend(caller)
    caller.do(caller.ask.try_reserve(SLOT, 20))
    caller.do(caller.ask.add(hold()))
    connections = caller.store._connections

    def settle() -> Any:
        """Settle, while others find after the claim that the server has failed."""
        settling = caller.ask.consume("hold_1", 5)
        claimed = yield next(settling)
        for _ in range(5):
            connections._breaker.failed(unheard(FAULT), FAULT, time.monotonic())
        ends = yield settling.send(claimed)
        with pytest.raises(StopIteration) as stop:
            settling.send(ends)
        return stop.value.value

    before = float(server.command("HGET", LEASE, "localRemainingCredits"))
    assert caller.do(settle()) == 5
    assert float(server.command("HGET", LEASE, "localRemainingCredits")) == before + 15
