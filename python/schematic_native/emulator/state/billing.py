"""What a posted event does: usage counted, credits billed, keys and traits merged.

An event is billed as the service would, whatever the client meant by it. What a well-behaved client
would not have sent is counted as an anomaly and never refused.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from schematic_native.emulator.state.directory import KeyConflictError

if TYPE_CHECKING:
    from schematic_native.emulator.credits.holds import Lease, Reservation
    from schematic_native.emulator.credits.ledger import Ledger
    from schematic_native.emulator.state.changes import Change, Changes
    from schematic_native.emulator.state.directory import Directory
    from schematic_native.emulator.state.metering import Meter, Meters

Entity = dict[str, Any]

_I64_MAX = 2**63 - 1


class Billing:
    """Carries out track and identify events on the ledger and the directory."""

    def __init__(
        self, ledger: Ledger, directory: Directory, meters: Meters, changes: Changes
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._meters = meters
        self._changes = changes
        self.usage: dict[str, dict[str, int]] = {}
        self.anomalies: dict[str, int] = {}
        self._found: str | None = None

    def bill(self, at: float, event: Entity) -> str | None:
        """Carry out one event that is no repeat; return what was wrong with it, if anything."""
        self._found = None
        kind = event["type"]
        if kind == "track":
            self._track(at, event["body"])
        elif kind == "identify":
            self._identify(event["body"])
        return self._found

    def _note_anomaly(self, what: str) -> None:
        self._found = what
        self.anomalies[what] = self.anomalies.get(what, 0) + 1

    # Usage

    def _track(self, at: float, body: Entity) -> None:
        event = body.get("event")
        quantity = _quantity(body.get("quantity"))
        if not isinstance(event, str) or quantity is None:
            self._note_anomaly("unreadable track event")
            return
        lease, reservation = self._holds(body)
        company_id = self._billed_company(body, lease or reservation)
        if company_id is None:
            self._note_anomaly("track event of an unknown company")
            return
        usage = self.usage.setdefault(company_id, {})
        usage[event] = usage.get(event, 0) + quantity
        meter = self._meters.get(at, company_id, event)
        change = self._changes.of(company_id)
        for row in meter.rows:
            row["value"] = min(row["value"] + quantity, _I64_MAX)
            change.rows[id(row)] = row
        if lease is not None:
            self._bill_lease(at, lease, meter, quantity, change)
        elif reservation is not None:
            self._settle(at, reservation, quantity, change)
        else:
            if _hold_id(body, "lease_id") or _hold_id(body, "reservation_id"):
                self._note_anomaly("track event of an unknown lease or reservation")
            for credit in meter.plain:
                self._ledger.bill(at, (company_id, credit), quantity * meter.rates[credit])
                change.credits.add(credit)

    def _holds(self, body: Entity) -> tuple[Lease | None, Reservation | None]:
        """Find the lease or the reservation that an event names; a lease goes before."""
        lease_id, reservation_id = _hold_id(body, "lease_id"), _hold_id(body, "reservation_id")
        if lease_id:
            return self._ledger.leases.get(lease_id), None
        return None, self._ledger.reservations.get(reservation_id) if reservation_id else None

    def _billed_company(self, body: Entity, hold: Lease | Reservation | None) -> str | None:
        """Name who pays: the hold's company, else the one that the event names."""
        keys = body.get("company")
        try:
            named = self._directory.company_id(keys) if isinstance(keys, dict) else None
        except (KeyConflictError, AttributeError):
            named = None
        if hold is None:
            return named
        if named is not None and named != hold.company_id:
            self._note_anomaly("track event of one company with the lease of another")
        return hold.company_id

    def _bill_lease(
        self, at: float, lease: Lease, meter: Meter, quantity: int, change: Change
    ) -> None:
        rate = meter.rates.get(lease.credit_type_id)
        if rate is None:
            self._note_anomaly("track event that its lease's credit does not meter")
            return
        ended = lease.status != "active"
        consumption = self._ledger.consume_lease(at, lease.id, quantity * rate)
        change.credits.add(lease.credit_type_id)
        if ended:
            self._note_anomaly("track event of an ended lease")
        elif consumption.direct:
            self._note_anomaly("track event beyond its lease")

    def _settle(self, at: float, reservation: Reservation, quantity: int, change: Change) -> None:
        ended = reservation.status != "held"
        consumption = self._ledger.settle(at, reservation.id, quantity)
        change.credits.add(reservation.credit_type_id)
        if ended:
            self._note_anomaly("track event of an ended reservation")
        elif consumption.direct:
            self._note_anomaly("track event beyond its reservation")

    # Keys and traits

    def _identify(self, body: Entity) -> None:
        """Merge keys and traits into what is known already; nobody new is made."""
        company = body.get("company")
        if isinstance(company, dict):
            self._merge("companies", company)
        self._merge("users", body)

    def _merge(self, kind: str, body: Entity) -> None:
        keys, traits = body.get("keys"), body.get("traits")
        pairs = (
            {k: v for k, v in keys.items() if isinstance(v, str)} if isinstance(keys, dict) else {}
        )
        directory = self._directory
        find = directory.company_id if kind == "companies" else directory.user_id
        try:
            entity_id = find(pairs)
        except KeyConflictError:
            self._note_anomaly("identify event whose keys name several entities")
            return
        if entity_id is None:
            return
        entity = getattr(directory, kind)[entity_id]
        changed = directory.merge(entity, pairs, traits if isinstance(traits, dict) else {})
        if changed:
            self._changes.of(entity_id).fields.update(changed)


def _hold_id(body: Entity, name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) else None


def _quantity(value: object) -> int | None:
    """Read an event's quantity as whole event units; None if it cannot be billed."""
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _I64_MAX:
        return None
    return math.ceil(value)
