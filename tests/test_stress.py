"""The short form of the stress run, and that its audit can fail."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from schematic_native import Reservation
from tests.stress.audit import Books, audit
from tests.stress.companies import CREDIT, EVENT
from tests.stress.counts import Count, Hold
from tests.stress.run import run


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])
def test_the_promises_hold_while_everything_fails(asynchronous: bool) -> None:
    said: list[str] = []
    options = {"seconds": 3.0, "processes": 2, "threads": 8, "seed": 7}
    assert run(**options, asynchronous=asynchronous, say=said.append), "\n".join(said)


def make_books() -> tuple[Count, Books]:
    """One hold of 20 credits, settled with 3 units of 2 credits, and what the emulator says of it."""
    ends = datetime.now(timezone.utc)
    reservation = Reservation("r1", "lse_1", "client", "comp", CREDIT, EVENT, 10, 20, 2.0, ends)
    count = Count(checks=1, holds=[Hold(reservation, [3], in_time=True)])
    track = {
        "type": "track",
        "body": {"quantity": 3},
        "idempotency_key": "lease-reservation:r1",
    }
    state: dict[str, Any] = {
        "leases": {"lse_1": {"granted": 20.0, "tracked": 6.0, "status": "released"}},
        "billed": {"comp": {EVENT: 3}},
        "anomalies": {},
    }
    sums = {"overage": 0.0, "leased": 0.0, "reserved": 0.0}
    audit = {"balanced": True, "problems": [], "credits": {CREDIT: sums}}
    return count, Books(state, [track], audit)


def failing(count: Count, books: Books) -> list[str]:
    return [claim.text for claim in audit(count, books) if not claim.holds]


def test_books_that_agree_pass_the_audit() -> None:
    assert failing(*make_books()) == []


@pytest.mark.parametrize(
    ("doctor", "says"),
    [
        (lambda c, b: b.events.clear(), "1 lost, 0 minted"),
        (lambda c, b: c.holds.clear(), "0 lost, 1 minted"),
        (lambda c, b: b.events.append(b.events[0]), "each was billed once"),
        (lambda c, b: b.events[0]["body"].update(quantity=4), "a quantity it was settled with"),
        (lambda c, b: b.state["billed"]["comp"].update({EVENT: 6}), "billed 6 units"),
        (lambda c, b: b.state["leases"]["lse_1"].update(granted=5.0), "was spent of a lease"),
        (lambda c, b: b.state["leases"]["lse_1"].update(tracked=21.0), "was billed for more"),
        (lambda c, b: b.audit["credits"][CREDIT].update(overage=1.0), "beyond live leases"),
        (lambda c, b: b.state["leases"]["lse_1"].update(status="active"), "whatever leaked"),
        (lambda c, b: b.audit["credits"][CREDIT].update(leased=1.0), "whatever leaked"),
        (lambda c, b: b.audit.update(balanced=False), "book balances"),
        (lambda c, b: b.state["leases"].clear(), "a lease that was granted"),
        (lambda c, b: c.raised.append("ValueError()"), "no call raised"),
        (lambda c, b: c.impossible.append("lse_1"), "less than nothing"),
        (lambda c, b: setattr(c, "overrun", 3.0), "overran"),
        (lambda c, b: setattr(c, "shutdown", 8.0), "budget"),
        (lambda c, b: setattr(c, "undelivered", 1), "left behind"),
        (lambda c, b: c.holds.append(c.holds[0]), "ids differ"),
    ],
)
def test_books_that_differ_in_one_way_fail_the_audit(doctor, says) -> None:
    count, books = make_books()
    doctor(count, books)
    assert any(says in text for text in failing(count, books))
