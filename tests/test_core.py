"""The extension's `Core`: what checks and settles take and return, and which settings it accepts."""

from __future__ import annotations

import threading

import pytest

from schematic_native import CheckFlagResult, CheckResult
from schematic_native._native import PendingCheck, read_quantity
from tests.core_world import COMPANY, CREDIT, FLAG, RULE, World, message


def test_a_check_waits_for_a_lease_and_then_holds_credits() -> None:
    world = World()
    pending = world.check()
    assert isinstance(pending, PendingCheck)
    assert not pending
    assert (pending.need, pending.company_id, pending.credit_type_id) == ("acquire", "comp", "ct")
    assert pending.required_credits == 20
    world.lend()
    result = pending.resume(True)
    assert isinstance(result, CheckResult)
    assert result
    assert result.allowed
    assert world.remaining() == 980
    with pytest.raises(RuntimeError, match="resumed already"):
        pending.resume(True)


def test_a_check_without_a_lease_is_denied_or_evaluated_by_the_mode() -> None:
    world = World()
    closed = world.check()
    opened = world.check(on_acquire_failure="fail-open")
    assert isinstance(closed, PendingCheck)
    assert isinstance(opened, PendingCheck)
    denied, allowed = closed.resume(False), opened.resume(False)
    assert isinstance(denied, CheckResult)
    assert denied  # it is decided
    assert isinstance(allowed, CheckResult)
    assert (denied.allowed, denied.reason, denied.error) == (
        False,
        "lease_acquire_failed",
        "lease_acquire_failed",
    )
    assert (allowed.allowed, allowed.error, allowed.reservation) == (
        True,
        "lease_acquire_failed",
        None,
    )
    assert allowed.reason.endswith("(lease_acquire_failed_fail_open)")


def test_a_settle_keeps_what_was_used_and_bills_it_once_for_each_key() -> None:
    world = World()
    world.lend()
    reservation = world.hold(10).reservation
    assert reservation is not None
    for traits in (b'{"model":"x"}', None):
        assert world.core.settle_shared(reservation, 3.5, traits) is None
        assert world.remaining() == 992
    tracks = [event for event in world.events() if event["type"] == "track"]
    assert [event["idempotency_key"] for event in tracks] == [
        f"lease-reservation:{reservation.id}"
    ] * 2
    assert tracks[0]["body"] == {
        "event": "tokens",
        "company": {"id": "acme"},
        "quantity": 4,
        "traits": {"model": "x"},
        "lease_id": "lease",
    }


def test_a_settle_moves_the_cached_metric_once() -> None:
    world = World()
    world.lend()
    reservation = world.hold(10).reservation
    assert reservation is not None
    limit = CREDIT | {"id": "c2", "condition_type": "metric", "operator": "gte", "metric_value": 9}
    rule = RULE | {"id": "r2", "conditions": [limit]}
    world.core.ingest(message("Flag", "full", FLAG | {"id": "f2", "key": "usage", "rules": [rule]}))
    answers = [world.core.check_flag("usage", {"id": "acme"})]
    for _ in range(2):
        world.core.settle_shared(reservation, 4)
        answers.append(world.core.check_flag("usage", {"id": "acme"}))
    assert [answer.value for answer in answers if isinstance(answer, CheckFlagResult)] == [
        False,
        True,
        True,
    ]
    assert [answer.feature_usage for answer in answers if isinstance(answer, CheckFlagResult)] == [
        None,
        9,
        9,
    ]


@pytest.mark.parametrize("quantity", [-1, float("nan"), float("inf"), True])
def test_what_is_no_quantity_settles_nothing(quantity: float) -> None:
    world = World()
    world.lend()
    reservation = world.hold().reservation
    assert reservation is not None
    assert world.core.settle_shared(reservation, quantity) is None
    assert world.remaining() == 980
    assert [event["type"] for event in world.events()] == ["flag_check"]


@pytest.mark.parametrize(
    "number",
    [7, -7, 2**53 + 1, 2**53 + 3, 2**62 + 513, 2**63 - 1, -(2**63), 2**63, 2**64 + 2049, 10**300],
)
def test_an_integer_is_read_as_the_double_that_python_makes_of_it(number: int) -> None:
    assert read_quantity("usage", number) == float(number)


@pytest.mark.parametrize("usage", [-1, float("nan"), float("inf"), True, 10**400])
def test_what_is_no_usage_reaches_no_lease(usage: float) -> None:
    world = World()
    world.lend()
    closed, opened = world.check(usage), world.check(usage, on_acquire_failure="fail-open")
    assert isinstance(closed, CheckResult)
    assert isinstance(opened, CheckResult)
    assert (closed.allowed, closed.reason, closed.error) == (
        False,
        "invalid_usage",
        "invalid_usage",
    )
    assert (opened.allowed, opened.reason, opened.error) == (
        True,
        "invalid_usage_fail_open",
        "invalid_usage",
    )
    assert world.remaining() == 1000


@pytest.mark.parametrize(
    ("arguments", "error", "what"),
    [
        ((1, None, None, 1), TypeError, "flag_key must be a str, not int"),
        (("f", [], None, 1), TypeError, "company must be a dict of lookup keys"),
        (("f", {"id": 1}, None, 1), TypeError, r"company\['id'\] must be a str or a UUID, not int"),
        (("f", None, {1: "x"}, 1), TypeError, "user must have str keys, not int"),
        (("f", None, None, "1"), TypeError, "usage must be a number, not str"),
        (("f", None, None, 1, 5), TypeError, "event_subtype must be a str, not int"),
        (
            ("f", None, None, 1, None, "open"),
            ValueError,
            "on_acquire_failure must be 'fail-closed' or 'fail-open'",
        ),
        (("f", {"id": "\ud800"}, None, 1), ValueError, "company must be text that UTF-8 can hold"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_held(
    arguments: tuple[object, ...], error: type[Exception], what: str
) -> None:
    world = World()
    world.lend()
    with pytest.raises(error, match=what):
        world.core.check(*arguments)  # type: ignore[arg-type]
    assert world.remaining() == 1000
    assert world.events() == []


def test_a_full_batch_wakes_the_sender_once() -> None:
    world = World()
    for _ in range(250):
        world.core.track("event")
    assert world.woken == ["events"]
    batch = world.core.take_batch()
    assert batch is not None
    assert (batch.count, batch.billing) == (100, 100)
    first, second = batch.split()
    assert (first.count, second.count) == (50, 50)


def test_ids_repeat_with_the_seed_and_not_without() -> None:
    def reservation_id(**settings: object) -> str:
        world = World(**settings)
        world.lend()
        held = world.hold().reservation
        assert held is not None
        return held.id

    assert reservation_id(seed=1) == reservation_id(seed=1) != reservation_id(seed=2)
    assert reservation_id(seed=None) != reservation_id(seed=None)


def test_the_least_recently_used_company_gives_way() -> None:
    world = World(max_companies=2)
    for number in range(3):
        world.core.check_flag("inference", {"id": "acme"})
        company = COMPANY | {"id": f"comp_{number}", "keys": {"id": str(number)}}
        world.core.ingest(message("Company", "full", company))
    counts = world.core.counts()
    assert (counts["companies"], counts["evicted"]) == (2, 2)
    assert world.core.company_id({"ID": "ACME"}) == "comp"
    assert world.core.company_id({"id": "2"}) == "comp_2"


def test_threads_never_over_spend_a_lease() -> None:
    world = World(reservation_ttl=3600)
    world.lend(1000)
    allowed: list[int] = []

    def work() -> None:
        results = [world.check(1) for _ in range(200)]
        allowed.append(
            sum(isinstance(result, CheckResult) and result.allowed for result in results)
        )

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 500
    assert world.remaining() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lease_size": -1}, "lease_size must be a number from 0"),
        ({"lease_duration": float("nan")}, "lease_duration must be a number from 0"),
        ({"low_water_mark": 2}, "low_water_mark must be a number from 0 to 1"),
        ({"overrides": {"ct": {"reservation_ttl": -1}}}, "reservation_ttl must be a number from 0"),
    ],
)
def test_a_knob_out_of_range_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        World(**settings)


def test_overrides_apply_to_their_credit_type() -> None:
    world = World(overrides={"ct": {"lease_size": 5, "reservation_ttl": None}})
    plan = world.core.plan_acquire("comp", "ct")
    other = world.core.plan_acquire("comp", "other")
    assert plan is not None
    assert other is not None
    assert (plan.requested_amount, other.requested_amount) == (5, 1000)
