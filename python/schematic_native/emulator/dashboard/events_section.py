"""The section of the event log: what clients posted, newest first, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.dashboard.layout import nothing, row, section, table
from schematic_native.emulator.dashboard.markup import Markup, tag
from schematic_native.emulator.dashboard.texts import count, instant

if TYPE_CHECKING:
    from schematic_native.emulator.state.event_log import LoggedEvent
    from schematic_native.emulator.state.state import State

MOST_SHOWN = 100
# What an event does that is neither a repeat nor out of order.
_OUTCOMES = {"track": "billed", "identify": "merged", "flag_check": "noted"}


def events_section(state: State) -> Markup:
    """Show the newest events, and how many there were of each anomaly."""
    log = state.log
    newest = list(log.read(max(0, log.count - MOST_SHOWN)))
    rows = [_event(logged) for logged in reversed(newest)]
    columns = ("number", "time", "event", "company", "quantity", "outcome")
    anomalies = [
        tag("li", f"{number} x {what}") for what, number in sorted(state.billing.anomalies.items())
    ]
    return section(
        "events",
        "Events",
        log.count > 0 and tag("p", count(log.count, "event"), id="events-count"),
        bool(anomalies) and tag("ul", anomalies, class_="anomalies", aria_label="Anomalies"),
        table("events", "Newest events", columns, rows) if rows else nothing("None yet."),
    )


def _event(logged: LoggedEvent) -> Markup:
    body = logged.event["body"]
    kind = logged.event["type"]
    if logged.duplicate:
        outcome, mark = "duplicate", "duplicate"
    elif logged.anomaly is not None:
        outcome, mark = f"anomaly: {logged.anomaly}", "anomaly"
    else:
        outcome, mark = _OUTCOMES[kind], "plain"
    return row(
        f"event-{logged.number}",
        logged.number + 1,
        instant(logged.at),
        _name(kind, body),
        _pairs(body.get("company") or body.get("req_company") or body.get("company_id")),
        body.get("quantity") if kind == "track" else None,
        tag("span", outcome, class_=f"outcome {mark}"),
    )


def _name(kind: str, body: dict[str, Any]) -> str:
    if kind == "track":
        return f"track {body.get('event')}"
    if kind == "flag_check":
        return f"flag check {body.get('flag_key')}"
    return f"identify {_pairs(body.get('keys'))}"


def _pairs(keys: object) -> str:
    """Write lookup keys; an event may hold anything there."""
    if isinstance(keys, dict):
        keys = keys.get("keys", keys)
    if isinstance(keys, dict):
        return ", ".join(f"{name}={value}" for name, value in keys.items())
    return "" if keys is None else str(keys)
