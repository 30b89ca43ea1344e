"""Two clients without Redis on one company: the service lends one lease to both."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from schematic_native import AsyncSchematic, AsyncSchematicConfig, CreditLeaseConfig
from tests.callers import Caller, both_clients
from tests.conftest import ACME, API_KEY, eventually, streaming

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.emulator import Emulator

INFERENCE, CREDIT, COMPANY = "inference", "credit_inference", "comp_acme"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class User(Caller):
    """A program that holds credits and uses them."""

    def use(self, usage: float = 5) -> str:
        """Use credits; returns the lease that they came from."""
        hold = self.do("check", INFERENCE, ACME, usage=usage).reservation
        self.do("track_with_reservation", hold, usage)
        return hold.lease_id

    def turn(self) -> None:
        """Let the loop of the client go on."""
        if self._is_async:
            self.wait(asyncio.sleep(0.01))

    def has_heard(self) -> bool:
        """Tell whether this process has been told that another has joined its lease."""
        self.turn()
        return self.client._runtime._leases.joins.is_joined((COMPANY, CREDIT))

    def lease(self) -> str:
        """Return the lease that this process holds credits of."""
        self.turn()
        return self.client._core.lease(COMPANY, CREDIT).lease_id


def open_user(stack: ExitStack, kind: str, emulator: Emulator) -> User:
    return stack.enter_context(User(kind, streaming(emulator)))


def statuses(emulator: Emulator) -> dict[str, str]:
    return {each: lease["status"] for each, lease in emulator.state()["leases"].items()}


def requests(emulator: Emulator) -> dict[str, Any]:
    counted = emulator.state()["requests"]
    return {kind: counted.get(kind, 0) for kind in ("acquire", "extend", "release")}


@both_clients
def test_a_client_that_is_alone_asks_for_nothing_more_than_its_lease(stack, emulator, kind):
    user = open_user(stack, kind, emulator)
    lease = user.use()
    user.do("shutdown")
    assert requests(emulator) == {"acquire": 1, "extend": 0, "release": 1}
    assert statuses(emulator) == {lease: "released"}


@both_clients
def test_the_first_owner_leaves_its_lease_to_those_that_have_joined_it(stack, emulator, kind):
    first, second = (open_user(stack, kind, emulator) for _ in range(2))
    lease = first.use()
    assert second.use() == lease
    eventually(first.has_heard)
    first.do("shutdown")
    assert statuses(emulator) == {lease: "active"}
    assert second.use(4_000) == lease
    second.do("shutdown")
    state = emulator.state()
    assert state["billed"] == {COMPANY: {"inference_tokens": 4_010}}
    assert (state["anomalies"], emulator.audit()["balanced"]) == ({}, True)


@both_clients
def test_an_owner_whose_stream_was_cut_asks_before_it_releases(stack, emulator, kind):
    first, second = (open_user(stack, kind, emulator) for _ in range(2))
    lease = first.use()
    emulator.drop_sockets()
    eventually(first.has_heard)
    assert second.use() == lease
    first.do("shutdown")
    assert statuses(emulator) == {lease: "active"}


@both_clients
def test_a_lease_that_was_released_all_the_same_is_replaced_within_moments(stack, emulator, kind):
    first, second = (open_user(stack, kind, emulator) for _ in range(2))
    lease = first.use()
    assert second.use() == lease
    # A program that knows nothing of these rules: another SDK, for instance.
    release(emulator, lease)
    eventually(lambda: second.lease() != lease)
    assert second.use() == second.lease()
    second.do("shutdown")
    first.do("shutdown")
    assert emulator.audit()["balanced"]


def release(emulator: Emulator, lease_id: str) -> None:
    url = f"{emulator.base_url}/billing/credits/lease/{lease_id}/release"
    headers = {"X-Schematic-Api-Key": emulator.api_key}
    assert httpx.put(url, headers=headers).status_code == 200


@both_clients
def test_what_others_use_of_the_credits_costs_no_request(stack, emulator, kind):
    user = open_user(stack, kind, emulator)
    user.use()
    emulator.set_balance(COMPANY, CREDIT, 50_000)
    emulator.set_balance(COMPANY, CREDIT, 40_000)
    eventually(
        lambda: user.has_heard() or user.client._core.company_balance(COMPANY, CREDIT) == 40_000
    )
    user.do("shutdown")
    assert requests(emulator) == {"acquire": 1, "extend": 0, "release": 1}


@pytest.mark.parametrize("mode", [None, "client", "server"])
async def test_the_stream_ends_with_its_client_wherever_holds_live(emulator, mode):
    leases = None if mode is None else CreditLeaseConfig(mode=mode)
    client = AsyncSchematic(
        API_KEY, AsyncSchematicConfig(**streaming(emulator, credit_leases=leases))
    )
    await client.initialize()
    assert client.status().ready
    await client.shutdown()
    assert not client.status().connected
    assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}
