"""What checks and settles come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native import CheckResult
from tests.conformance import service as scripted
from tests.conformance.arguments import quantity_of, timeout_of
from tests.conformance.calls import Calls
from tests.conformance.clock import offset
from tests.conformance.engine import Script
from tests.conformance.programs import LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.programs import Call
    from tests.conformance.vectors import Fields
    from tests.conformance.wire import Seen

TRACKED = ("event", "quantity", "lease_id", "reservation_id", "company", "user", "traits")


class CheckOperations(Calls):
    """Operations that check and settle."""

    def _check(self, fields: Fields) -> Seen:
        self._tell(fields)
        self._script(fields)
        check = self._begin_check(fields)
        return self._end_check(check, fields)

    def _begin_check(self, fields: Fields) -> tuple[Call, Script, int]:
        company = fields.get("company", {})
        self._backend.fail_next(fields.get("faults", []))
        script = Script(fields.get("engine", []), company.get("credit_balances", {}))
        self._world.engine.follow(fields.text("flag_key"), script)
        events = len(self._service.events)
        call = self._program.start(
            "check",
            fields.text("flag_key"),
            {"id": company["id"]} if company else None,
            fields.get("user"),
            usage=quantity_of(fields, "usage") if "usage" in fields else fields.get("usage"),
            event_subtype=fields.get("event_subtype"),
            on_acquire_failure=fields.get("on_acquire_failure"),
            default_value=fields.get("default_value"),
            timeout=timeout_of(fields),
        )
        return call, script, events

    def _end_check(self, check: tuple[Call, Script, int], fields: Fields) -> Seen:
        call, script, events = check
        result = self._finish(call)
        assert isinstance(result, CheckResult)
        assert not script.faults, "; ".join(script.faults)
        seen = {**_describe(result), "engine_calls": script.calls, **self._wire.seen()}
        name = fields.get("save_reservation_as")
        if name is not None and result.reservation is not None:
            self._handles[name] = result.reservation
        if "flag_checks" in fields.get("expect", {}):
            seen["flag_checks"] = [e["body"] for e in self._sent("flag_check", events)]
        return seen

    def _check_flag(self, fields: Fields) -> Seen:
        """Check a flag plainly, by the rules engine."""
        self._tell(fields)
        company = fields.get("company", {})
        value = self._program.do("check_flag", fields.text("flag_key"), {"id": company["id"]})
        return {"value": value}

    def _track(self, fields: Fields) -> Seen:
        from schematic_native import TrackWithReservationOptions  # noqa: PLC0415

        handle = fields.get("handle")
        hold = None if handle is None else self._held(handle)
        before, events = hold and self._backend.holds(hold.id), len(self._service.events)
        traits = fields.get("traits")
        options = None if traits is None else TrackWithReservationOptions(traits=traits)
        quantity = quantity_of(fields, "actual_quantity")
        self._backend.fail_next(fields.get("faults", []))
        self._program.do("track_with_reservation", hold, quantity, options)
        moved = bool(before) and hold is not None and not self._backend.holds(hold.id)
        billed = [self._bill(event) for event in self._sent("track", events)]
        return {
            "settled_locally": moved,
            "track": billed[0] if len(billed) == 1 else billed or None,
        }

    def _bill(self, event: Mapping[str, Any]) -> Seen:
        """Tell what is billed; the random id of a hold is told by its handle."""
        key = event.get("idempotency_key") or ""
        for handle, hold in self._handles.items():
            key = key.replace(hold.id, handle)
        body = event["body"]
        return {"idempotency_key": key, **{name: body.get(name) for name in TRACKED}}

    def _sent(self, kind: str, since: int) -> list[dict[str, Any]]:
        """Have the events sent that wait, and return those of one kind that came since."""
        self._program.work(self._program.runtime()._sender.flush(LIMIT))
        return [event for event in self._service.events[since:] if event["type"] == kind]


def _describe(result: CheckResult) -> Seen:
    is_plain = result.reason == scripted.PLAIN_REASON
    seen = {
        "allowed": result.allowed,
        "value": result.value,
        "reason": "fallback" if is_plain else result.reason,
        "err": result.error,
        "fallback_called": is_plain,
        "has_reservation": result.reservation is not None,
    }
    if result.reservation is not None:
        hold = result.reservation
        seen["reservation"] = {
            "mode": hold.mode,
            "lease_id": hold.lease_id,
            "company_id": hold.company_id,
            "credit_type_id": hold.credit_type_id,
            "event_subtype": hold.event_subtype,
            "quantity_reserved": hold.quantity_reserved,
            "credits_reserved": hold.credits_reserved,
            "consumption_rate": hold.consumption_rate,
            "expires_at_ms": offset(hold.expires_at.timestamp()),
        }
    return seen
