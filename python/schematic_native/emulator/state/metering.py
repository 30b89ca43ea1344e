"""What one event costs a company: the credits of a unit, and the metric rows that it moves.

Nothing here is billed or counted; `billing` does that with what it is told here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.clock import format_instant
from schematic_native.emulator.credits.amounts import to_units
from schematic_native.emulator.state.directory import entitlement_row, row_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.emulator.credits.ledger import Ledger
    from schematic_native.emulator.state.directory import Directory, RowName

Entity = dict[str, Any]


class Meter:
    """What one event of one company moves: its metric rows and the credits it costs a unit."""

    __slots__ = ("plain", "rates", "rows")

    def __init__(self, rows: list[Entity], rates: dict[str, int], plain: list[str]) -> None:
        self.rows = rows
        self.rates = rates  # credit type id -> units for each event unit
        self.plain = plain  # the credit types that a track without a lease is billed in


class Meters:
    """The meters that were needed so far; whoever changes an entity or a balance clears them."""

    def __init__(self, directory: Directory, ledger: Ledger) -> None:
        self._directory = directory
        self._ledger = ledger
        self._meters: dict[tuple[str, str], Meter] = {}

    def clear(self) -> None:
        """Forget all meters, so that each is made again from what is known now."""
        self._meters.clear()

    def get(self, at: float, company_id: str, event: str) -> Meter:
        """Return the meter of one company's event."""
        meter = self._meters.get((company_id, event))
        if meter is None:
            meter = self._meters[company_id, event] = self._make(at, company_id, event)
        return meter

    def _make(self, at: float, company_id: str, event: str) -> Meter:
        rates: dict[str, int] = {}
        plain: list[str] = []
        for credit, rate, entitled in _rates(self._directory, company_id, event):
            if credit in rates:
                continue
            rates[credit] = to_units(rate, "consumption_rate")
            if entitled or (company_id, credit) in self._ledger.balances:
                plain.append(credit)
        return Meter(_metric_rows(self._directory, company_id, event, at), rates, plain)


def _rates(directory: Directory, company_id: str, event: str) -> Iterator[tuple[str, float, bool]]:
    """Yield (credit type id, credits per unit, whether the company is entitled) for an event.

    The company's entitlements come first, then the credit conditions of its own rules and of all
    flags.
    """
    company = directory.companies.get(company_id)
    for entitlement in (company or {}).get("entitlements") or []:
        credit = entitlement.get("credit_id")
        subtype = entitlement.get("event_subtype") or entitlement.get("event_name")
        if entitlement["value_type"] == "credit" and credit and subtype == event:
            yield credit, _rate(entitlement), True
    for condition in directory.conditions(company):
        credit = condition.get("credit_id")
        is_metered = condition["condition_type"] == "credit" and credit
        if is_metered and condition.get("event_subtype") == event:
            yield condition["credit_id"], _rate(condition), False


def _rate(holder: Entity) -> float:
    rate = holder.get("consumption_rate")
    return 1 if rate is None else rate


def _metric_rows(directory: Directory, company_id: str, event: str, at: float) -> list[Entity]:
    """Return the company's rows for an event; make those that a rule or entitlement reads."""
    company = directory.companies.get(company_id)
    if company is None:
        return []
    rows = [row for row in company["metrics"] if row["event_subtype"] == event]
    names = {row_name(row) for row in rows}
    for name in sorted(_rows_read(directory, company, event) - names):
        row = {
            "account_id": company["account_id"],
            "environment_id": company["environment_id"],
            "company_id": company_id,
            "event_subtype": name[0],
            "period": name[1],
            "month_reset": name[2],
            "value": 0,
            "created_at": format_instant(at),
            "valid_until": None,
        }
        company["metrics"].append(row)
        rows.append(row)
    return rows


def _rows_read(directory: Directory, company: Entity, event: str) -> set[RowName]:
    read = {
        (
            event,
            c.get("metric_period") or "all_time",
            c.get("metric_period_month_reset") or "first_of_month",
        )
        for c in directory.conditions(company)
        if c["condition_type"] == "metric" and c.get("event_subtype") == event
    }
    read |= {
        entitlement_row(entitlement)
        for entitlement in company.get("entitlements") or []
        if entitlement.get("event_name") == event
    }
    return read
