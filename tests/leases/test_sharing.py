"""Both clients on leases in a real Redis, whichever client of redis-py they are given."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
import redis

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Reservation,
    Schematic,
    SchematicConfig,
)
from schematic_native._native import Core
from schematic_native.leases.shared_store import SharedStore
from schematic_native.redis import Operations
from schematic_native.redis.keys import Keys
from tests.conftest import ACME, API_KEY, eventually
from tests.leases.users import (
    COMPANY,
    CREDIT,
    LEASE,
    User,
    holds,
    lease_row,
    make_user,
    patience,
    remaining,
)

if TYPE_CHECKING:
    from schematic_native.redis import Late, Operation

__all__ = ["make_user", "patience"]


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
    # Nothing but the check extends it.
    user = make_user(default_lease_size=100, low_water_mark=0.0)
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


def test_a_client_of_something_else_is_refused_by_name():
    for config in (SchematicConfig, AsyncSchematicConfig):
        client = Schematic if config is SchematicConfig else AsyncSchematic
        leases = CreditLeaseConfig(redis_client=object())
        with pytest.raises(TypeError, match="redis_client"):
            client(API_KEY, config(credit_leases=leases))
