"""Claims that a process owes the shared store: made after an interruption, at a shutdown or on a later loop."""

from __future__ import annotations

import asyncio
import threading
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
from schematic_native.leases.shared_store import SharedStore
from schematic_native.redis import Operations, open_store
from schematic_native.redis.keys import Keys
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, eventually_async, streaming
from tests.leases.gates import (
    USED,
    USED_UNITS,
    books,
    core,
    gate,
    left_of_lease,
    make_holds,
    shared,
)
from tests.stores.callers import SLOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.emulator import Emulator
    from schematic_native.redis import Operation
    from tests.stores.servers import RedisServer

__all__ = ["core", "gate", "shared"]


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
        assert begun.wait(PATIENCE)
        user.shutdown()
        settling.join(PATIENCE)
    assert failures == []
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 3}}


def test_a_settle_after_a_shutdown_raises_nothing(user, redis_server):
    result = user.check("inference", ACME, usage=10)
    user.shutdown()
    redis_server.stop()
    user.track_with_reservation(result.reservation, 3)


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
