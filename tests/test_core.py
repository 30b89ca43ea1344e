"""The extension's `Core`: what Python hands in and gets back."""

from __future__ import annotations

import copy
import json
import pickle
import threading

import pytest

from schematic_native import CheckFlagResult, CheckResult, Reservation
from schematic_native._native import Core, PendingCheck, read_quantity

SCOPE = {"account_id": "a", "environment_id": "e"}
CREDIT = {
    "id": "c1",
    "condition_type": "credit",
    "operator": "lt",
    "credit_id": "ct",
    "consumption_rate": 2.0,
    "event_subtype": "tokens",
    "trait_value": "",
    **SCOPE,
}
RULE = {
    "id": "r1",
    "name": "plan",
    "rule_type": "plan_entitlement",
    "priority": 0,
    "value": True,
    "conditions": [CREDIT],
    **SCOPE,
}
FLAG = {"id": "f1", "key": "inference", "default_value": False, "rules": [RULE], **SCOPE}
ENTITLEMENT = {
    "feature_id": "feat",
    "feature_key": "inference",
    "value_type": "credit",
    "credit_id": "ct",
    "consumption_rate": 2.0,
    "event_subtype": "tokens",
}
METRIC = {
    "company_id": "comp",
    "event_subtype": "tokens",
    "period": "all_time",
    "month_reset": "first_of_month",
    "value": 5,
    "created_at": "2026-01-01T00:00:00Z",
    **SCOPE,
}
COMPANY = {
    "id": "comp",
    "keys": {"id": "acme"},
    "credit_balances": {"ct": 1000},
    "entitlements": [ENTITLEMENT],
    "metrics": [METRIC],
    **SCOPE,
}


def message(entity: str, kind: str, data: object, entity_id: str | None = None) -> bytes:
    envelope = {
        "entity_type": f"rulesengine.{entity}",
        "message_type": kind,
        "data": data,
        "entity_id": entity_id,
    }
    return json.dumps(envelope).encode()


class World:
    """A core with an injected clock, one flag, one company and, once asked for, one lease."""

    def __init__(self, **settings: object) -> None:
        self.now = 1_000_000.0
        self.woken: list[str] = []
        settings = {"api_key": "k", "lease_size": 1000, "seed": 7} | settings

        def clock() -> float:
            return self.now

        self.stepped = 0.0

        def steady() -> float:
            return self.now - self.stepped

        self.core = Core(clock=clock, steady=steady, wake=self.woken.append, **settings)  # type: ignore[arg-type]
        for entity, data in (("Flags", [FLAG]), ("Company", COMPANY)):
            assert self.core.ingest(message(entity, "full", data)).skipped == []

    def lend(self, granted: float = 1000, lease_id: str = "lease") -> None:
        assert self.core.install_lease("comp", "ct", lease_id, granted, self.now + 300) == lease_id

    def step(self, seconds: float) -> None:
        """Set the wall clock, as an administrator or a time service does."""
        self.now += seconds
        self.stepped += seconds
        self.core.sweep()

    def check(self, usage: float = 10, **options: object) -> CheckResult | PendingCheck:
        return self.core.check("inference", {"id": "acme"}, None, usage, **options)  # type: ignore[arg-type]

    def hold(self, usage: float = 10) -> CheckResult:
        result = self.check(usage)
        assert isinstance(result, CheckResult)
        assert result.reservation is not None
        return result

    def remaining(self) -> float:
        lease = self.core.lease("comp", "ct")
        assert lease is not None
        return lease.remaining

    def events(self) -> list[dict[str, object]]:
        batch = self.core.take_batch()
        return [] if batch is None else json.loads(batch.body)["events"]


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


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"entity_type": "rulesengine.Moon", "message_type": "full", "data": {}}',
        message("Flags", "full", {"not": "a list"}),
        message("Flag", "full", {"id": "f1"}),
        message("Company", "full", {"id": "comp", "keys": 5}),
        message("Company", "partial", {"credit_balances": "many"}, "comp"),
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_told_and_changes_nothing(raw: bytes) -> None:
    world = World()
    world.lend()
    assert world.core.ingest(raw).skipped != []
    assert world.hold().allowed
    assert world.core.has_flags()


def test_a_message_names_the_flags_that_it_changed() -> None:
    def told(core: Core, entity_type: str, message_type: str, data: object) -> list[str]:
        message = {"entity_type": entity_type, "message_type": message_type, "data": data}
        return sorted(core.ingest(json.dumps(message)).changed_flags)

    core = Core(api_key="k")
    other = FLAG | {"id": "f2", "key": "other"}
    flags, flag = "rulesengine.Flags", "rulesengine.Flag"
    assert told(core, flags, "full", [FLAG, other]) == []  # all of them are news
    assert told(core, flags, "full", [other, FLAG]) == []
    assert told(core, flag, "full", FLAG) == []
    assert told(core, flag, "full", FLAG | {"default_value": True}) == ["inference"]
    assert told(core, flags, "full", [FLAG, other]) == ["inference"]
    assert told(core, flag, "full", other | {"key": "renamed"}) == ["other", "renamed"]
    assert told(core, flags, "full", [FLAG | {"id": "f3"}]) == ["inference", "renamed"]
    assert told(core, flag, "delete", {"key": "INFERENCE"}) == ["inference"]
    assert told(core, flag, "delete", {"id": "f3"}) == []
    assert told(core, "rulesengine.Company", "full", COMPANY) == []


def test_one_unreadable_flag_does_not_take_the_others_along() -> None:
    world = World()
    ingested = world.core.ingest(
        message("Flags", "full", [FLAG, {"id": "broken"}, FLAG | {"id": "f3", "key": "third"}])
    )
    assert len(ingested.skipped) == 1
    assert sorted(world.core.flag_keys()) == ["inference", "third"]


def test_a_partial_update_moves_a_balance_and_leaves_the_rest() -> None:
    world = World()
    world.core.ingest(message("Company", "partial", {"credit_balances": {"ct": 5}}, "comp"))
    assert world.core.company_balance("comp", "ct") == 5
    world.core.ingest(message("Company", "partial", {"credit_balances": {"ct": 7}}, "unknown"))
    assert world.core.counts()["companies"] == 1
    world.core.ingest(message("Company", "delete", None, "comp"))
    assert world.core.check_flag("inference", {"id": "acme"}) == "company"


def test_an_error_message_names_the_keys_whose_waiters_fail() -> None:
    ingested = World().core.ingest(
        message(
            "Company",
            "error",
            {"error": "not found", "keys": {"id": "zzz"}, "entity_type": "rulesengine.Company"},
        )
    )
    assert (ingested.error, ingested.keys) == ("not found", {"id": "zzz"})


def test_a_low_lease_wakes_once_until_it_was_attended_to() -> None:
    world = World()
    world.lend(100)
    for _ in range(4):
        world.hold(10)
    assert world.woken == ["extend"]
    assert world.core.take_low_slots() == [("comp", "ct")]
    plan = world.core.plan_extend("comp", "ct")
    assert plan is not None
    assert (plan.lease_id, plan.additional_amount) == ("lease", 1000)
    assert world.core.apply_extend("comp", "ct", plan.lease_id, 1100, world.now + 600)
    assert world.remaining() == 1020
    assert world.core.plan_extend("comp", "ct") is None


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


def test_a_lapsed_hold_is_swept_back_and_still_billed() -> None:
    world = World()
    world.lend()
    reservation = world.hold(10).reservation
    assert reservation is not None
    world.now += 59.999
    assert world.core.sweep() == 0
    world.now += 0.001
    assert world.core.sweep() == 1
    assert world.remaining() == 1000
    assert world.core.settle_shared(reservation, 10) is None
    assert world.remaining() == 1000
    assert [event["type"] for event in world.events()] == ["track", "flag_check"]


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


@pytest.mark.parametrize("leave", [copy.copy, pickle.dumps, Reservation.to_dict])
def test_a_lapsed_hold_of_a_slab_tells_whether_a_copy_of_it_has_left(leave) -> None:
    world = World(shared=True, slabs=(100.0, 400.0, 10.0))
    plan = world.core.plan_slab("comp", "ct")
    assert plan is not None
    assert (plan.usable_for, plan.kept_for) == (10, 75)
    row = world.core.slab_row("comp", "ct", "lease", 100.0, world.now + plan.kept_for)
    assert world.core.open_slab(row, plan, plan.usable_for)
    here, elsewhere = world.hold(5), world.hold(5)
    assert "Reservation" in repr(here)
    leave(elsewhere.reservation)
    world.now += 60
    world.core.sweep()
    lapsed = {hold.id: (slab, has_left) for slab, hold, has_left in world.core.lapsed()}
    assert lapsed == {
        here.reservation.id: (row, False),
        elsewhere.reservation.id: (row, True),
    }


def test_a_wall_clock_that_is_set_back_prolongs_no_lease() -> None:
    world = World(reservation_ttl=1000.0)
    world.lend()
    world.step(-60.0)
    world.now += 299
    assert isinstance(world.check(), CheckResult)
    world.now += 1
    assert isinstance(world.check(), PendingCheck)


@pytest.mark.parametrize("seconds", [-3600.0, -60.0, 60.0, 250.0])
def test_a_hold_lasts_as_long_as_it_was_meant_to_whichever_way_the_wall_clock_is_set(
    seconds,
) -> None:
    world = World(reservation_ttl=60.0)
    world.lend()
    world.hold()
    world.step(seconds)
    assert world.core.counts()["open_holds"] == 1
    world.now += 59
    assert world.core.sweep() == 0
    world.now += 2
    assert world.core.sweep() == 1


@pytest.mark.parametrize("seconds", [-60.0, -3.0, 3.0])
def test_a_hold_made_right_after_a_step_of_the_wall_clock_lasts_as_long_as_it_was_meant_to(
    seconds,
) -> None:
    world = World(reservation_ttl=60.0)
    world.lend()
    world.core.sweep()
    world.now += seconds
    world.stepped += seconds
    world.hold()
    world.now += 59
    assert world.core.sweep() == 0


def test_a_hold_of_which_a_copy_has_left_counts_as_used_when_it_lapses() -> None:
    world = World(reservation_ttl=60.0)
    world.lend()
    world.hold()
    given = world.hold().reservation
    assert given is not None
    given.to_dict()
    world.now += 61
    assert world.core.sweep() == 2
    assert world.remaining() == 1000 - given.credits_reserved


def test_a_clock_that_drifts_below_a_second_has_not_stepped() -> None:
    world = World(reservation_ttl=60.0)
    world.lend()
    world.hold()
    for _ in range(5):
        world.step(-0.3)
    world.now += 60.4
    assert world.core.sweep() == 0, "a second was made up for, and no more"
    world.now += 0.2
    assert world.core.sweep() == 1
