from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from importlib.resources import files

import pytest

from schematic_native._native import CheckResult, Core
from schematic_native.config.lease_settings import LeaseSettings
from schematic_native.leases.manager import Leases
from schematic_native.leases.process_store import ProcessStore
from schematic_native.leases.work import Work
from schematic_native.service.errors import ApiConnectionError, ApiError, PaymentRequiredError
from schematic_native.service.responses import GrantedLease
from tests.conftest import ACME, eventually_async

COMPANY, CREDIT = "comp_acme", "credit_inference"
SLOT = (COMPANY, CREDIT)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class LeaseApi:
    """Stands in for the lease calls: grants what is asked, once `gate` is open."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.acquires: list[float] = []
        self.extends: list[tuple[str, float]] = []
        self.released: list[str] = []
        self.totals: dict[str, float] = {}
        self.ids = [f"lse_{n}" for n in range(1, 100)]
        self.failure: ApiError | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def acquire_lease(
        self, company_id, credit_type_id, requested_amount, expires_at, deadline=None
    ):
        self.acquires.append(requested_amount)
        lease_id = self.ids.pop(0)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.totals[lease_id] = requested_amount
        return GrantedLease(lease_id, requested_amount, expires_at)

    async def extend_lease(self, lease_id, additional_amount, expires_at, deadline=None):
        self.extends.append((lease_id, additional_amount))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.totals[lease_id] = self.totals.get(lease_id, 0) + additional_amount
        return GrantedLease(lease_id, self.totals[lease_id], expires_at)

    async def release_lease(self, lease_id, deadline=None):
        self.released.append(lease_id)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def core(clock) -> Core:
    """A core that knows the flag `inference` (2 credits a unit) and acme; leases of 1000."""
    core = Core(api_key="k", clock=clock, lease_size=1000)
    seed = json.loads(files("schematic_native.emulator").joinpath("inference.json").read_text())
    messages = [("rulesengine.Flags", seed["flags"]), ("rulesengine.Company", seed["companies"][0])]
    for entity_type, data in messages:
        message = {"entity_type": entity_type, "message_type": "full", "data": data}
        assert core.ingest(json.dumps(message)).skipped == []
    return core


@pytest.fixture
async def api(clock) -> LeaseApi:
    return LeaseApi(clock)


@pytest.fixture
async def leases(core, api, faults) -> Leases:
    return Leases(Work(core, api, faults), LeaseSettings(), jitter=lambda: 1.0)


def install(core: Core, api: LeaseApi, granted: float = 1000, lease_id: str = "lse_0") -> None:
    api.totals[lease_id] = granted
    assert core.install_lease(*SLOT, lease_id, granted, api.clock() + 300) == lease_id


def hold(core: Core, amount: float) -> CheckResult:
    answer = core.check("inference", ACME, None, amount / 2)
    assert isinstance(answer, CheckResult)
    assert answer.allowed
    return answer


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_live_lease_is_returned_without_a_wire_call(core, leases, api):
    install(core, api)
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert (lease.lease_id, api.acquires) == ("lse_0", [])


async def test_concurrent_callers_share_one_acquire(leases, api):
    found = await asyncio.gather(*(leases.acquire_if_needed(*SLOT) for _ in range(50)))
    assert {lease.lease_id for lease in found} == {"lse_1"}
    assert api.acquires == [1000]


async def test_slots_do_not_wait_for_each_other(leases, api):
    api.gate.clear()
    slow = asyncio.create_task(leases.acquire_if_needed(*SLOT))
    await eventually_async(lambda: api.acquires)
    other = asyncio.create_task(leases.acquire_if_needed(COMPANY, "other"))
    await eventually_async(lambda: len(api.acquires) == 2)
    api.gate.set()
    assert all(await asyncio.gather(slow, other))


async def test_a_caller_leaves_at_its_own_deadline_and_the_flight_lands_for_the_next(
    core, leases, api
):
    api.gate.clear()
    patient = asyncio.create_task(leases.acquire_if_needed(*SLOT))
    assert await leases.acquire_if_needed(*SLOT, soon(0.02)) is None
    api.gate.set()
    lease = await patient
    assert lease is not None
    assert (lease.lease_id, api.acquires) == ("lse_1", [1000])
    assert await leases.acquire_if_needed(*SLOT, soon(0)) is not None


async def test_a_failed_acquire_is_no_lease_reported_once_and_no_exception(
    core, leases, api, caplog
):
    caplog.set_level("INFO")
    api.failure = ApiConnectionError("refused")
    assert await leases.acquire_if_needed(*SLOT) is None
    assert await leases.acquire_if_needed(*SLOT) is None
    assert core.lease(*SLOT) is None
    assert len(caplog.records) == 1
    api.failure = None
    assert await leases.acquire_if_needed(*SLOT) is not None
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


async def test_an_expired_lease_is_replaced_and_not_released(core, leases, api, clock):
    install(core, api)
    clock.now += 301
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert (lease.lease_id, api.released) == ("lse_1", [])


async def test_a_lease_that_lost_the_race_for_the_slot_is_released(core, leases, api):
    api.gate.clear()
    acquire = asyncio.create_task(leases.acquire_if_needed(*SLOT))
    await eventually_async(lambda: api.acquires)
    install(core, api, lease_id="lse_winner")
    api.gate.set()
    lease = await acquire
    assert lease is not None
    assert lease.lease_id == "lse_winner"
    await eventually_async(lambda: api.released)
    assert api.released == ["lse_1"]


async def test_the_same_lease_from_two_racers_is_never_released(core, leases, api):
    api.gate.clear()
    acquire = asyncio.create_task(leases.acquire_if_needed(*SLOT))
    await eventually_async(lambda: api.acquires)
    install(core, api, lease_id="lse_1")
    api.gate.set()
    assert await acquire is not None
    await leases.close(soon(1))
    assert api.released == ["lse_1"]  # by closing, once


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
    await leases.close(soon(1))
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
    await following.close(soon(1))
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
    await leases.close(soon(1))
    assert api.released == ["lse_ours"]


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
    assert held == [1001, 1001]
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
    await leases.close(soon(1))
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
    await leases.close(soon(1))
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
    await leases.close(soon(1))
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
    await leases.close(soon(1))
    assert api.released == ["lse_0"]


async def test_a_lease_above_its_low_water_mark_is_not_extended(core, leases, api):
    install(core, api)
    hold(core, 500)
    await leases.maybe_extend(*SLOT)
    assert api.extends == []


async def test_a_low_lease_is_extended_by_one_lease_size(core, leases, api):
    install(core, api)
    hold(core, 800)
    await leases.maybe_extend(*SLOT)
    lease = core.lease(*SLOT)
    assert lease is not None
    assert (api.extends, lease.granted, lease.remaining) == ([("lse_0", 1000)], 2000, 1200)


async def test_a_shortfall_beyond_the_lease_size_is_asked_for_whole(core, leases, api):
    install(core, api)
    hold(core, 200)
    await leases.maybe_extend(*SLOT, 5000)
    assert api.extends == [("lse_0", 4200)]


async def test_concurrent_callers_share_one_extend(core, leases, api):
    install(core, api)
    hold(core, 800)
    await asyncio.gather(*(leases.maybe_extend(*SLOT) for _ in range(50)))
    assert api.extends == [("lse_0", 1000)]


async def test_a_joiner_that_needs_more_waits_and_then_extends_by_what_is_left(core, leases, api):
    install(core, api)
    hold(core, 800)
    api.gate.clear()
    first = asyncio.create_task(leases.maybe_extend(*SLOT))
    await eventually_async(lambda: api.extends)
    greedy = asyncio.create_task(leases.maybe_extend(*SLOT, 5000))
    await asyncio.sleep(0)
    assert len(api.extends) == 1
    api.gate.set()
    await asyncio.gather(first, greedy)
    assert api.extends == [("lse_0", 1000), ("lse_0", 3800)]


async def test_after_two_joins_a_caller_extends_on_its_own(core, leases, api):
    """Each flight lands short of what the caller needs, and another is in the air by then."""
    install(core, api)
    hold(core, 800)
    api.failure = ApiConnectionError("down")
    api.gate.clear()
    first = asyncio.create_task(leases.maybe_extend(*SLOT))
    await eventually_async(lambda: len(api.extends) == 1)
    greedy = asyncio.create_task(leases.maybe_extend(*SLOT, 50_000))
    await asyncio.sleep(0)

    def take_its_place(_task):
        again.append(asyncio.create_task(leases.maybe_extend(*SLOT)))

    again: list[asyncio.Task] = []
    first.add_done_callback(take_its_place)
    api.gate.set()
    await asyncio.gather(first, greedy)
    await asyncio.gather(*again)
    assert ("lse_0", 49_800) in api.extends
    assert len(api.extends) <= 3


async def test_a_failed_extend_changes_nothing_and_raises_nothing(core, leases, api):
    install(core, api)
    hold(core, 800)
    api.failure = ApiError("no", 500)
    await leases.maybe_extend(*SLOT)
    lease = core.lease(*SLOT)
    assert lease is not None
    assert (lease.granted, lease.remaining) == (1000, 200)


async def test_an_expired_lease_is_never_extended(core, leases, api, clock):
    install(core, api)
    hold(core, 800)
    clock.now += 301
    await leases.maybe_extend(*SLOT, 5000)
    assert api.extends == []


async def test_an_extend_never_reaches_the_successor_lease(core, leases, api, clock):
    install(core, api)
    hold(core, 800)
    api.gate.clear()
    extend = asyncio.create_task(leases.maybe_extend(*SLOT))
    await eventually_async(lambda: api.extends)
    clock.now += 301
    install(core, api, granted=50, lease_id="lse_successor")
    api.gate.set()
    await extend
    lease = core.lease(*SLOT)
    assert lease is not None
    assert (lease.lease_id, lease.granted, lease.remaining) == ("lse_successor", 50, 50)


async def test_a_check_that_leaves_a_lease_low_has_it_extended_in_the_background(
    clock, api, core, faults
):
    rings: list[str] = []
    low = Core(api_key="k", clock=clock, lease_size=1000, wake=rings.append)
    seed = json.loads(files("schematic_native.emulator").joinpath("inference.json").read_text())
    for entity_type, data in (
        ("rulesengine.Flags", seed["flags"]),
        ("rulesengine.Company", seed["companies"][0]),
    ):
        low.ingest(json.dumps({"entity_type": entity_type, "message_type": "full", "data": data}))
    leases = Leases(Work(low, api, faults), LeaseSettings())
    install(low, api)
    hold(low, 800)
    assert rings == ["extend"]
    leases.extend_low_slots()
    await eventually_async(lambda: low.lease(*SLOT).granted == 2000)
    assert api.extends == [("lse_0", 1000)]


async def test_a_failing_background_extend_pauses_before_the_next(clock, core, leases, api):
    api.failure = ApiError("no", 402)
    install(core, api)
    hold(core, 800)
    leases.extend_low_slots()
    await eventually_async(lambda: len(api.extends) == 1)
    await asyncio.sleep(0)
    hold(core, 2)
    leases.extend_low_slots()
    await asyncio.sleep(0.01)
    assert len(api.extends) == 1
    # A check that cannot go on without more credits does not wait for that rest.
    await leases.maybe_extend(*SLOT, 5000)
    assert len(api.extends) == 2


def top_up(core: Core, balance: float) -> None:
    message = {
        "entity_type": "rulesengine.Company",
        "message_type": "partial",
        "entity_id": COMPANY,
        "data": {"id": COMPANY, "credit_balances": {CREDIT: balance}},
    }
    assert core.ingest(json.dumps(message)).skipped == []
    assert core.company_balance(*SLOT) == balance


def refuse_the_first(call, refused: asyncio.Event):
    """Make a lease call fail once for want of credits, when the event is set."""
    calls = []

    async def refusing(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            await refused.wait()
            raise PaymentRequiredError("no credits", status=402)
        return await call(*arguments)

    return refusing


@pytest.mark.parametrize("is_pushed", [True, False])
async def test_who_joined_an_extend_that_was_refused_asks_after_a_top_up(
    core, leases, api, is_pushed
):
    refused = asyncio.Event()
    api.extend_lease = refuse_the_first(api.extend_lease, refused)
    install(core, api)
    hold(core, 800)
    leases.extend_low_slots()
    await eventually_async(lambda: leases._extends.by_slot)
    check = asyncio.create_task(leases.maybe_extend(*SLOT, 500))
    await asyncio.sleep(0)
    if is_pushed:
        top_up(core, 77)
    refused.set()
    await check
    assert api.extends == [("lse_0", 1000)] * is_pushed


@pytest.mark.parametrize("is_pushed", [True, False])
async def test_who_joined_an_acquire_that_was_refused_asks_after_a_top_up(
    core, leases, api, is_pushed
):
    refused = asyncio.Event()
    api.acquire_lease = refuse_the_first(api.acquire_lease, refused)
    prewarm = asyncio.create_task(leases.acquire_if_needed(*SLOT))
    await eventually_async(lambda: leases._acquires.by_slot)
    check = asyncio.create_task(leases.acquire_if_needed(*SLOT, None, 50))
    await asyncio.sleep(0)
    if is_pushed:
        top_up(core, 77)
    refused.set()
    assert (await check is not None) is is_pushed
    await prewarm
    assert api.acquires == [1000] * is_pushed


async def test_closing_drains_then_drops_and_releases_live_leases_and_skips_expired_ones(
    core, leases, api, clock
):
    core.install_lease(COMPANY, "expired", "lse_old", 100, clock.now + 10)
    clock.now += 11
    install(core, api)
    api.gate.clear()
    acquire = asyncio.create_task(leases.acquire_if_needed(COMPANY, "other"))
    await eventually_async(lambda: api.acquires)
    close = asyncio.create_task(leases.close(soon(5)))
    await asyncio.sleep(0)
    assert api.released == []
    api.gate.set()
    await asyncio.gather(acquire, close)
    assert sorted(api.released) == ["lse_0", "lse_1"]
    assert core.live_leases() == []


async def test_nothing_new_starts_after_closing(core, leases, api):
    await leases.close(soon(1))
    assert await leases.acquire_if_needed(*SLOT) is None
    install(core, api)
    hold(core, 800)
    await leases.maybe_extend(*SLOT)
    leases.extend_low_slots()
    assert (api.acquires, api.extends) == ([], [])


async def test_closing_keeps_to_its_budget_when_the_server_hangs(core, leases, api):
    install(core, api)
    api.gate.clear()
    acquire = asyncio.create_task(leases.acquire_if_needed(COMPANY, "other"))
    await eventually_async(lambda: api.acquires)
    start = asyncio.get_running_loop().time()
    closing = asyncio.create_task(leases.close(soon(2)))
    await eventually_async(lambda: api.released)
    assert asyncio.get_running_loop().time() - start < 2
    api.gate.set()
    await closing
    # The acquire that hung was given up: no lease may come after the others were released.
    assert await acquire is None
    assert core.live_leases() == []


async def test_a_failed_release_is_logged_and_raises_nothing(core, leases, api, caplog):
    install(core, api)
    api.failure = ApiError("no", 500)
    await leases.close(soon(1))
    assert "lse_0 could not be released" in caplog.text


async def test_a_prewarm_acquires_each_credit_type(core, leases, api):
    await leases.prewarm(ACME, [CREDIT, "other"])
    assert len(api.acquires) == 2
    assert {lease.credit_type_id for lease in core.live_leases()} == {CREDIT, "other"}


async def test_a_prewarm_takes_a_company_id_among_the_keys_as_a_last_resort(core, leases, api):
    await leases.prewarm({"slug": "x", "id": "comp_unheard_of"}, [CREDIT])
    assert [lease.company_id for lease in core.live_leases()] == ["comp_unheard_of"]


async def test_a_prewarm_of_an_unknown_company_gives_up_in_time_and_says_so(
    core, api, faults, caplog, monkeypatch
):
    monkeypatch.setattr("schematic_native.leases.company_lookup.PREWARM_POLL_INTERVAL", 0.001)
    asked = 0

    async def request_company(keys, deadline):
        nonlocal asked
        asked += 1
        return False

    settings = LeaseSettings(prewarm_resolve_timeout=0.5)
    leases = Leases(Work(core, api, faults), settings, request_company=request_company)
    await asyncio.wait_for(leases.prewarm({"id": "nobody"}, [CREDIT]), 5)
    assert asked >= 2
    assert api.acquires == []
    assert "no company was found" in caplog.text


async def test_a_lease_is_asked_for_within_the_hour_of_a_clock_that_is_a_minute_slow(
    api, clock, faults
):
    core = Core(api_key="k", clock=clock, lease_duration=3600, lease_size=1000)
    leases = Leases(Work(core, api, faults), LeaseSettings(), jitter=lambda: 0.0)
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert lease.expires_at == clock.now + 3540
    clock.now += 10
    await leases.maybe_extend(*SLOT, 2000)
    assert core.lease(*SLOT).expires_at == clock.now + 3540


async def test_a_prewarm_keeps_to_its_deadline_while_it_looks_for_the_company(core, api, faults):
    async def request_company(_keys: object, _deadline: float) -> bool:
        return False

    settings = LeaseSettings(prewarm_resolve_timeout=3600)
    leases = Leases(Work(core, api, faults), settings, request_company=request_company)
    await asyncio.wait_for(leases.prewarm({"id": "nobody"}, [CREDIT], soon(0.05)), 10)


async def test_expired_holds_are_swept_at_each_interval(core, leases, api, clock, faults):
    install(core, api)
    hold(core, 800)
    clock.now += 61
    sweeper = asyncio.create_task(
        Leases(Work(core, api, faults), LeaseSettings(sweep_interval=0.005)).sweep()
    )
    await eventually_async(lambda: core.counts()["open_holds"] == 0)
    sweeper.cancel()
    lease = core.lease(*SLOT)
    assert lease is not None
    assert lease.remaining == 1000


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
