"""Whether a lease is this process's own or a sibling's, and what of it may be spent."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from schematic_native._native import Core
from schematic_native.config.lease_settings import LeaseSettings
from schematic_native.leases.manager import Leases
from schematic_native.leases.process_store import ProcessStore
from schematic_native.leases.work import Work
from schematic_native.service.errors import ApiConnectionError, ApiError, PaymentRequiredError
from schematic_native.service.responses import GrantedLease
from tests.conftest import eventually_async
from tests.leases.managers import (
    COMPANY,
    SLOT,
    Clock,
    LeaseApi,
    api,
    clock,
    core,
    hold,
    install,
    leases,
    soon,
)

__all__ = ["api", "clock", "core", "leases"]


async def test_of_another_processs_lease_only_what_was_added_is_spent_and_nothing_released(
    core, leases, api, clock
):
    async def handed_out(*_arguments: object, **_options: object) -> GrantedLease:
        api.totals["lse_theirs"] = 1000
        return GrantedLease("lse_theirs", 1000, clock.now + 200)

    api.acquire_lease = handed_out
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert api.extends == [("lse_theirs", 1000)]
    assert (lease.lease_id, lease.granted, lease.remaining) == ("lse_theirs", 1000, 1000)
    await leases.close(soon())
    assert api.released == []


async def test_what_is_shared_is_not_released_by_a_manager_on_a_later_loop(
    core, leases, api, faults
):
    install(core, api)
    api.totals["lse_0"] += 5000  # by another process
    hold(core, 800)
    await leases.maybe_extend(*SLOT)
    following = Leases(Work(core, api, faults), LeaseSettings())
    following.inherit(leases)
    await following.close(soon())
    assert api.released == []


class SharedLedger(ProcessStore):
    """A store that siblings share, as far as the lease manager can tell."""

    shared = True

    async def has_ended(self, _slot: tuple[str, str], _lease_id: str) -> bool:
        return False


@pytest.mark.parametrize(("is_installed", "remaining"), [(True, 1000), (False, 0)])
async def test_a_lease_of_a_sibling_is_left_to_the_sibling_to_install(
    core, api, clock, faults, is_installed, remaining
):
    async def handed_out(*_arguments: object, **_options: object) -> GrantedLease:
        if is_installed:
            asyncio.get_running_loop().call_soon(install, core, api, 1000, "lse_theirs")
        return GrantedLease("lse_theirs", 1000, clock.now + 200)

    api.acquire_lease = handed_out
    leases = Leases(Work(core, api, faults), LeaseSettings(), store=SharedLedger(core))
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert (lease.lease_id, lease.remaining) == ("lse_theirs", remaining)
    assert (api.extends, api.released) == ([], [])


@pytest.mark.parametrize(("duration", "early"), [(600.0, 30.0), (300.0, 30.0), (5.0, 0.5)])
async def test_the_end_that_is_asked_for_is_up_to_half_a_minute_early(
    api, clock, faults, duration, early
):
    core = Core(api_key="k", clock=clock, lease_duration=duration)
    ends = []
    for jitter in (0.0, 0.5, 1.0):
        leases = Leases(
            Work(core, api, faults), LeaseSettings(), jitter=lambda jitter=jitter: jitter
        )
        lease = await leases.acquire_if_needed(COMPANY, f"credit {jitter}")
        assert lease is not None
        ends.append(lease.expires_at - clock.now)
    expected = [duration, duration - early / 2, duration - early]
    assert ends == pytest.approx(expected, abs=1e-4)


def to_the_millisecond(end: float) -> float:
    return int(end * 1000) / 1000


@pytest.mark.parametrize(
    ("keep", "extends"), [(lambda end: end, []), (to_the_millisecond, [("lse_ours", 1)])]
)
async def test_a_lease_that_ends_as_asked_is_ours_also_to_the_millisecond(
    core, api, faults, keep, extends
):
    async def granted(_company: str, _credit: str, amount: float, ends: float) -> GrantedLease:
        api.totals["lse_ours"] = amount
        return GrantedLease("lse_ours", amount, keep(ends))

    api.acquire_lease = granted
    leases = Leases(Work(core, api, faults), LeaseSettings(), jitter=lambda: 0.1234567)
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert lease.remaining == lease.granted == api.totals["lse_ours"]
    assert api.extends == extends
    await leases.close(soon())
    assert api.released == ["lse_ours"]


@pytest.mark.parametrize(
    ("granted", "remaining"), [(1000.0, 1001.0), (2000.0, 0.0)], ids=["ours", "extended"]
)
async def test_in_a_shared_store_a_lease_that_ends_in_the_millisecond_asked_for_must_be_proven(
    core, api, faults, granted, remaining
):
    async def handed_out(_company: str, _credit: str, _amount: float, ends: float) -> GrantedLease:
        total = api.totals.setdefault("lse_lost", granted)
        return GrantedLease("lse_lost", total, to_the_millisecond(ends))

    api.acquire_lease = handed_out
    store = SharedLedger(core)
    leases = Leases(Work(core, api, faults), LeaseSettings(), store=store, jitter=lambda: 0.1234567)
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert lease.remaining == remaining
    assert api.extends == [("lse_lost", 1)]


async def test_of_two_that_ask_for_one_millisecond_none_spends_what_the_other_was_given(
    clock, api, faults
):
    async def handed_out(_company: str, _credit: str, amount: float, ends: float) -> GrantedLease:
        total = api.totals.setdefault("lse_both", amount)
        return GrantedLease("lse_both", total, to_the_millisecond(ends))

    api.acquire_lease = handed_out
    held = []
    for jitter in (0.123_456_7, 0.123_456_8):
        core = Core(api_key="k", clock=clock, lease_size=1000)
        leases = Leases(
            Work(core, api, faults), LeaseSettings(), jitter=lambda jitter=jitter: jitter
        )
        lease = await leases.acquire_if_needed(*SLOT)
        assert lease is not None
        held.append(lease.remaining)
    # Of the later one, the credit by which it looked is nobody's until the lease ends.
    assert held == [1001, 1000]
    assert api.totals["lse_both"] == 2002


async def test_a_lease_that_took_the_last_credits_is_spent_without_the_proof(core, api, faults):
    async def granted(_company: str, _credit: str, amount: float, ends: float) -> GrantedLease:
        return GrantedLease("lse_ours", amount, to_the_millisecond(ends))

    async def refused(*_arguments: object) -> GrantedLease:
        raise PaymentRequiredError("no credits", status=402)

    api.acquire_lease, api.extend_lease = granted, refused
    leases = Leases(Work(core, api, faults), LeaseSettings(), jitter=lambda: 0.1234567)
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert lease.remaining == 1000


@pytest.mark.parametrize(
    ("total", "is_retried", "extends", "released"),
    [
        (1000, False, 0, ["lse_1"]),
        (1000, True, 0, ["lse_1"]),
        # A sibling was handed the lease, and has added its share, before our retry was answered.
        (2000, True, 1, []),
        (1500, True, 1, []),
    ],
)
async def test_a_retried_acquire_never_takes_what_a_sibling_has_added_to_the_lease(
    core, leases, api, total, is_retried, extends, released
):
    async def answered(_company: str, _credit: str, _amount: float, ends: float) -> GrantedLease:
        api.totals["lse_1"] = total
        return GrantedLease("lse_1", total, ends, is_retried)

    api.acquire_lease = answered
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert (lease.granted, lease.remaining) == (1000, 1000)
    assert api.extends == [("lse_1", 1000)] * extends
    await leases.close(soon())
    assert api.released == released


async def test_what_another_process_adds_to_our_lease_is_not_ours_to_spend(core, leases, api):
    install(core, api)
    hold(core, 800)
    api.totals["lse_0"] += 5000  # by another process
    await leases.maybe_extend(*SLOT)
    lease = core.lease(*SLOT)
    assert lease is not None
    assert (lease.granted, lease.remaining) == (2000, 1200)
    # Others spend it still: it ends at its expiry.
    await leases.close(soon())
    assert api.released == []


@pytest.mark.parametrize("first", [0, 1])
async def test_extends_that_are_answered_in_any_order_are_all_ours(core, leases, api, first):
    install(core, api)
    answers: list[asyncio.Future[None]] = [asyncio.get_running_loop().create_future() for _ in "ab"]
    carried_out = 0

    async def extend(lease_id: str, amount: float, expires_at: float) -> GrantedLease:
        nonlocal carried_out
        answer = answers[carried_out]
        carried_out += 1
        api.totals[lease_id] += amount
        total = api.totals[lease_id]
        await answer
        return GrantedLease(lease_id, total, expires_at)

    api.extend_lease = extend
    small = asyncio.create_task(leases.maybe_extend(*SLOT, 1500))
    await eventually_async(lambda: carried_out == 1)
    del leases._extends.by_slot[SLOT]  # as if it had been joined too often
    large = asyncio.create_task(leases.maybe_extend(*SLOT, 5000))
    await eventually_async(lambda: carried_out == 2)
    for at in (first, 1 - first):
        answers[at].set_result(None)
        await asyncio.wait({(small, large)[at]})
    lease = core.lease(*SLOT)
    assert lease is not None
    assert lease.granted == api.totals["lse_0"]
    await leases.close(soon())
    assert api.released == ["lse_0"]


async def test_our_own_lease_that_the_service_still_has_is_used_further(core, leases, api, clock):
    install(core, api)
    hold(core, 800)
    clock.now += 301  # here it has expired, on a slower clock it has not

    async def handed_out(*_arguments: object, **_options: object) -> GrantedLease:
        return GrantedLease("lse_0", 1000, clock.now - 1)

    api.acquire_lease = handed_out
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert (lease.lease_id, lease.granted, lease.remaining) == ("lse_0", 2000, 1200)
    await leases.close(soon())
    assert api.released == ["lse_0"]


class DepartingSiblings(LeaseApi):
    """A service whose leases are other processes', which release them right after it has handed them out."""

    def __init__(self, clock: Clock, departing: int) -> None:
        super().__init__(clock)
        self.departing = departing

    async def acquire_lease(
        self, company_id, credit_type_id, requested_amount, expires_at, deadline=None
    ):
        lease = await super().acquire_lease(
            company_id, credit_type_id, requested_amount, expires_at, deadline
        )
        if len(self.acquires) > self.departing:
            return lease
        return replace(lease, granted=requested_amount + 500, expires_at=expires_at - 77)

    async def extend_lease(self, lease_id, additional_amount, expires_at, deadline=None):
        self.extends.append((lease_id, additional_amount))
        raise ApiError(f"lease {lease_id} is released", 400)


async def test_an_acquire_outlives_siblings_that_release_the_lease_it_was_handed(
    core, clock, faults
):
    api = DepartingSiblings(clock, departing=2)
    leases = Leases(Work(core, api, faults), LeaseSettings(), jitter=lambda: 1.0)
    await leases.acquire_if_needed(*SLOT)
    held = core.lease(*SLOT)
    assert held is not None
    assert (held.lease_id, held.granted, len(api.acquires)) == ("lse_3", 1000, 3)
    assert faults.last_error is None


async def test_an_acquire_that_meets_nothing_but_departing_siblings_fails_in_the_end(
    core, clock, faults
):
    api = DepartingSiblings(clock, departing=99)
    leases = Leases(Work(core, api, faults), LeaseSettings(), jitter=lambda: 1.0)
    await leases.acquire_if_needed(*SLOT)
    assert core.lease(*SLOT) is None
    assert len(api.acquires) == 4
    assert "is released" in faults.last_error


class LongestSibling(LeaseApi):
    """A service that has lent all the company's credits to another process, until the millisecond asked for."""

    async def acquire_lease(
        self, company_id, credit_type_id, requested_amount, expires_at, deadline=None
    ):
        lease = await super().acquire_lease(
            company_id, credit_type_id, requested_amount, expires_at, deadline
        )
        return replace(
            lease, granted=requested_amount + 500, expires_at=int(expires_at * 1000) / 1000
        )

    async def extend_lease(self, lease_id, additional_amount, expires_at, deadline=None):
        self.extends.append((lease_id, additional_amount))
        raise PaymentRequiredError("no credits", status=402)


async def test_a_sibling_s_lease_with_our_end_is_not_ours_when_no_credits_are_left_to_prove_it(
    core, clock, faults
):
    api = LongestSibling(clock)
    leases = Leases(Work(core, api, faults), LeaseSettings(), jitter=lambda: 0.123456)
    await leases.acquire_if_needed(*SLOT)
    assert api.extends
    assert core.lease(*SLOT) is None


async def ended(*_arguments: object) -> GrantedLease:
    raise ApiError("the lease is released", 400)


async def test_what_a_process_added_to_a_lease_is_gone_once_its_owner_has_released_it(
    core, leases, api
):
    install(core, api)
    leases._siblings.share("lse_0")
    hold(core, 400)
    api.extend_lease = ended
    await leases.maybe_extend(*SLOT, 700)
    lease = core.lease(*SLOT)
    assert lease is not None
    assert (lease.lease_id, lease.remaining, api.acquires) == ("lse_1", 1000, [1000])


async def test_what_a_process_added_to_a_lease_is_gone_also_if_it_gets_no_other(core, leases, api):
    install(core, api)
    leases._siblings.share("lse_0")
    api.extend_lease, api.failure = ended, ApiConnectionError("refused")
    await leases.maybe_extend(*SLOT, 1700)
    assert core.lease(*SLOT) is None
