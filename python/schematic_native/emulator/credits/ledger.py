"""The credit ledger: balances, leases and reservations of every company.

Pure: no clock, no randomness, no I/O. Time (epoch seconds) and new ids are arguments, amounts are
units of `amounts.ONE`. A lease or a reservation takes its credits from the company's balance when
it is made and gives back what was not spent when it ends; spent credits only ever move to `billed`.
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import NamedTuple

from schematic_native.emulator.credits import book as accounts
from schematic_native.emulator.credits.amounts import to_credits
from schematic_native.emulator.credits.book import Account, Book
from schematic_native.emulator.credits.holds import Lease, Reservation, Slot
from schematic_native.emulator.errors import (
    InsufficientCreditsError,
    InvalidRequestError,
    UnknownIdError,
)

LONGEST_HOLD = 3600.0  # seconds: how far ahead a lease or a reservation may expire
REPEAT_WINDOW = 86_400.0  # seconds for which an idempotency key is remembered


class Consumption(NamedTuple):
    """Where the credits of one track event came from, in units."""

    covered: int  # taken out of the lease or the reservation
    direct: int  # taken out of the company's balance


class Ledger:
    """Every credit of every company, each in exactly one place."""

    def __init__(self) -> None:
        self.book = Book()
        self.balances: dict[Slot, int] = {}
        self.billed: dict[Slot, int] = {}
        self.overage: dict[Slot, int] = {}
        # How far below zero a balance may go for a new debit; None means without limit.
        self.overdraft: dict[Slot, int | None] = {}
        self.leases: dict[str, Lease] = {}
        self.reservations: dict[str, Reservation] = {}
        self._active: dict[Slot, Lease] = {}
        self._held: dict[Slot, int] = {}
        self._deadlines: list[tuple[float, str, str]] = []
        self._extends: dict[tuple[str, str], tuple[float, Lease]] = {}
        self._reserves: dict[tuple[str, str], tuple[float, Reservation]] = {}

    # Balances

    def grant(self, now: float, slot: Slot, units: int, kind: str = "grant") -> None:
        """Give credits to a company, or take them away when `units` is negative."""
        self.balances[slot] = self.balances.get(slot, 0) + units
        source, target = accounts.grants(*slot), accounts.balance(*slot)
        if units < 0:
            source, target = target, source
        self.book.move(now, kind, source, target, abs(units))

    def set_balance(self, now: float, slot: Slot, units: int) -> None:
        """Make the remaining balance exactly `units`, by a grant of the difference."""
        self.sweep(now)
        self.grant(now, slot, units - self.balances.get(slot, 0), "adjust")

    def held(self, slot: Slot) -> int:
        """Return what open leases and reservations of a slot hold, in units."""
        return self._held.get(slot, 0)

    def active_lease(self, slot: Slot) -> Lease | None:
        """Return the lease that is in the slot; sweep first."""
        return self._active.get(slot)

    def covers(self, slot: Slot, units: int) -> bool:
        """Tell whether the balance, with its overdraft, has `units` for a new debit."""
        overdraft = self.overdraft.get(slot, 0)
        return overdraft is None or self.balances.get(slot, 0) + overdraft >= units

    def _debit(self, now: float, kind: str, slot: Slot, units: int, account: Account) -> None:
        if not self.covers(slot, units):
            left = to_credits(self.balances.get(slot, 0))
            raise InsufficientCreditsError(
                f"insufficient credits: {to_credits(units)} of {slot[1]} asked for, {left} left"
            )
        self.balances[slot] = self.balances.get(slot, 0) - units
        self._held[slot] = self._held.get(slot, 0) + units
        self.book.move(now, kind, accounts.balance(*slot), account, units)

    def _close(self, now: float, kind: str, hold: Lease | Reservation, status: str) -> None:
        slot = (hold.company_id, hold.credit_type_id)
        rest = hold.unspent
        hold.refunded += rest
        hold.status = status
        hold.updated_at = now
        self.balances[slot] = self.balances.get(slot, 0) + rest
        self._held[slot] -= rest
        self.book.move(now, kind, hold.account, accounts.balance(*slot), rest)

    def _bill_hold(self, now: float, hold: Lease | Reservation, units: int) -> None:
        slot = (hold.company_id, hold.credit_type_id)
        hold.updated_at = now
        self._held[slot] -= units
        self.billed[slot] = self.billed.get(slot, 0) + units
        self.book.move(now, "track", hold.account, accounts.billed(*slot), units)

    def bill(self, now: float, slot: Slot, units: int, kind: str = "direct") -> None:
        """Bill a company's balance, which may go negative: what was used was used."""
        self.balances[slot] = self.balances.get(slot, 0) - units
        self.billed[slot] = self.billed.get(slot, 0) + units
        if kind == "overage":
            self.overage[slot] = self.overage.get(slot, 0) + units
        self.book.move(now, kind, accounts.balance(*slot), accounts.billed(*slot), units)

    # Leases

    def acquire(
        self, now: float, lease_id: str, slot: Slot, units: int, expires_at: float
    ) -> Lease:
        """Lend `units` to a slot, or return the lease that is already there.

        Raises:
            InvalidRequestError: The amount is not positive or the expiry not within an hour.
            InsufficientCreditsError: The company's balance does not cover the amount.

        """
        self.sweep(now)
        if units <= 0:
            raise InvalidRequestError("requested_amount must be greater than 0")
        _check_expiry(now, expires_at)
        standing = self._active.get(slot)
        if standing is not None:
            return replace(standing)
        lease = Lease(lease_id, *slot, units, expires_at, created_at=now, updated_at=now)
        self._debit(now, "acquire", slot, units, lease.account)
        self.leases[lease_id] = self._active[slot] = lease
        heapq.heappush(self._deadlines, (expires_at, "lease", lease_id))
        return replace(lease)

    def extend(
        self, now: float, lease_id: str, units: int, expires_at: float | None, key: str | None
    ) -> Lease:
        """Add `units` to an active lease and move its expiry forward, never back.

        A repeated key within a day gets the first answer again and debits nothing.

        Raises:
            UnknownIdError: There never was such a lease.
            InvalidRequestError: The lease has ended, or the amount or expiry is not allowed.
            InsufficientCreditsError: The company's balance does not cover the amount.

        """
        self.sweep(now)
        lease = self._lease(lease_id)
        if key is not None:
            answered = self._extends.get((lease_id, key))
            if answered is not None and now - answered[0] < REPEAT_WINDOW:
                return answered[1]
        if lease.status != "active":
            raise InvalidRequestError(f"lease {lease_id} is {lease.status}")
        if units < 0:
            raise InvalidRequestError("additional_amount must not be negative")
        if expires_at is not None:
            _check_expiry(now, expires_at)
        self._debit(now, "extend", (lease.company_id, lease.credit_type_id), units, lease.account)
        lease.granted += units
        lease.updated_at = now
        if expires_at is not None and expires_at > lease.expires_at:
            lease.expires_at = expires_at
            heapq.heappush(self._deadlines, (expires_at, "lease", lease_id))
        answer = replace(lease)
        if key is not None:
            self._extends[lease_id, key] = (now, answer)
        return answer

    def release(self, now: float, lease_id: str) -> Lease:
        """End a lease and refund what it did not spend; ending it twice changes nothing.

        Raises:
            UnknownIdError: There never was such a lease.

        """
        self.sweep(now)
        lease = self._lease(lease_id)
        if lease.status == "active":
            self._close(now, "release", lease, "released")
            lease.released_at = now
            del self._active[lease.company_id, lease.credit_type_id]
        return replace(lease)

    def consume_lease(self, now: float, lease_id: str, units: int) -> Consumption:
        """Bill a lease for one event; the balance pays what the lease does not have.

        Raises:
            UnknownIdError: There never was such a lease.

        """
        self.sweep(now)
        lease = self._lease(lease_id)
        covered = min(units, lease.unspent) if lease.status == "active" else 0
        if covered:
            lease.tracked += covered
            self._bill_hold(now, lease, covered)
        return self._bill_rest(now, lease, units, covered, late=lease.status != "active")

    def _bill_rest(
        self, now: float, hold: Lease | Reservation, units: int, covered: int, *, late: bool
    ) -> Consumption:
        rest = units - covered
        if rest:
            kind = "late" if late else "overage"
            self.bill(now, (hold.company_id, hold.credit_type_id), rest, kind)
        return Consumption(covered, rest)

    def _lease(self, lease_id: str) -> Lease:
        lease = self.leases.get(lease_id)
        if lease is None:
            raise UnknownIdError(f"lease not found: {lease_id}")
        return lease

    # Reservations

    def reserve(self, now: float, reservation: Reservation, key: str | None) -> Reservation:
        """Take a reservation's credits out of the balance.

        A repeated key within a day gets the first answer again and debits nothing.

        Raises:
            InvalidRequestError: The expiry is not within the next hour.
            InsufficientCreditsError: The company's balance does not cover the amount.

        """
        self.sweep(now)
        _check_expiry(now, reservation.expires_at)
        slot = (reservation.company_id, reservation.credit_type_id)
        self._debit(now, "reserve", slot, reservation.reserved, reservation.account)
        self.reservations[reservation.id] = reservation
        heapq.heappush(self._deadlines, (reservation.expires_at, "reservation", reservation.id))
        answer = replace(reservation)
        if key is not None:
            self._reserves[reservation.company_id, key] = (now, answer)
        return answer

    def repeated_reserve(self, now: float, company_id: str, key: str | None) -> Reservation | None:
        """Return the answer that a key got within the last day, if any."""
        answered = None if key is None else self._reserves.get((company_id, key))
        if answered is None or now - answered[0] >= REPEAT_WINDOW:
            return None
        return answered[1]

    def release_reservation(self, now: float, reservation_id: str) -> Reservation:
        """Refund a reservation whole; one that has ended stays as it is.

        Raises:
            UnknownIdError: There never was such a reservation.

        """
        self.sweep(now)
        reservation = self._reservation(reservation_id)
        if reservation.status == "held":
            self._close(now, "release", reservation, "released")
            reservation.released_at = now
        return replace(reservation)

    def settle(self, now: float, reservation_id: str, quantity: int) -> Consumption:
        """Bill the actual quantity of a reservation and refund the rest; settles once.

        Raises:
            UnknownIdError: There never was such a reservation.

        """
        self.sweep(now)
        reservation = self._reservation(reservation_id)
        units = quantity * reservation.rate
        was_held = reservation.status == "held"
        covered = min(units, reservation.unspent) if was_held else 0
        if was_held:
            reservation.settled += covered
            self._bill_hold(now, reservation, covered)
            self._close(now, "settle", reservation, "settled")
        return self._bill_rest(now, reservation, units, covered, late=not was_held)

    def _reservation(self, reservation_id: str) -> Reservation:
        reservation = self.reservations.get(reservation_id)
        if reservation is None:
            raise UnknownIdError(f"reservation not found: {reservation_id}")
        return reservation

    # Expiry

    def next_deadline(self) -> float | None:
        """Return the earliest instant at which a sweep may find something, in epoch seconds."""
        return self._deadlines[0][0] if self._deadlines else None

    def sweep(self, now: float) -> list[Slot]:
        """End every lease and reservation whose expiry has come, in order; return their slots.

        Each ends at its own expiry, not at the instant of the sweep: so a replay that sweeps at
        other moments writes the same book.
        """
        swept: list[Slot] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            expires_at, kind, hold_id = heapq.heappop(self._deadlines)
            hold = self.leases[hold_id] if kind == "lease" else self.reservations[hold_id]
            if hold.status not in {"active", "held"} or hold.expires_at != expires_at:
                continue
            self._close(expires_at, "expire", hold, "expired")
            slot = (hold.company_id, hold.credit_type_id)
            if kind == "lease":
                del self._active[slot]
            swept.append(slot)
        return swept


def _check_expiry(now: float, expires_at: float) -> None:
    if expires_at <= now:
        raise InvalidRequestError("expires_at must be in the future")
    if expires_at > now + LONGEST_HOLD:
        raise InvalidRequestError("expires_at must be at most one hour out")
