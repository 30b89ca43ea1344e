"""Reads the lease again and again, each time in one transaction, beside what has been billed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import redis
from typing_extensions import Self

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator

COMPANY_ID, CREDIT, EVENT = "comp_acme", "credit_inference", "inference_tokens"
SLOT = (COMPANY_ID, CREDIT)
LEASE = f"schematic:credit-lease:{COMPANY_ID}:{CREDIT}"
BY_EXPIRY = "schematic:credit-reservations:byExpiry"
BY_CREDIT = f"schematic:credit-reservations:byCredit:{COMPANY_ID}:{CREDIT}"
RATE = 2.0
# Seconds between two looks at the lease, and between two looks at the emulator's books.
LOOK, BOOKS = 0.005, 0.1


@dataclass(frozen=True)
class Row:
    """The lease and its open holds at one moment, in credits."""

    lease_id: str
    granted: Fraction
    remaining: Fraction
    reserved: Fraction

    @property
    def spent(self) -> Fraction:
        """What is neither to be had nor held."""
        return self.granted - self.remaining - self.reserved

    @property
    def is_possible(self) -> bool:
        """Whether nothing was overspent and nothing minted."""
        return self.remaining >= 0 and self.reserved >= 0 and self.spent >= 0


def read_row(client: redis.Redis) -> Row | None:
    """Read the lease; None before there is one."""
    reading = client.pipeline(transaction=True)
    row, holds = reading.hgetall(LEASE).hvals(BY_CREDIT).execute()
    if not row:
        return None
    remaining = Fraction(row["localRemainingCredits"])
    return Row(
        row["leaseId"],
        Fraction(row["grantedAmount"]),
        remaining + Fraction(row.get("localRemainingCarry", "0")),
        sum(map(Fraction, holds), Fraction(0)),
    )


def billed_credits(emulator: Emulator) -> float:
    """Tell what was billed so far."""
    billed: dict[str, int] = emulator.state()["billed"].get(COMPANY_ID, {})
    return billed.get(EVENT, 0) * RATE


@dataclass
class Seen:
    """What the watch saw."""

    looks: int = 0
    impossible: list[Row] = field(default_factory=list)
    lease_ids: set[str] = field(default_factory=set)
    # The most credits that were billed on top of what the lease had spent.
    excess: float = 0.0


class Watch:
    """Watches from a thread until the end of the block."""

    def __init__(self, redis_url: str, emulator: Emulator) -> None:
        self.seen = Seen()
        self._client = redis.Redis.from_url(redis_url, decode_responses=True)
        self._emulator = emulator
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        billed, books_at = 0.0, 0.0
        while not self._over.wait(LOOK):
            if time.monotonic() >= books_at:
                # Before the lease: what was billed then must have been spent by now.
                billed, books_at = billed_credits(self._emulator), time.monotonic() + BOOKS
            row = read_row(self._client)
            if row is not None:
                self._note(row, billed)

    def _note(self, row: Row, billed: float) -> None:
        self.seen.looks += 1
        self.seen.lease_ids.add(row.lease_id)
        self.seen.excess = max(self.seen.excess, billed - float(row.spent))
        if not row.is_possible:
            self.seen.impossible.append(row)
