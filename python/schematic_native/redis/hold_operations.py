"""What is done to the holds of a store: record, claim, refund what was not used.

The order of batches is the promise: a debit is made before its hold is recorded, a claim before its
refund, so that whatever breaks in between never gives credits back twice. Where one server has all keys,
one script does both and nothing can break in between.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import scripts
from schematic_native.redis.commands import (
    Command,
    accept,
    as_list,
    call,
    has_failed,
    send_owed,
)
from schematic_native.redis.keys import member
from schematic_native.redis.lease_operations import LeaseOperations, debited
from schematic_native.redis.lease_row import Refused
from schematic_native.redis.reservation_row import GRACE, read_claim, row_of, values_of
from schematic_native.redis.values import amount, millis, number, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schematic_native._native import Reservation
    from schematic_native.ground.slots import Slot
    from schematic_native.redis.commands import Operation
    from schematic_native.redis.lease_row import SharedDebit
    from schematic_native.redis.reservation_row import Claimed

# What a script that records a hold returns if the id is in use.
ID_TAKEN = 1


class HoldOperations(LeaseOperations):
    """The operations on holds. Amounts are credits, instants epoch seconds."""

    def hold(self, draft: Reservation, time_to_live: int) -> Operation[SharedDebit | Refused]:
        """Debit a slot's live lease, and record the hold in the same script if the store allows that.

        If it does not, the debit says so, and the hold must still be added.

        Args:
            draft: the hold, whose lease and end are those of the debit.
            time_to_live: milliseconds after the debit at which it lapses.

        """
        slot, credits = (draft.company_id, draft.credit_type_id), draft.credits_reserved  # noqa: A001
        if not (self.placement.is_one_server or (yield from self.placement.allows_several_keys())):
            return (yield from self.try_reserve(slot, credits))
        if not (math.isfinite(credits) and credits >= 0):
            return Refused.SHORT
        hold_id = draft.id
        [reply] = yield [
            call(
                scripts.HOLD, self._keys.lease(slot), self._keys.reservation(hold_id),
                self._keys.by_expiry(), self._keys.by_credit(slot),
                member(slot, hold_id), time_to_live, *values_of(draft),
            )
        ]  # fmt: skip
        if self.placement.refuses_several_keys(reply):
            return (yield from self.try_reserve(slot, credits))
        # A script that failed half way has made the debit.
        accept(reply, lost=True)
        if reply == ID_TAKEN:
            raise StoreError(f"there is a hold {hold_id} already", lost=False)
        return debited(reply, recorded=True)

    def add(self, reservation: Reservation) -> Operation[bool]:
        """Record a hold whose credits were debited; False if its id is taken.

        The row goes first, the indexes after it. If only a part of that was done, the failure counts
        as lost: a claim of the hold cleans up.
        """
        slot = reservation.company_id, reservation.credit_type_id
        lapses = millis(reservation.expires_at.timestamp())
        key, held = self._keys.reservation(reservation.id), amount(reservation.credits_reserved)
        by_expiry, by_credit = self._keys.by_expiry(), self._keys.by_credit(slot)
        row, *indexes = yield [
            call(scripts.RECORD, key, lapses + GRACE, *row_of(reservation)),
            # Neither touches what another recording of the same id has written.
            Command(by_expiry, ("ZADD", by_expiry, "NX", lapses, member(slot, reservation.id))),
            Command(by_credit, ("HSETNX", by_credit, reservation.id, held)),
        ]
        recorded = accept(row) == 1
        for reply in indexes:
            accept(reply, lost=True)
        return recorded

    def consume(
        self,
        reservation_id: str,
        credits: float,  # noqa: A002
        slot: Slot | None = None,
    ) -> Operation[float | None]:
        """Claim a hold, once, and refund what was not used of it to its own lease.

        Returns the credits consumed, within what was held; None if there is no such hold. One script does
        all of it if the store allows that and the slot is known.
        """
        claimed = yield from self._settle(reservation_id, credits, slot)
        if claimed is None:
            return None
        # NaN counts as all: too small a refund is corrected when the lease ends, too large a one never.
        used = max(min(claimed.credits, credits), 0.0)
        if not claimed.is_finished:
            yield from self._finish(claimed, claimed.credits, used)
        return used

    def _settle(
        self, reservation_id: str, used: float, slot: Slot | None
    ) -> Operation[Claimed | None]:
        if slot is not None and (
            self.placement.is_one_server or (yield from self.placement.allows_several_keys())
        ):
            [reply] = yield [self._settled(reservation_id, used, slot)]
            if not self.placement.refuses_several_keys(reply):
                return claimed_by(reply, lost=True)
        [reply] = yield [call(scripts.CLAIM, self._keys.reservation(reservation_id))]
        return claimed_by(reply)

    def _settled(self, reservation_id: str, used: float, slot: Slot) -> Command:
        used = max(used, 0.0)
        limit = amount(used) if math.isfinite(used) else ""
        return call(
            scripts.SETTLE, self._keys.reservation(reservation_id), self._keys.lease(slot),
            self._keys.by_expiry(), self._keys.by_credit(slot),
            limit, *slot, reservation_id, member(slot, reservation_id),
        )  # fmt: skip

    def reserved_credits(self, slot: Slot) -> Operation[float]:
        """Add up the open holds of a slot."""
        key = self._keys.by_credit(slot)
        if not any(":" in part for part in slot):
            [reply] = yield [Command(key, ("HVALS", key))]
            return math.fsum(map(number, as_list(reply)))
        # With a colon in an id, another slot may share the key: the rows tell whose each hold is.
        [reply] = yield [Command(key, ("HKEYS", key))]
        ids = [text(each) for each in as_list(reply)]
        if not ids:
            return 0.0
        rows = [self._keys.reservation(each) for each in ids]
        asked = [Command(row, ("HMGET", row, "companyId", "creditTypeId")) for row in rows]
        held, *owners = yield [Command(key, ("HMGET", key, *ids)), *asked]
        amounts = zip(owners, as_list(held), strict=True)
        return math.fsum(number(each or "0") for owner, each in amounts if _is_of(owner, slot))

    def _finish(self, claimed: Claimed, held: float, used: float = 0.0) -> Operation[None]:
        """Refund the unused part of a claimed hold, and remove it from the indexes.

        Its member is removed last, so that a sweep still finds what was interrupted.
        """
        slot, hold_id = claimed.slot, claimed.reservation_id
        name = member(slot, hold_id)
        ends = [*self._end([slot], hold_id, claimed, held, used), self._unlist([name])]
        replies = yield from send_owed(ends)
        if has_failed(replies[0]):
            # Without its member no sweep would find the entry that is left in the other index.
            by_expiry = self._keys.by_expiry()
            yield [Command(by_expiry, ("ZADD", by_expiry, 0, name))]
        for reply in replies:
            accept(reply, lost=True)

    def _end(
        self,
        slots: Sequence[Slot],
        reservation_id: str,
        claimed: Claimed | None,
        held: float,
        used: float = 0.0,
    ) -> list[Command]:
        """Return the commands that end a hold: it is no longer reserved; if claimed, it is refunded."""
        commands = [self._forget(slot, reservation_id) for slot in slots]
        if claimed is not None and claimed.lease_id and math.isfinite(held) and held > used:
            commands.append(self._refund_of(claimed.slot, held, claimed.lease_id, used))
        return commands

    def _unlist(self, members: Sequence[str]) -> Command:
        key = self._keys.by_expiry()
        return Command(key, ("ZREM", key, *members), is_owed=True)

    def _forget(self, slot: Slot, reservation_id: str) -> Command:
        key = self._keys.by_credit(slot)
        return Command(key, ("HDEL", key, reservation_id), is_owed=True)


def _is_of(owner: object, slot: Slot) -> bool:
    """Tell whether the row of a hold names a slot; one that is gone names none."""
    names = as_list(owner)
    return None not in names and tuple(map(text, names)) == slot


def claimed_by(reply: object, *, lost: bool = False) -> Claimed | None:
    """Read the reply to a claim; None if there was no such hold."""
    accept(reply, lost=lost)
    return read_claim(reply) if isinstance(reply, (str, bytes)) else None
