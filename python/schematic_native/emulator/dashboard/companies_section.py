"""The section of companies: their credits as bars, their usage, and buttons to change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.dashboard.balance_bar import balance_bar
from schematic_native.emulator.dashboard.entity_buttons import entity_buttons
from schematic_native.emulator.dashboard.layout import field, form, nothing, section
from schematic_native.emulator.dashboard.markup import Markup, tag
from schematic_native.emulator.dashboard.texts import amount, count

if TYPE_CHECKING:
    from schematic_native.emulator.state.directory import CreditLine
    from schematic_native.emulator.state.state import State

MOST_SHOWN = 50


def companies_section(state: State) -> Markup:
    """Show companies, those with usage and holds first."""
    activity = _activity(state)
    ids = sorted(state.directory.companies, key=lambda each: (-activity.get(each, 0), each))
    shown = [_company(state, company_id) for company_id in ids[:MOST_SHOWN]]
    left_out = len(ids) - len(shown)
    return section(
        "companies",
        "Companies",
        _legend(),
        tag("div", shown, id="company-cards", class_="cards") if shown else nothing("None."),
        left_out > 0
        and nothing(f"{count(left_out, 'more company', 'more companies')}, not shown."),
    )


def _activity(state: State) -> dict[str, int]:
    """Rank companies: those with open holds before those with usage."""
    ledger = state.ledger
    ranks: dict[str, int] = {}
    for slot in ledger.balances:
        rank = 2 * bool(ledger.held(slot)) + bool(ledger.billed.get(slot))
        ranks[slot[0]] = max(rank, ranks.get(slot[0], 0))
    return ranks


def _legend() -> Markup:
    names = ("settled", "held", "remaining")
    items = [tag("li", tag("span", class_=f"swatch {name}"), name) for name in names]
    return tag("ul", items, class_="legend", aria_label="Parts of what was granted")


def _company(state: State, company_id: str) -> Markup:
    company = state.directory.companies[company_id]
    record = state.directory.records.get(company_id, {})
    keys = company.get("keys") or {}
    lines = state.lines(company_id)
    return tag(
        "article",
        tag("h3", record.get("name") or next(iter(keys.values()), company_id)),
        tag("p", _identity(company_id, keys), class_="identity"),
        [_credit(company_id, credit, line) for credit, line in sorted(lines.items())],
        _usage(state.billing.usage.get(company_id, {})),
        entity_buttons("company", company_id),
        id=f"company-{company_id}",
        class_="card",
        aria_label=f"Company {company_id}",
    )


def _identity(company_id: str, keys: dict[str, Any]) -> list[object]:
    pairs = ", ".join(f"{name}={value}" for name, value in keys.items())
    return [tag("code", company_id), f" {pairs}"]


def _credit(company_id: str, credit: str, line: CreditLine) -> Markup:
    name = f"balance-{company_id}-{credit}"
    figures = (
        ("granted", line.total),
        ("settled", line.settled),
        ("held", line.reserved),
        ("remaining", line.remaining),
    )
    return tag(
        "div",
        tag("h4", credit),
        balance_bar(line),
        tag(
            "dl",
            [
                tag("div", tag("dt", label), tag("dd", amount(value), data_figure=label))
                for label, value in figures
            ],
            class_="figures",
        ),
        form(
            name,
            "/_emulator/balance",
            tag("input", type="hidden", name="company_id", value=company_id),
            tag("input", type="hidden", name="credit_type_id", value=credit),
            field(name, "Remaining", "amount", type="number", step="any", required=True),
            tag("button", "Set balance", type="submit"),
            class_="inline",
            data_done=f"Balance of {company_id} set",
        ),
        class_="credit",
        id=f"credit-{company_id}-{credit}",
    )


def _usage(usage: dict[str, int]) -> Markup | None:
    if not usage:
        return None
    items = [tag("li", f"{event}: {quantity:,}") for event, quantity in sorted(usage.items())]
    return tag("ul", items, class_="usage", aria_label="Usage that was billed")
