"""The audit: the emulator's books held against what the processes counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.stress.companies import EVENT
from tests.stress.limits import DUST, SLACK

if TYPE_CHECKING:
    from tests.stress.counts import Count, Hold


class Claim(NamedTuple):
    """One promise, and whether it held."""

    holds: bool
    text: str


@dataclass
class Books:
    """What the emulator has in its books once every lease has ended."""

    state: dict[str, Any]
    events: list[dict[str, Any]]
    audit: dict[str, Any]


def audit(count: Count, books: Books) -> list[Claim]:
    """Hold the emulator's books against what the processes counted."""
    return [
        *_audit_calls(count),
        *_audit_leases(count, books),
        *_audit_billing(count, books),
        *_audit_ending(count, books),
    ]


def _audit_calls(count: Count) -> list[Claim]:
    return [
        Claim(not count.raised, f"no call raised ({count.raised[:3]})"),
        Claim(
            count.overrun < SLACK,
            f"no call overran its timeout by {SLACK:g} s (longest {count.overrun:.3f} s)",
        ),
        Claim(
            count.shutdown < 5 + SLACK,
            f"every shutdown kept to its budget of 5 s (longest {count.shutdown:.2f} s)",
        ),
        Claim(
            not count.impossible,
            f"no lease ever had less than nothing or more than its grant ({count.impossible[:3]})",
        ),
    ]


def _audit_leases(count: Count, books: Books) -> list[Claim]:
    leases = books.state["leases"]
    spent: Counter[str] = Counter()
    for hold in count.holds:
        if hold.in_time:
            spent[hold.reservation.lease_id] += hold.spent  # type: ignore[assignment]
    unknown = {hold.reservation.lease_id for hold in count.holds} - leases.keys()
    over = [i for i in spent.keys() - unknown if spent[i] > leases[i]["granted"] + DUST]
    tracked = [i for i, lease in leases.items() if lease["tracked"] > lease["granted"] + DUST]
    overage = sum(line["overage"] for line in books.audit["credits"].values())
    billed = {event.get("idempotency_key"): event for event in _billed_events(books)}
    excess = 0.0
    for hold in count.holds:
        if (event := billed.get(_key(hold))) is not None:
            excess += hold.excess(event["body"].get("quantity", 0))
    return [
        Claim(not unknown, f"every hold is of a lease that was granted ({sorted(unknown)[:3]})"),
        Claim(not over, f"no more was spent of a lease than was granted ({over[:3]})"),
        Claim(not tracked, f"no lease was billed for more than was granted ({tracked[:3]})"),
        Claim(
            overage <= excess + DUST,
            f"billed beyond live leases, {overage:,.1f} credits, is within what callers settled "
            f"beyond their holds, {excess:,.1f}",
        ),
    ]


def _key(hold: Hold) -> str:
    return f"lease-reservation:{hold.reservation.id}"


def _billed_events(books: Books) -> list[dict[str, Any]]:
    events = (event for event in books.events if event["type"] == "track")
    return [event for event in events if not event.get("duplicate")]


def _audit_billing(count: Count, books: Books) -> list[Claim]:
    settled = {_key(hold): hold for hold in count.holds if hold.settles}
    first = _billed_events(books)
    repeats = sum(event.get("duplicate", False) for event in books.events)
    times = Counter(event.get("idempotency_key") for event in first)
    repeated = [key for key, number in times.items() if number > 1]
    foreign = {
        event["idempotency_key"]
        for event in first
        if event["idempotency_key"] in settled
        and event["body"].get("quantity", 0) not in settled[event["idempotency_key"]].settles
    }
    billed = sum(events.get(EVENT, 0) for events in books.state["billed"].values())
    quantities = {event["idempotency_key"]: event["body"].get("quantity", 0) for event in first}
    units = sum(quantities.get(key, 0) for key in settled)
    late = books.state["anomalies"].get("track event of an ended lease", 0)
    return [
        Claim(
            times.keys() == settled.keys(),
            f"each of {len(settled):,} settled holds was billed, and nothing else was "
            f"({len(settled.keys() - times.keys())} lost, {len(times.keys() - settled.keys())} minted)",
        ),
        Claim(not repeated, f"each was billed once, {repeats:,} repeats ignored"),
        Claim(not foreign, f"each for a quantity it was settled with ({sorted(foreign)[:3]})"),
        Claim(
            billed == units,
            f"billed {billed:,} units = settled {units:,} units ({late:,} after their lease's end)",
        ),
        Claim(count.undelivered == 0, f"no event was left behind ({count.undelivered})"),
    ]


def _audit_ending(count: Count, books: Books) -> list[Claim]:
    active = [i for i, lease in books.state["leases"].items() if lease["status"] == "active"]
    lines = books.audit["credits"].values()
    held = sum(line["leased"] + line["reserved"] for line in lines)
    ids = {hold.reservation.id for hold in count.holds}
    return [
        Claim(len(ids) == len(count.holds), f"all {len(ids):,} reservation ids differ"),
        Claim(
            not active and held == 0,
            "whatever leaked came back when the leases ended: none is held",
        ),
        Claim(
            books.audit["balanced"],
            f"the emulator's book balances: nothing minted, nothing lost {books.audit['problems'][:3]}",
        ),
    ]
