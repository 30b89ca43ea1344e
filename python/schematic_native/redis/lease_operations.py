"""What is done to the leases of a store: read, install, debit, refund, extend.

Each is one script with one key, so it is atomic wherever the key is. A live lease is never
replaced, unless it has ended for the service.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from schematic_native.ground.machine import THIS
from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import scripts
from schematic_native.redis.commands import Command, accept, as_list, call
from schematic_native.redis.key_placement import KeyPlacement
from schematic_native.redis.lease_row import Installed, Refused, SharedLease, read_debit
from schematic_native.redis.values import amount, millis, number, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.ground.slots import Slot
    from schematic_native.redis.commands import Operation
    from schematic_native.redis.keys import Keys
    from schematic_native.redis.lease_row import SharedDebit


class LeaseOperations:
    """The operations on leases. Amounts are credits, instants epoch seconds.

    Args:
        keys: the names of the store's keys.
        is_spread: whether they are on several servers.
        token: draws a text for the names of keys that nobody else uses.

    """

    def __init__(
        self, keys: Keys, *, is_spread: bool = False, token: Callable[[], str] = THIS.token
    ) -> None:
        self._keys = keys
        self.placement = KeyPlacement(keys, is_spread=is_spread, token=token)

    def lease(self, slot: Slot) -> Operation[SharedLease | None]:
        """Read a slot's lease, live or expired."""
        [row] = yield [call(scripts.LEASE, self._keys.lease(slot), *slot)]
        fields = as_list(row)
        if not fields:
            return None
        lease_id, granted, remaining, expires_at, live = fields
        return SharedLease(
            text(lease_id),
            *slot,
            number(granted),
            number(remaining),
            number(expires_at) / 1000,
            live=live == 1,
            readable=live != -1,
        )

    def install(
        self,
        slot: Slot,
        lease_id: str,
        granted: float,
        expires_at: float,
        free: float | None = None,
        successor_of: str | None = None,
    ) -> Operation[Installed]:
        """Put a lease into a slot that has no live one.

        Args:
            slot: the company and the credit type.
            lease_id: the lease.
            granted: its credits.
            expires_at: when it ends.
            free: the credits that may be spent of it, if that is not the whole grant.
            successor_of: a lease that has ended for the service; it is replaced even if it is live
                by the server's clock.

        """
        if not (math.isfinite(granted) and granted >= 0):
            message = f"granted must be a finite number of credits, not negative, got {granted}"
            raise StoreError(message, lost=False)
        _check_end(expires_at)
        balance = granted if free is None else free
        terms = amount(granted), millis(expires_at), amount(balance)
        arguments = lease_id, *slot, *terms, successor_of or ""
        [reply] = yield [call(scripts.INSTALL, self._keys.lease(slot), *arguments)]
        written, there = as_list(reply)
        return Installed(written == 1, text(there))

    def try_reserve(self, slot: Slot, credits: float) -> Operation[SharedDebit | Refused]:  # noqa: A002
        """Take credits out of a slot's live lease."""
        if not (math.isfinite(credits) and credits >= 0):
            return Refused.SHORT
        [reply] = yield [call(scripts.RESERVE, self._keys.lease(slot), amount(credits), *slot)]
        accept(reply)
        return debited(reply)

    def refund(self, slot: Slot, credits: float, pin: str | None) -> Operation[None]:  # noqa: A002
        """Give credits back to a slot's lease; with a pin, only to that lease."""
        if math.isfinite(credits) and credits > 0:
            [reply] = yield [self._refund_of(slot, credits, pin)]
            accept(reply)

    def extend(
        self, slot: Slot, granted_total: float, expires_at: float | None, pin: str | None
    ) -> Operation[bool]:
        """Reconcile a slot's lease with the service's total; returns whether it was there."""
        if not (math.isfinite(granted_total) and granted_total >= 0):
            return False
        if expires_at is not None:
            _check_end(expires_at)
        ends = "" if expires_at is None else millis(expires_at)
        arguments = amount(granted_total), ends, pin or ""
        [reply] = yield [call(scripts.EXTEND, self._keys.lease(slot), *arguments)]
        return accept(reply) == 1

    def _refund_of(self, slot: Slot, held: float, pin: str | None, used: float = 0.0) -> Command:
        arguments = amount(held), pin or "", amount(used)
        return Command(self._keys.lease(slot), arguments, scripts.REFUND, is_owed=True)


def _check_end(expires_at: float) -> None:
    if not math.isfinite(expires_at):
        message = f"expires_at must be a finite number of epoch seconds, got {expires_at}"
        raise StoreError(message, lost=False)


def debited(reply: object, *, recorded: bool = False) -> SharedDebit | Refused:
    """Read the reply to a debit."""
    return read_debit(reply, recorded) if isinstance(reply, (str, bytes)) else Refused(reply)
