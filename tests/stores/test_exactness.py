"""Not a bit of a credit is lost or made, however many holds come and go."""

from __future__ import annotations

import itertools
import math
import os
import random
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from schematic_native.redis import Refused, scripts
from tests.stores.callers import BY_CREDIT, BY_EXPIRY, LEASE, SLOT, Caller, hold
from tests.stores.inspection import count_holds, drop_lease, sweep_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

YEAR_2100 = 4_102_444_800.0
RATES = [0.1, 0.3, 1 / 3, 2.5, 0.001, 7.0]
# The two scripts, as functions of a third that runs many pairs in one call.
DRIVER = f"""
local function reserve(KEYS, ARGV) {scripts.RESERVE.text} end
local function refund(KEYS, ARGV) {scripts.REFUND.text} end
for at = 1, #ARGV, 3 do
  local reply = reserve(KEYS, {{ ARGV[at], '{SLOT[0]}', '{SLOT[1]}' }})
  if type(reply) ~= 'string' then return redis.error_reply('refused') end
  refund(KEYS, {{ ARGV[at + 1], 'lease_1', ARGV[at + 2] }})
end
"""
PAIRS_PER_CALL = 2000
# For each size of a grant; SCHEMATIC_PAIRS=334000 makes it a million in all, in half a minute.
PAIRS = int(os.environ.get("SCHEMATIC_PAIRS", "50000"))


@pytest.fixture
def caller(server, make_caller) -> Caller:
    return make_caller(server)


@pytest.fixture
def raw(server) -> Iterator[Any]:
    with server.connect(decode_responses=True) as client:
        yield client


@pytest.mark.parametrize("granted", [5e4, 1e7 + 0.1, 1e12])
def test_any_number_of_settles_leaves_what_was_not_used_to_the_last_bit(caller, raw, granted):
    random_ = random.Random(granted)
    caller.do(caller.ask.install(SLOT, "lease_1", granted, YEAR_2100))
    driver, spent = raw.register_script(DRIVER), [granted]
    for _ in range(PAIRS // PAIRS_PER_CALL):
        amounts: list[str] = []
        for _ in range(PAIRS_PER_CALL):
            rate = random_.choice(RATES)
            held = random_.randint(1, 500) * rate
            # What is used leaves the lease, so that a small one lasts it is mostly nothing.
            used = 0.0 if random_.random() < 0.97 else math.ceil(random_.random() * 3) * rate
            used = min(used, held)
            spent.append(-used)
            amounts += [repr(held), repr(held), repr(used)]
        driver(keys=[LEASE], args=amounts)
    lease = caller.do(caller.ask.lease(SLOT))
    assert lease.remaining == math.fsum(spent)


def test_the_whole_grant_remains_after_all_holds_are_refunded(caller):
    caller.do(caller.ask.install(SLOT, "lease_1", 1e9 + 0.3, YEAR_2100))
    sizes = [at * rate for at in range(1, 40) for rate in RATES]
    for at, size in enumerate(sizes):
        caller.do(caller.ask.try_reserve(SLOT, size))
        caller.do(caller.ask.add(hold(f"hold_{at}", credits_reserved=size)))
    lease = caller.do(caller.ask.lease(SLOT))
    assert lease.remaining == float(Fraction(lease.granted) - sum(map(Fraction, sizes)))
    assert caller.do(caller.ask.reserved_credits(SLOT)) == math.fsum(sizes)
    for at in range(len(sizes)):
        caller.do(caller.ask.consume(f"hold_{at}", 0))
    assert caller.do(caller.ask.lease(SLOT)).remaining == lease.granted


def test_a_settle_takes_what_was_used_and_not_a_bit_less(caller, raw):
    """0.7 less 0.1 is no double: what was rounded off must not be minted."""
    caller.do(caller.ask.install(SLOT, "lease_1", 1.0, YEAR_2100))
    used = Fraction(0)
    for at in range(100):
        held, part = 0.7, 0.0001 * (at % 7)
        caller.do(caller.ask.try_reserve(SLOT, held))
        caller.do(caller.ask.add(hold(f"hold_{at}", credits_reserved=held)))
        used += Fraction(caller.do(caller.ask.consume(f"hold_{at}", part)))
    lease = caller.do(caller.ask.lease(SLOT))
    assert lease.remaining == float(1 - used)
    carry = Fraction(float(raw.hget(LEASE, "localRemainingCarry") or 0))
    assert Fraction(lease.remaining) + carry == 1 - used


@pytest.mark.parametrize("balance", ["500", "499.7", "0"])
def test_a_carry_left_beside_the_balance_of_another_sdk_is_ignored(caller, raw, balance):
    caller.do(caller.ask.install(SLOT, "lease_1", 1e6, YEAR_2100))
    caller.do(caller.ask.try_reserve(SLOT, 0.1))
    assert raw.hexists(LEASE, "localRemainingCarry")
    # Another SDK knows the balance alone, and has written a rounded one of its own.
    raw.hset(LEASE, "localRemainingCredits", balance)
    raw.hset(LEASE, "localRemainingCarry", "0.125")
    debit = caller.do(caller.ask.try_reserve(SLOT, 0))
    assert debit.remaining == float(balance)
    assert not raw.hexists(LEASE, "localRemainingCarry")


def test_an_exact_balance_has_no_carry(caller, raw):
    caller.do(caller.ask.install(SLOT, "lease_1", 1e6, YEAR_2100))
    caller.do(caller.ask.try_reserve(SLOT, 0.1))
    assert raw.hexists(LEASE, "localRemainingCarry")
    caller.do(caller.ask.refund(SLOT, 0.1, "lease_1"))
    assert raw.hget(LEASE, "localRemainingCredits") == "1000000"
    assert not raw.hexists(LEASE, "localRemainingCarry")


def test_a_balance_that_is_short_by_less_than_a_bit_is_short(caller):
    # 0.3 is a little less than three times 0.1, which the double of their difference does not show.
    caller.do(caller.ask.install(SLOT, "lease_1", 1e6 + 0.1, YEAR_2100))
    caller.do(caller.ask.try_reserve(SLOT, 0.1))
    rounded = caller.do(caller.ask.lease(SLOT)).remaining
    exact = Fraction(1e6 + 0.1) - Fraction(0.1)
    outcome = caller.do(caller.ask.try_reserve(SLOT, rounded))
    assert (outcome is Refused.SHORT) == (Fraction(rounded) > exact)


# A model


@dataclass
class ModelLease:
    lease_id: str
    granted: Fraction
    remaining: Fraction
    ends: float
    expired: bool = False


@dataclass
class ModelHold:
    lease_id: str
    credits: Fraction
    ends: float


AMOUNTS = st.one_of(
    st.builds(lambda n, rate: n * rate, st.integers(0, 1000), st.sampled_from(RATES)),
    st.sampled_from([0.0, 1.0, 1e-3]),
)
GRANTS = st.one_of(AMOUNTS, st.sampled_from([100.0, 1e4 + 0.1, 1e12, 1e12 + 0.1]))
IDS = st.sampled_from(["lease_1", "lease_2"])
ENDS = st.sampled_from([YEAR_2100, YEAR_2100 + 60, YEAR_2100 - 60])


class StoreMachine(RuleBasedStateMachine):
    """The store beside what its contract says, in exact numbers."""

    caller: Caller
    raw: Any

    def __init__(self) -> None:
        super().__init__()
        self.raw.flushall()
        self.lease: ModelLease | None = None
        self.holds: dict[str, ModelHold] = {}
        self.names = (f"hold_{at}" for at in itertools.count())

    def do(self, make: Callable[[Any], Any]) -> Any:
        return self.caller.do(make(self.caller.ask))

    @rule(lease_id=IDS, granted=GRANTS, ends=ENDS)
    def install(self, lease_id: str, granted: float, ends: float) -> None:
        installed = self.do(lambda ask: ask.install(SLOT, lease_id, granted, ends))
        lease = self.lease
        is_written = lease is None or (lease.expired and lease.lease_id != lease_id)
        if is_written:
            self.lease = ModelLease(lease_id, Fraction(granted), Fraction(granted), ends)
        elif lease is not None and lease.expired:
            self.reconcile(lease, granted, ends)
        assert installed.written is is_written
        assert self.lease is not None
        assert installed.lease_id == self.lease.lease_id

    def reconcile(self, lease: ModelLease, total: float, ends: float | None) -> None:
        gain = max(Fraction(total) - lease.granted, Fraction(0))
        lease.granted += gain
        lease.remaining += gain
        if ends is not None and (lease.expired or ends > lease.ends):
            lease.ends, lease.expired = ends, False

    @precondition(lambda self: self.lease is not None and not self.lease.expired)
    @rule()
    def expire(self) -> None:
        assert self.lease is not None
        self.lease.expired = True
        self.raw.hset(LEASE, "expiresAt", "1000000000000")

    @rule(credits_=AMOUNTS, ends=st.sampled_from([10.0, 20.0]))
    def reserve(self, credits_: float, ends: float) -> None:
        outcome = self.do(lambda ask: ask.try_reserve(SLOT, credits_))
        lease = self.lease
        if lease is None or lease.expired:
            assert outcome is Refused.NO_LEASE
            return
        if Fraction(credits_) > lease.remaining:
            assert outcome is Refused.SHORT
            return
        lease.remaining -= Fraction(credits_)
        assert outcome.remaining == float(lease.remaining)
        assert outcome.lease_id == lease.lease_id
        name = next(self.names)
        row = hold(
            name, lease_id=lease.lease_id, credits_reserved=credits_, expires_at=YEAR_2100 + ends
        )
        assert self.do(lambda ask: ask.add(row))
        self.holds[name] = ModelHold(lease.lease_id, Fraction(credits_), YEAR_2100 + ends)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), part=st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 2.0]))
    def settle(self, data: st.DataObject, part: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.holds)))
        held = self.holds.pop(name)
        asked = float(held.credits) * part
        used = self.do(lambda ask: ask.consume(name, asked))
        assert Fraction(used) == min(Fraction(asked), held.credits)
        self.give_back(held.lease_id, held.credits - Fraction(used))
        assert self.do(lambda ask: ask.consume(name, asked)) is None

    def give_back(self, lease_id: str | None, credits_: Fraction) -> None:
        lease = self.lease
        if lease is not None and lease_id in {None, lease.lease_id}:
            lease.remaining = min(lease.remaining + credits_, lease.granted)

    @rule(at=st.sampled_from([10.0, 20.0]))
    def sweep(self, at: float) -> None:
        swept = self.do(lambda ask: sweep_all(ask, YEAR_2100 + at))
        lapsed = [name for name, held in self.holds.items() if held.ends <= YEAR_2100 + at]
        assert swept == len(lapsed)
        for name in lapsed:
            held = self.holds.pop(name)
            self.give_back(held.lease_id, held.credits)

    @rule(total=GRANTS, ends=st.one_of(st.none(), ENDS), pin=st.one_of(st.none(), IDS))
    def extend(self, total: float, ends: float | None, pin: str | None) -> None:
        was_there = self.do(lambda ask: ask.extend(SLOT, total, ends, pin))
        lease = self.lease
        assert was_there is (lease is not None and pin in {None, lease.lease_id})
        if was_there and lease is not None:
            self.reconcile(lease, total, ends)

    @rule(credits_=AMOUNTS, pin=st.one_of(st.none(), IDS))
    def refund(self, credits_: float, pin: str | None) -> None:
        self.do(lambda ask: ask.refund(SLOT, credits_, pin))
        self.give_back(pin, Fraction(credits_))

    @rule()
    def drop(self) -> None:
        self.do(lambda ask: drop_lease(ask, SLOT))
        self.lease = None

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        lease, stored = self.lease, self.do(lambda ask: ask.lease(SLOT))
        if lease is None:
            assert stored is None
        else:
            assert (stored.lease_id, stored.live) == (lease.lease_id, not lease.expired)
            assert stored.granted == float(lease.granted)
            assert stored.remaining == float(lease.remaining)
            assert lease.expired or stored.expires_at == lease.ends
        held = [float(held.credits) for held in self.holds.values()]
        assert self.do(lambda ask: ask.reserved_credits(SLOT)) == math.fsum(held)
        assert self.do(count_holds) == len(held)
        assert self.raw.hlen(BY_CREDIT) == self.raw.zcard(BY_EXPIRY) == len(held)


def test_any_sequence_leaves_what_the_contract_says(caller, raw):
    machine = type("StoreMachine", (StoreMachine,), {"caller": caller, "raw": raw})
    checks = [HealthCheck.too_slow]
    profile = settings(
        max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=checks
    )

    run_state_machine_as_test(machine, settings=profile)
