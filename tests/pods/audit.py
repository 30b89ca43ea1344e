"""Holds what the pods wrote down against Redis and the emulator's books, promise by promise."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.pods.watch import RATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.pods.journal import Settle, Story
    from tests.pods.watch import Row, Seen


class Claim(NamedTuple):
    """One promise, and whether it held."""

    holds: bool
    text: str


@dataclass
class Books:
    """What there is when all pods have ended and every hold has been swept."""

    row: Row
    left: list[str]  # keys of holds that are still in Redis
    state: dict[str, Any]
    events: list[dict[str, Any]]
    audit: dict[str, Any]  # once the lease has ended, too
    opening: float  # the company's credits at the start


class Pods:
    """The stories of all pods, added up; amounts in credits."""

    def __init__(self, stories: Sequence[Story], most_in_flight: float) -> None:
        self.stories = stories
        self.killed = [story for story in stories if story.killed]
        self.settles = {
            hold_id: settle for story in stories for hold_id, settle in story.settles.items()
        }
        self.late = _credits(settle for settle in self.settles.values() if settle.late)
        self.certain = _credits(settle for settle in self.settles.values() if settle.came_back)
        self.uncertain = _credits(
            settle for settle in self.settles.values() if not settle.came_back
        )
        # What a kill may leak: the debits that were under way.
        self.most_leaked = len(self.killed) * most_in_flight

    def lost_to_kills(self, billed: set[str]) -> float:
        """Credits of settles that came back and were not billed, in pods that were killed."""
        lost = (
            settle
            for story in self.killed
            for hold_id, settle in story.settles.items()
            if settle.came_back and hold_id not in billed
        )
        return _credits(lost)


def _credits(settles: Iterable[Settle]) -> float:
    return sum(settle.credits for settle in settles)


def audit(pods: Pods, seen: Seen, books: Books) -> list[Claim]:
    """Hold everything against everything."""
    billed = {
        event["idempotency_key"].removeprefix("lease-reservation:"): event["body"]["quantity"]
        for event in books.events
        if event["type"] == "track" and not event.get("duplicate")
    }
    return [
        *_audit_calls(pods),
        *_audit_lease(pods, seen, books),
        *_audit_balance(pods, books, billed),
        *_audit_billing(pods, books, billed),
        *_audit_ending(books),
    ]


def _audit_calls(pods: Pods) -> list[Claim]:
    raised = [error for story in pods.stories for error in story.raised]
    lost = [s.undelivered for s in pods.stories if not s.killed and s.undelivered != 0]
    return [
        Claim(not raised, f"no call raised ({raised[:3]})"),
        Claim(not lost, f"each pod that was not killed came to its end, and sent all ({lost})"),
    ]


def _audit_lease(pods: Pods, seen: Seen, books: Books) -> list[Claim]:
    [lease] = books.state["leases"].values()
    [line] = books.audit["credits"].values()
    ids = {lease_id for story in pods.stories for lease_id in story.leases} | seen.lease_ids
    return [
        Claim(
            not seen.impossible,
            f"in {seen.looks:,} looks, settled + open holds never were more than the grant, nor "
            f"less than nothing ({seen.impossible[:2]})",
        ),
        Claim(
            seen.excess <= pods.late,
            f"whatever was billed had been spent before: {seen.excess:,.0f} credits in advance, "
            f"{pods.late:,.0f} settled late",
        ),
        Claim(ids == {books.row.lease_id}, f"all shared one lease ({len(ids)})"),
        Claim(
            float(books.row.granted) <= lease["granted"],
            f"no more was lent, {float(books.row.granted):,.0f} credits, than was granted",
        ),
        Claim(
            line["overage"] <= pods.late,
            f"no more was billed than the lease had: {line['overage']:,.0f} credits on top",
        ),
    ]


def _audit_balance(pods: Pods, books: Books, billed: dict[str, int]) -> list[Claim]:
    """Compare what the lease has spent with what was settled."""
    spent = float(books.row.spent)
    least = sum(units * RATE for units in billed.values()) - pods.late
    most = pods.certain + pods.uncertain
    leaked = max(0.0, spent - most)
    return [
        Claim(not books.left, f"no hold is left in Redis ({books.left[:3]})"),
        Claim(spent >= least, f"spent {spent:,.0f} credits >= billed {least:,.0f}"),
        Claim(
            leaked <= pods.most_leaked,
            f"leaked {leaked:,.0f} credits beyond the {most:,.0f} settled, within the "
            f"{pods.most_leaked:,.0f} that {len(pods.killed)} kills may leak",
        ),
        Claim(
            spent >= pods.certain - pods.late - pods.lost_to_kills(set(billed)),
            "all that pods settled and billed stays spent",
        ),
    ]


def _audit_billing(pods: Pods, books: Books, billed: dict[str, int]) -> list[Claim]:
    first = Counter(
        event["idempotency_key"]
        for event in books.events
        if event["type"] == "track" and not event.get("duplicate")
    )
    minted = billed.keys() - pods.settles.keys()
    other = [i for i in billed.keys() & pods.settles.keys() if billed[i] != pods.settles[i].units]
    missing = [
        hold_id
        for story in pods.stories
        if not story.killed
        for hold_id in story.settles.keys() - billed.keys()
    ]
    again = [key for key, times in first.items() if times > 1]
    return [
        Claim(not minted, f"nothing was billed that was not settled ({len(minted)})"),
        Claim(not other, f"each for what it was settled with ({other[:3]})"),
        Claim(not again, f"each of {len(billed):,} settles was billed once ({again[:3]})"),
        Claim(not missing, f"all of those that outlived their pod's work ({len(missing)})"),
    ]


def _audit_ending(books: Books) -> list[Claim]:
    [line] = books.audit["credits"].values()
    return [
        Claim(
            line["leased"] == 0 and line["balance"] == books.opening - line["billed"],
            "when the lease has ended all is there again but what was billed",
        ),
        Claim(books.audit["balanced"], f"the books balance ({books.audit['problems'][:3]})"),
    ]
