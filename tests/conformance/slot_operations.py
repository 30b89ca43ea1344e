"""What operations do to leases and holds where a client stores them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from schematic_native import Reservation
from schematic_native.ground.store_errors import StoreError
from tests.conformance.arguments import end_of, quantity_of, slot_of
from tests.conformance.calls import Calls
from tests.conformance.clock import instant, offset
from tests.conformance.world import install

if TYPE_CHECKING:
    from tests.conformance.vectors import Fields
    from tests.conformance.wire import Seen


class SlotOperations(Calls):
    """Operations on slots and holds."""

    def _advance_clock(self, fields: Fields) -> Seen:
        self._world.clock.advance(int(fields.number("ms")))
        return {}

    def _replace_lease(self, fields: Fields) -> Seen:
        return {"written": install(self._world, fields)}

    def _drop_lease(self, fields: Fields) -> Seen:
        self._backend.drop(slot_of(fields))
        return {}

    def _get_lease(self, fields: Fields) -> Seen:
        lease = self._backend.lease(slot_of(fields))
        if lease is None:
            return {"exists": False}
        return {
            "exists": True,
            "lease_id": lease.lease_id,
            "granted_amount": lease.granted,
            "local_remaining_credits": lease.remaining,
            "expires_at_ms": offset(lease.expires_at),
        }

    def _try_reserve(self, fields: Fields) -> Seen:
        debit = self._backend.try_reserve(slot_of(fields), quantity_of(fields, "credits"))
        if debit is None:
            return {"balance": None}
        balance, lease_id = debit
        return {"balance": balance, "lease_id": lease_id}

    def _refund_lease(self, fields: Fields) -> Seen:
        pin = fields.get("pin_lease_id")
        self._backend.refund(slot_of(fields), quantity_of(fields, "credits"), pin)
        return {}

    def _extend_lease(self, fields: Fields) -> Seen:
        total, pin = fields.number("granted_total"), fields.get("pin_lease_id")
        self._backend.extend(slot_of(fields), total, end_of(fields), pin)
        return {}

    def _note_spent(self, fields: Fields) -> Seen:
        amount = quantity_of(fields, "credits")
        self._program.client._core.note_spent(*slot_of(fields), amount, fields.get("balance"))
        return {}

    def _was_refused(self, fields: Fields) -> Seen:
        amount = quantity_of(fields, "credits")
        return {"refused": self._program.client._core.was_refused(*slot_of(fields), amount)}

    def _add_reservation(self, fields: Fields) -> Seen:
        company_id, credit_type_id = slot_of(fields)
        ends = instant(fields.number("expires_at_ms"))
        hold = Reservation(
            id=fields.text("id"),
            lease_id=fields.get("lease_id", ""),
            mode="client",
            company_id=company_id,
            credit_type_id=credit_type_id,
            event_subtype=fields.text("event_subtype"),
            quantity_reserved=fields.number("quantity_reserved"),
            credits_reserved=fields.number("credits_reserved"),
            consumption_rate=fields.number("consumption_rate"),
            expires_at=datetime.fromtimestamp(ends, timezone.utc),
        )
        self._backend.add(hold)
        return {}

    def _get_reservation(self, fields: Fields) -> Seen:
        return {"exists": self._backend.holds(self._reservation_id(fields))}

    def _consume_reservation(self, fields: Fields) -> Seen:
        amount, hold_id = fields.number("credits"), self._reservation_id(fields)
        if not fields.get("crash_before_refund"):
            return {"consumed": self._backend.consume(hold_id, amount)}
        try:
            self._backend.consume_and_crash(hold_id, amount)
        except StoreError:
            return {"throws": True}
        return {"throws": False}

    def _reserved_credits(self, fields: Fields) -> Seen:
        return {"total": self._backend.reserved_credits(slot_of(fields))}

    def _reservation_count(self, _fields: Fields) -> Seen:
        return {"count": self._backend.reservation_count()}

    def _sweep_expired(self, _fields: Fields) -> Seen:
        return {"swept": self._backend.sweep()}
