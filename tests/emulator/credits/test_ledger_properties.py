"""Conservation under any sequence of operations, at any times, with any amounts."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schematic_native.emulator.credits.amounts import to_units
from schematic_native.emulator.credits.audit import audit
from schematic_native.emulator.credits.ledger import Ledger, Reservation
from schematic_native.emulator.errors import ServiceError

SLOTS = st.sampled_from([("comp_1", "credit_1"), ("comp_1", "credit_2"), ("comp_2", "credit_1")])
AMOUNTS = st.one_of(
    st.floats(min_value=0.001, max_value=500), st.sampled_from([0.1, 0.2, 0.3, 1 / 3, 100.0])
).map(lambda amount: to_units(amount, "amount"))
KEYS = st.sampled_from([None, "a", "b"])


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.now = 1000.0
        self.names = 0
        self.granted = 0
        self.used = 0

    @initialize(units=AMOUNTS)
    def open(self, units: int) -> None:
        for slot in [("comp_1", "credit_1"), ("comp_1", "credit_2"), ("comp_2", "credit_1")]:
            self.ledger.grant(self.now, slot, units, "opening")
            self.granted += units

    def name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}_{self.names}"

    def any_id(self, ids: list[str], data: st.DataObject) -> str:
        return data.draw(st.sampled_from([*ids, "unknown"]))

    @rule(seconds=st.floats(min_value=0, max_value=200))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(slot=SLOTS, units=AMOUNTS)
    def grant(self, slot: tuple[str, str], units: int) -> None:
        self.ledger.grant(self.now, slot, units)
        self.granted += units

    @rule(slot=SLOTS, units=AMOUNTS, seconds=st.floats(min_value=-1, max_value=4000))
    def acquire(self, slot: tuple[str, str], units: int, seconds: float) -> None:
        try:
            self.ledger.acquire(self.now, self.name("lse"), slot, units, self.now + seconds)
        except ServiceError:
            return

    @rule(data=st.data(), units=AMOUNTS, seconds=st.floats(min_value=1, max_value=3600), key=KEYS)
    def extend(self, data: st.DataObject, units: int, seconds: float, key: str | None) -> None:
        lease_id = self.any_id(list(self.ledger.leases), data)
        try:
            self.ledger.extend(self.now, lease_id, units, self.now + seconds, key)
        except ServiceError:
            return

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        try:
            self.ledger.release(self.now, self.any_id(list(self.ledger.leases), data))
        except ServiceError:
            return

    @rule(data=st.data(), units=AMOUNTS)
    def consume(self, data: st.DataObject, units: int) -> None:
        lease_id = self.any_id(list(self.ledger.leases), data)
        try:
            consumption = self.ledger.consume_lease(self.now, lease_id, units)
        except ServiceError:
            return
        assert sum(consumption) == units
        self.used += units

    @rule(slot=SLOTS, units=AMOUNTS)
    def bill(self, slot: tuple[str, str], units: int) -> None:
        self.ledger.bill(self.now, slot, units)
        self.used += units

    @rule(
        slot=SLOTS, rate=AMOUNTS, quantity=st.integers(0, 20), seconds=st.floats(1, 3600), key=KEYS
    )
    def reserve(
        self, slot: tuple[str, str], rate: int, quantity: int, seconds: float, key: str | None
    ) -> None:
        name = self.name("res")
        expires_at = self.now + seconds
        reservation = Reservation(
            name, *slot, None, rate, quantity, rate * quantity, expires_at, self.now, self.now
        )
        try:
            self.ledger.reserve(self.now, reservation, key)
        except ServiceError:
            return

    @rule(data=st.data(), quantity=st.integers(0, 30))
    def settle(self, data: st.DataObject, quantity: int) -> None:
        name = self.any_id(list(self.ledger.reservations), data)
        try:
            consumption = self.ledger.settle(self.now, name, quantity)
        except ServiceError:
            return
        assert sum(consumption) == quantity * self.ledger.reservations[name].rate
        self.used += sum(consumption)

    @rule(data=st.data())
    def release_reservation(self, data: st.DataObject) -> None:
        try:
            self.ledger.release_reservation(
                self.now, self.any_id(list(self.ledger.reservations), data)
            )
        except ServiceError:
            return

    @invariant()
    def nothing_is_minted_or_lost(self) -> None:
        held = sum(lease.unspent for lease in self.ledger.leases.values())
        held += sum(r.unspent for r in self.ledger.reservations.values())
        assert sum(self.ledger.billed.values()) == self.used
        assert sum(self.ledger.balances.values()) + held + self.used == self.granted

    @invariant()
    def no_lease_spends_more_than_it_was_granted(self) -> None:
        for lease in self.ledger.leases.values():
            assert 0 <= lease.tracked <= lease.granted
            assert lease.tracked + lease.refunded + lease.unspent == lease.granted

    @invariant()
    def the_audit_balances(self) -> None:
        report = audit(self.ledger)
        assert report["balanced"], report["problems"]


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestConservation = LedgerMachine.TestCase
