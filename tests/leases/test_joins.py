"""What the DataStream tells of leases that processes share without a store, and what is done about it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native.leases.endings import Endings
from schematic_native.leases.flights import Calls
from schematic_native.leases.joins import LONGEST_PUSH, MOST_WATCHED, Joins
from schematic_native.service.errors import ApiConnectionError, ApiError, PaymentRequiredError
from schematic_native.service.responses import GrantedLease
from tests.conftest import eventually_async
from tests.leases.managers import COMPANY, CREDIT, SLOT, api, clock, core, hold, leases, soon

if TYPE_CHECKING:
    from schematic_native._native import Core
    from schematic_native.leases.manager import Leases

__all__ = ["api", "clock", "core", "leases"]

COMPANY_TYPE = "rulesengine.Company"


def ask(joins: Joins, slot: tuple[str, str]) -> None:
    """Make a request that is granted."""
    with joins.asking(slot, 1000.0):
        pass


def push(
    core: Core, leases: Leases | Joins, balance: Any, reserved: Any = None, kind: str = "partial"
) -> Any:
    """Tell of a company's credits what the service would."""
    data: dict[str, Any] = {"id": COMPANY, "credit_balances": {CREDIT: balance}}
    if reserved is not None:
        data["credit_lease_balance"] = {CREDIT: {"remaining": balance, "reserved": reserved}}
    message = json.dumps(
        {"entity_type": COMPANY_TYPE, "message_type": kind, "entity_id": COMPANY, "data": data}
    ).encode()
    return leases.hear(message, core.ingest(message))


async def share(core: Core, leases: Leases, api: Any, *, is_pushed: bool = True) -> None:
    """Have the process add its 1000 credits to a lease of 1000 that is another's."""

    async def standing(*_arguments: object) -> GrantedLease:
        return GrantedLease("lse_theirs", api.totals["lse_theirs"], api.clock() + 100)

    api.totals["lse_theirs"], api.acquire_lease, grant = 1000.0, standing, api.acquire_lease
    await leases.acquire_if_needed(*SLOT)
    api.acquire_lease = grant
    lease = core.lease(*SLOT)
    assert (lease.lease_id, lease.remaining) == ("lse_theirs", 1000)
    if is_pushed:
        push(core, leases, 8000, 2000)


async def close_beside_another(leases: Leases, api: Any, lease_id: str = "lse_1") -> None:
    """Close while the service says that another process has added 1000 credits to the lease."""
    api.failure, api.acquire_lease = None, answering(GrantedLease(lease_id, 2000.0, None))
    await leases.close(soon())


# The one that acquired a lease first


async def test_a_lease_of_one_process_is_released_without_another_request(core, leases, api):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 1000)
    push(core, leases, 9000, 900)
    push(core, leases, 8500)  # used by others, out of no lease
    await leases.maybe_extend(*SLOT, 1500)
    push(core, leases, 8000, 1350)  # with usage that came between
    await leases.close(soon())
    assert (api.acquires, api.released) == ([1000], ["lse_1"])


async def test_a_push_that_comes_before_the_answer_it_tells_of_is_no_hint(core, leases, api):
    api.gate.clear()
    acquiring = asyncio.create_task(leases.acquire_if_needed(*SLOT))
    await eventually_async(lambda: api.acquires)
    push(core, leases, 9000, 1000)
    api.gate.set()
    await acquiring
    await leases.close(soon())
    assert (api.acquires, api.released) == ([1000], ["lse_1"])


async def test_a_lease_that_another_process_has_joined_is_left_to_it(core, leases, api):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 1000)
    push(core, leases, 9000, 700)
    push(core, leases, 8000, 1690)
    api.ids = ["lse_1"]
    await close_beside_another(leases, api)
    assert api.released == []


async def test_nobody_is_told_of_who_joins_once_the_company_is_deleted(core, leases, api):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 1000)
    push(core, leases, 9000, kind="delete")
    await close_beside_another(leases, api)
    assert api.released == []


def answering(lease: GrantedLease) -> Any:
    async def answer(*_arguments: object) -> GrantedLease:
        return lease

    return answer


async def test_a_hint_that_was_none_costs_a_request_and_no_more(core, leases, api):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 1000)
    push(core, leases, 8980, 1020)  # a hold that the service itself keeps
    api.acquire_lease = answering(GrantedLease("lse_1", 1000.0, None))
    await leases.close(soon())
    assert api.released == ["lse_1"]


async def test_what_was_asked_for_long_ago_explains_nothing_that_is_pushed_now(
    core, leases, api, clock
):
    await leases.acquire_if_needed(*SLOT)
    clock.now += LONGEST_PUSH + 1
    push(core, leases, 9000, 1000)
    await close_beside_another(leases, api)
    assert api.released == []


async def test_a_request_that_was_refused_explains_nothing(core, leases, api):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 1000)
    api.failure = PaymentRequiredError("too few credits", 402)
    await leases.maybe_extend(*SLOT, 1500)
    assert api.extends
    push(core, leases, 8000, 2000)
    await close_beside_another(leases, api)
    assert api.released == []


async def test_a_request_that_is_refused_after_the_push_has_explained_nothing(core, leases, api):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 1000)
    api.failure = PaymentRequiredError("too few credits", 402)
    api.gate.clear()
    extending = asyncio.create_task(leases.maybe_extend(*SLOT, 2000))
    await eventually_async(lambda: api.extends)
    push(core, leases, 8000, 2000)
    api.gate.set()
    await extending
    await close_beside_another(leases, api)
    assert api.released == []


@pytest.mark.parametrize(
    "error", [ApiConnectionError("cut"), ApiError("away", 503), asyncio.CancelledError()]
)
async def test_a_request_whose_outcome_is_unknown_explains_nothing(core, leases, api, error):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 1000)
    api.failure = error
    await leases.maybe_extend(*SLOT, 1500)
    assert api.extends
    push(core, leases, 8000, 2000)
    await close_beside_another(leases, api)
    assert api.released == []


async def test_a_new_lease_that_is_pushed_after_a_larger_one_leaves_nothing_to_explain(
    core, leases, api, clock
):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 7000, 3000)
    clock.now += 400  # the end of the first is not pushed
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 1000)
    push(core, leases, 8000, 2000)
    await close_beside_another(leases, api, "lse_2")
    assert api.released == []


@pytest.mark.parametrize("comes_back", [False, True])
async def test_whoever_could_not_hear_asks_whether_it_is_alone(core, leases, api, comes_back):
    leases.joins.set_sight(is_clear=True)
    await leases.acquire_if_needed(*SLOT)
    leases.joins.set_sight(is_clear=False)
    if comes_back:
        leases.joins.set_sight(is_clear=True)
    await close_beside_another(leases, api)
    assert api.released == []


async def test_the_end_of_the_stream_at_a_shutdown_is_no_hint(leases, api):
    leases.joins.set_sight(is_clear=True)
    await leases.acquire_if_needed(*SLOT)
    leases.joins.stop()
    leases.joins.set_sight(is_clear=False)
    await leases.close(soon())
    assert (api.acquires, api.released) == ([1000], ["lse_1"])


async def test_the_next_lease_is_watched_from_its_beginning(core, leases, api, clock):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 1000)
    push(core, leases, 8000, 2000)
    clock.now += 400
    push(core, leases, 10_000)
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 1000)
    await leases.close(soon())
    assert (api.acquires, api.released) == ([1000, 1000], ["lse_2"])


async def test_a_lease_that_is_handed_out_again_is_not_new(core, leases, api, clock):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 1000)
    push(core, leases, 8000, 2000)
    clock.now += 400  # it has ended by our clock alone
    api.totals["lse_1"] = 2000.0
    api.acquire_lease = answering(GrantedLease("lse_1", 2000.0, clock.now + 5))
    await leases.acquire_if_needed(*SLOT)
    await leases.close(soon())
    assert api.released == []


async def test_a_lease_that_had_ended_before_the_question_leaves_none_behind(core, leases, api):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 8000, 2000)
    push(core, leases, 8000, 2000)
    await leases.close(soon())
    assert (api.acquires, api.released) == ([1000, 1], ["lse_2"])


@pytest.mark.parametrize("error", [ApiConnectionError("cut"), PaymentRequiredError("none", 402)])
async def test_whoever_gets_no_answer_releases_nothing(core, leases, api, error):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 8000, 2000)
    api.failure = error
    await leases.close(soon())
    assert api.released == []


async def test_what_an_earlier_loop_knew_is_not_forgotten(core, leases, api):
    await leases.acquire_if_needed(*SLOT)
    leases.inherit(leases)
    await close_beside_another(leases, api)
    assert api.released == []


# The one that has joined


async def test_a_lease_that_was_released_by_another_is_replaced_when_a_push_tells(
    core, leases, api
):
    await share(core, leases, api)
    hold(core, 300)
    push(core, leases, 10_000)
    await eventually_async(lambda: api.acquires == [1000])
    lease = core.lease(*SLOT)
    assert (lease.lease_id, lease.remaining) == ("lse_1", 1000)


async def test_a_release_that_is_pushed_together_with_the_share_is_noticed(core, leases, api):
    message = {"entity_type": COMPANY_TYPE, "message_type": "partial", "entity_id": COMPANY}
    data = {"id": COMPANY, "credit_balances": {CREDIT: 9000}}
    core.ingest(json.dumps(message | {"data": data}))
    await share(core, leases, api, is_pushed=False)
    push(core, leases, 10_000)
    await eventually_async(lambda: api.acquires == [1000])


async def test_it_is_dropped_where_the_company_has_no_credits_for_another(core, leases, api):
    await share(core, leases, api)
    api.failure = PaymentRequiredError("none", 402)
    push(core, leases, 0, 0)
    await eventually_async(lambda: core.lease(*SLOT) is None)


async def test_less_in_leases_than_is_left_here_says_that_it_was_released(core, leases, api):
    await share(core, leases, api)
    push(core, leases, 9500, 500)  # of another's
    await eventually_async(lambda: api.acquires == [1000])
    assert core.lease(*SLOT).lease_id == "lse_1"


@pytest.mark.parametrize(("balance", "reserved"), [(8000, 1000), (7000, None), (8000, None)])
async def test_what_others_use_is_no_reason_to_ask(core, leases, api, balance, reserved):
    await share(core, leases, api)
    push(core, leases, balance, reserved)
    await leases._calls.drain(soon())
    assert api.acquires == []


async def test_a_lease_that_still_lives_is_kept_with_its_holds(core, leases, api):
    await share(core, leases, api)
    hold(core, 300)
    api.ids = ["lse_theirs"]
    push(core, leases, 20_000)  # a top-up
    await leases._calls.drain(soon())
    lease = core.lease(*SLOT)
    assert (lease.lease_id, lease.remaining, api.acquires) == ("lse_theirs", 700, [1000])


async def test_after_a_gap_it_asks_once(core, leases, api):
    await share(core, leases, api)
    push(core, leases, 8000, kind="full")
    await eventually_async(lambda: core.lease(*SLOT).lease_id == "lse_1")
    assert api.acquires == [1000]


async def test_a_lease_that_nobody_shares_is_never_asked_about(core, leases, api):
    await leases.acquire_if_needed(*SLOT)
    push(core, leases, 9000, 10)
    push(core, leases, 10_000)
    push(core, leases, 10_000, kind="full")
    await leases._calls.drain(soon())
    assert api.acquires == [1000]


async def test_a_slot_is_asked_about_once_in_a_while_and_the_last_hint_counts(faults):
    asked = []

    async def replace(_slot: object, lease_id: str) -> None:
        asked.append(lease_id)

    calls = Calls(faults)
    endings = Endings(calls, replace, pause=0.01)
    for lease_id in ("lse_1", "lse_1", "lse_2"):
        endings.suspect(SLOT, lease_id)
    await calls.drain(soon())
    assert asked == ["lse_1"]
    await eventually_async(lambda: asked == ["lse_1", "lse_2"])
    await eventually_async(lambda: not endings._asked)


async def test_a_lease_that_was_joined_is_asked_about_if_nothing_is_told_of_it(core, leases, api):
    leases._endings._pause = 0.0
    await share(core, leases, api, is_pushed=False)
    await eventually_async(lambda: core.lease(*SLOT).lease_id == "lse_1")
    assert api.acquires == [1000]


async def test_only_what_nothing_was_told_of_is_asked_about(faults):
    asked = []

    async def replace(_slot: object, lease_id: str) -> None:
        asked.append(lease_id)

    endings = Endings(Calls(faults), replace, pause=0.0)
    endings.confirm(SLOT, "lse_1", lambda _slot: True)
    endings.confirm(SLOT, "lse_2", lambda _slot: False)
    await eventually_async(lambda: asked)
    assert asked == ["lse_2"]


def test_what_was_told_before_a_lease_was_asked_for_says_nothing_of_it(core):
    joins = Joins(core)
    joins.begin(SLOT)
    assert not joins.is_told(SLOT)
    push(core, joins, 9000)
    assert not joins.is_told(SLOT)
    push(core, joins, 9000, 1000)
    assert joins.is_told(SLOT)
    joins.begin(SLOT)
    assert not joins.is_told(SLOT)


# Whatever is pushed


@pytest.mark.parametrize(
    "data",
    [
        None, [], {}, "text", {"credit_lease_balance": None}, {"credit_lease_balance": [1]},
        {"credit_lease_balance": {CREDIT: 7}}, {"credit_lease_balance": {CREDIT: {"reserved": "5"}}},
        {"credit_lease_balance": {CREDIT: {"reserved": True, "remaining": []}}},
        {"credit_balances": {CREDIT: None}}, {"credit_balances": 3},
        {"credit_lease_balance": {CREDIT: {"reserved": 10**400, "remaining": float("nan")}}},
    ],
)  # fmt: skip
def test_a_push_that_says_nothing_of_leases_says_nothing(core, data):
    joins = Joins(core)
    ask(joins, SLOT)
    core.install_lease(*SLOT, "lse_0", 1000, core.now() + 300)
    message = json.dumps(
        {
            "entity_type": COMPANY_TYPE,
            "message_type": "partial",
            "entity_id": COMPANY,
            "data": data,
        }
    ).encode()
    assert joins.hear(message, core.ingest(message)) == []
    assert not joins.is_joined(SLOT)


def test_a_message_that_cannot_be_read_says_nothing(core):
    joins = Joins(core)
    ask(joins, SLOT)
    known = json.dumps(
        {"entity_type": COMPANY_TYPE, "message_type": "partial", "entity_id": COMPANY}
    )
    assert joins.hear(b"\xff", core.ingest(known)) == []


def test_no_more_slots_are_watched_than_fit(core, monkeypatch):
    monkeypatch.setattr("schematic_native.leases.joins.MOST_WATCHED", 2)
    joins = Joins(core)
    for number in range(4):
        ask(joins, (COMPANY, f"credit{number}"))
    ask(joins, ("comp_other", CREDIT))
    joins.set_sight(is_clear=False)
    watched = [number for number in range(4) if joins.is_joined((COMPANY, f"credit{number}"))]
    assert (watched, joins.is_joined(("comp_other", CREDIT))) == ([3], True)
    assert MOST_WATCHED > 10_000
