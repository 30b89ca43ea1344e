"""A connection that breaks at any round trip of any operation: credits may leak, nothing else."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import scripts
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
    hold,
    hold_key,
)
from tests.stores.inspection import drop_lease, sweep_all
from tests.stores.proxies import Cut, Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schematic_native.redis import Operations

YEAR_2100 = 4_102_444_800.0
GRANT = 100.0
HELD = 20.0
TTL = 60_000


@dataclass(frozen=True)
class Work:
    """An operation, on a lease of 100 of which one hold has 20."""

    name: str
    round_trips: int
    start: Callable[[Operations], Any]
    after: float | None  # what remains when it was done
    at_once: bool = True  # whether it is the way of one server

    def __str__(self) -> str:
        return self.name if self.at_once else f"{self.name}-apart"


WORK = [
    Work("lease", 1, lambda ask: ask.lease(SLOT), 80),
    Work("install", 1, lambda ask: ask.install(SLOT, "lease_2", 500, YEAR_2100), 80),
    Work("try_reserve", 1, lambda ask: ask.try_reserve(SLOT, 30), 50),
    Work("refund", 1, lambda ask: ask.refund(SLOT, 10, "lease_1"), 90),
    Work("extend", 1, lambda ask: ask.extend(SLOT, 150, None, "lease_1"), 130),
    Work("drop", 1, lambda ask: drop_lease(ask, SLOT), None),
    Work("add", 1, lambda ask: ask.add(hold("hold_2")), 80),
    Work("hold", 1, lambda ask: ask.hold(hold("hold_2"), TTL), 60),
    Work("consume", 1, lambda ask: ask.consume("hold_1", 5, SLOT), 95),
    Work("reserved_credits", 1, lambda ask: ask.reserved_credits(SLOT), 80),
    Work("sweep", 2, lambda ask: sweep_all(ask, YEAR_2100), 100),
    Work("hold", 1, lambda ask: ask.hold(hold("hold_2"), TTL), 60, at_once=False),
    Work("consume", 2, lambda ask: ask.consume("hold_1", 5, SLOT), 95, at_once=False),
    Work("sweep", 3, lambda ask: sweep_all(ask, YEAR_2100), 100, at_once=False),
]
SCRIPTS = [value for value in vars(scripts).values() if isinstance(value, scripts.Script)]
ONE_SCRIPT = {"lease", "install", "try_reserve", "refund", "extend", "hold", "consume"}
CUTS = [
    pytest.param(work, trip, cut, id=f"{work}-{trip}-{cut.value}")
    for work in WORK
    for trip in range(1, work.round_trips + 1)
    for cut in (Cut.REQUEST, Cut.REPLY)
]


@pytest.fixture
def proxy(server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture(params=BOTH, ids=str)
def caller(request, proxy, raw, make_caller) -> Caller:
    """A program that has a connection, and a lease of which one hold has taken a part."""
    for script in SCRIPTS:
        raw.script_load(script.text)
    work = request.node.callspec.params.get("work")
    at_once = request.node.callspec.params.get("at_once", work is None or work.at_once)
    caller = make_caller(proxy, request.param, at_once=at_once)
    caller.do(caller.ask.install(SLOT, "lease_1", GRANT, YEAR_2100))
    caller.do(caller.ask.try_reserve(SLOT, HELD))
    assert caller.do(caller.ask.add(hold("hold_1")))
    return caller


@pytest.fixture
def raw(server) -> Iterator[Any]:
    with server.connect(decode_responses=True) as client:
        yield client


def remaining(raw: Any) -> float | None:
    value = raw.hget(LEASE, "localRemainingCredits")
    return None if value is None else float(value)


@pytest.mark.parametrize(("work", "trip", "cut"), CUTS)
def test_what_was_sent_and_not_answered_is_lost_and_never_sent_again(
    caller, proxy, raw, work, trip, cut
):
    before = remaining(raw)
    proxy.cut_at(trip, cut)
    with pytest.raises(StoreError) as failure:
        caller.do(work.start(caller.ask))
    assert failure.value.lost
    assert len(proxy.batches) == trip, "sent again"
    # A batch that the server has seen was carried out once, any other not at all.
    was_done = cut is Cut.REPLY and trip == work.round_trips
    assert remaining(raw) == (work.after if was_done else before)


@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.REPLY])
@pytest.mark.parametrize("work", [w for w in WORK if w.name in ONE_SCRIPT and w.at_once], ids=str)
def test_an_unknown_script_that_is_sent_in_full_can_be_cut_off_too(caller, proxy, raw, work, cut):
    before = remaining(raw)
    raw.script_flush()
    proxy.cut_at(2, cut)
    with pytest.raises(StoreError) as failure:
        caller.do(work.start(caller.ask))
    assert failure.value.lost
    assert remaining(raw) == (work.after if cut is Cut.REPLY else before)


@pytest.mark.parametrize(("at_once", "trip"), [(True, 1), (False, 1), (False, 2)])
@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.REPLY])
def test_a_settle_that_was_cut_can_be_made_again_and_refunds_once_at_most(
    caller, proxy, raw, at_once, trip, cut
):
    proxy.cut_at(trip, cut)
    with pytest.raises(StoreError):
        caller.do(caller.ask.consume("hold_1", 5, SLOT))
    again = patiently(caller, lambda: caller.ask.consume("hold_1", 5, SLOT))
    claimed_before = trip == 2 or cut is Cut.REPLY
    assert again == (None if claimed_before else 5)
    refunded = at_once or not claimed_before or (trip == 2 and cut is Cut.REPLY)
    assert remaining(raw) == (95 if refunded else 80)
    assert not raw.exists(hold_key())
    if at_once:
        assert not raw.exists(BY_EXPIRY, BY_CREDIT)


@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.REPLY])
def test_a_debit_and_its_hold_that_are_cut_off_are_both_there_or_neither(caller, proxy, raw, cut):
    proxy.cut_at(1, cut)
    with pytest.raises(StoreError) as failure:
        caller.do(caller.ask.hold(hold("hold_2"), TTL))
    assert failure.value.lost
    is_there = cut is Cut.REPLY
    assert raw.exists(hold_key("hold_2")) == is_there
    assert remaining(raw) == (60 if is_there else 80)
    claimed = patiently(caller, lambda: caller.ask.consume("hold_2", 0, SLOT))
    assert claimed == (0 if is_there else None)
    assert remaining(raw) == 80, "nothing leaks"


@pytest.mark.parametrize("at_once", [None])
@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.REPLY])
def test_a_server_that_says_nothing_of_several_keys_was_asked_for_nothing_else(
    caller, proxy, raw, at_once, cut
):
    proxy.cut_at(1, cut)
    with pytest.raises(StoreError) as failure:
        caller.do(caller.ask.hold(hold("hold_2"), TTL))
    assert not failure.value.lost
    assert caller.at_once is at_once
    assert remaining(raw) == 80
    assert patiently(caller, lambda: caller.ask.hold(hold("hold_2"), TTL)).recorded
    assert caller.at_once


def patiently(caller: Caller, start: Callable[[], Any]) -> Any:
    """Ask again while the store rests after a fault."""
    answers: list[Any] = []

    def is_answered() -> bool:
        with contextlib.suppress(StoreError):
            answers.append(caller.do(start()))
        return bool(answers)

    eventually(is_answered)
    return answers[0]


@pytest.mark.parametrize(
    ("at_once", "trip"), [(True, 1), (True, 2), (False, 1), (False, 2), (False, 3)]
)
@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.REPLY])
def test_a_sweep_that_was_cut_is_finished_by_the_next_and_refunds_once_at_most(
    caller, proxy, raw, at_once, trip, cut
):
    proxy.cut_at(trip, cut)
    with pytest.raises(StoreError):
        caller.do(sweep_all(caller.ask, YEAR_2100))
    claimed_before = trip == 3 or (trip, cut) == (2, Cut.REPLY)
    assert patiently(caller, lambda: sweep_all(caller.ask, YEAR_2100)) == (
        0 if claimed_before else 1
    )
    refunded = at_once or not claimed_before or (trip, cut) == (3, Cut.REPLY)
    assert remaining(raw) == (100 if refunded else 80)
    assert not raw.exists(hold_key(), BY_EXPIRY, BY_CREDIT)


@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.REPLY])
def test_a_record_that_was_cut_is_cleaned_up_by_its_claim_or_leaks(caller, proxy, raw, cut):
    caller.do(caller.ask.try_reserve(SLOT, 20))
    proxy.cut_at(1, cut)
    with pytest.raises(StoreError):
        caller.do(caller.ask.add(hold("hold_2")))
    claimed = patiently(caller, lambda: caller.ask.consume("hold_2", 0))
    assert claimed == (0 if cut is Cut.REPLY else None)
    assert remaining(raw) == (80 if cut is Cut.REPLY else 60)


@pytest.mark.parametrize("cut", [Cut.MIDDLE, Cut.SILENCE])
@pytest.mark.parametrize("work", [w for w in WORK if w.name in {"try_reserve", "sweep"}], ids=str)
def test_a_server_that_stops_in_the_middle_costs_no_more_than_the_timeout(caller, proxy, work, cut):
    for _ in within(0.2 + SLACK):
        proxy.cut_at(1, cut)
        with pytest.raises(StoreError) as failure:
            caller.do(work.start(caller.ask), timeout=0.2)
        assert failure.value.lost


@pytest.mark.parametrize("kind", BOTH, ids=str)
def test_a_batch_that_was_never_sent_is_not_lost_and_its_server_is_left_alone(
    proxy, make_caller, kind
):
    caller = make_caller(proxy, kind)
    proxy.refuse()
    with pytest.raises(StoreError, match="cannot be reached") as failure:
        caller.do(caller.ask.try_reserve(SLOT, 1))
    assert not failure.value.lost
    with pytest.raises(StoreError, match="asked again in a moment") as failure:
        caller.do(caller.ask.try_reserve(SLOT, 1))
    assert not failure.value.lost
