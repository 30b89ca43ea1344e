"""What the store can do, free of I/O.

Each operation is a generator: it yields batches of commands, is sent their replies, and returns its
result. A batch is one round trip. A reply that is an exception is the server's refusal of that one
command, or a `StoreError` if only its server of a cluster has failed; what a driver throws in is a
fault of the whole batch. The order of batches is the promise:
a debit is there before its hold, a claim before its refund, so that whatever breaks in between only
ever leaks. Where one server has all keys there is no between: a debit and its hold are one script, a
claim and its refund another.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from redis.exceptions import ClusterCrossSlotError, ResponseError

from schematic_native.ground.machine import THIS
from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import scripts
from schematic_native.redis.keys import Keys, member, read_member
from schematic_native.redis.rows import (
    Claimed,
    Installed,
    Noted,
    Refused,
    SharedDebit,
    SharedLease,
    SlabNote,
    amount,
    context,
    hold_row,
    millis,
    number,
    read_claim,
    read_debit,
    read_slab,
    rest,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native._native import Reservation
    from schematic_native.ground.slots import Slot
    from schematic_native.redis.scripts import Script

T = TypeVar("T")


class Command(NamedTuple):
    """One command: a plain one, or a script's call. Further keys are the first arguments."""

    key: str
    arguments: tuple[str | int, ...]
    script: Script | None = None
    # It ends what a debit or a claim has begun, so it is sent even to a server that rests.
    is_owed: bool = False


Batch: TypeAlias = Sequence[Command]
Replies: TypeAlias = Sequence[object]
Operation: TypeAlias = Generator[Batch, Replies, T]

# A hold's row outlives the hold by this (milliseconds), so that the sweep finds it.
GRACE = 30_000
PAGE = 256
PAGES = 16
# So many keys are all in one of two places by chance once in a thousand million times.
PROBES = 30


# What a script says that records a hold.
ID_TAKEN = 1


class SweptPage(NamedTuple):
    """What a page of a sweep came to: the holds that it ended, and whether more may have lapsed."""

    ended: int
    is_full: bool


class Operations:
    """The operations of one store. Amounts are credits, instants epoch seconds.

    Args:
        keys: the names of its keys.
        is_spread: whether they are spread over several servers.
        token: draws a text for keys that nobody else has.

    """

    def __init__(
        self, keys: Keys, *, is_spread: bool = False, token: Callable[[], str] = THIS.token
    ) -> None:
        self._keys = keys
        self._token = token
        # Whether a script may have several keys; None until that was found out.
        self._takes_several: bool | None = False if is_spread else None

    # Leases

    def lease(self, slot: Slot) -> Operation[SharedLease | None]:
        """Read a slot's lease, live or expired."""
        [row] = yield [_call(scripts.LEASE, self._keys.lease(slot), *slot)]
        fields = _sequence(row)
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
    ) -> Operation[Installed]:
        """Put a lease into a slot that has no live one.

        `free` are the credits that may be spent of it, where that is not the whole grant.
        """
        if not (math.isfinite(granted) and granted >= 0):
            message = f"granted must be a finite number of credits, not negative, got {granted}"
            raise StoreError(message, lost=False)
        _check_end(expires_at)
        balance = granted if free is None else free
        arguments = lease_id, *slot, amount(granted), millis(expires_at), amount(balance)
        [reply] = yield [_call(scripts.INSTALL, self._keys.lease(slot), *arguments)]
        written, there = _sequence(reply)
        return Installed(written == 1, text(there))

    def try_reserve(self, slot: Slot, credits: float) -> Operation[SharedDebit | Refused]:  # noqa: A002
        """Take credits out of a slot's live lease."""
        if not (math.isfinite(credits) and credits >= 0):
            return Refused.SHORT
        [reply] = yield [_call(scripts.RESERVE, self._keys.lease(slot), amount(credits), *slot)]
        _accept(reply)
        return _debited(reply)

    def refund(self, slot: Slot, credits: float, pin: str | None) -> Operation[None]:  # noqa: A002
        """Give credits back to a slot's lease; with a pin, only to that lease."""
        if math.isfinite(credits) and credits > 0:
            [reply] = yield [self._refund(slot, credits, pin)]
            _accept(reply)

    def extend(
        self, slot: Slot, granted_total: float, expires_at: float | None, pin: str | None
    ) -> Operation[bool]:
        """Reconcile a slot's lease with the service's total; tells whether it was there."""
        if not (math.isfinite(granted_total) and granted_total >= 0):
            return False
        if expires_at is not None:
            _check_end(expires_at)
        ends = "" if expires_at is None else millis(expires_at)
        arguments = amount(granted_total), ends, pin or ""
        [reply] = yield [_call(scripts.EXTEND, self._keys.lease(slot), *arguments)]
        return _accept(reply) == 1

    def drop(self, slot: Slot) -> Operation[None]:
        """Empty a slot."""
        key = self._keys.lease(slot)
        [reply] = yield [Command(key, ("DEL", key))]
        _accept(reply)

    # Holds

    def hold(self, draft: Reservation, time_to_live: int) -> Operation[SharedDebit | Refused]:
        """Debit a slot's live lease, and record the hold at once if the store can do that.

        If it cannot, the debit says so, and the hold is still to be added.

        Args:
            draft: the hold, whose lease and end are those of the debit.
            time_to_live: milliseconds after the debit at which it lapses.

        """
        slot, credits = (draft.company_id, draft.credit_type_id), draft.credits_reserved  # noqa: A001
        if not (self._takes_several or (yield from self._is_one())):
            return (yield from self.try_reserve(slot, credits))
        if not (math.isfinite(credits) and credits >= 0):
            return Refused.SHORT
        hold_id = draft.id
        [reply] = yield [
            _call(
                scripts.HOLD, self._keys.lease(slot), self._keys.reservation(hold_id),
                self._keys.by_expiry(), self._keys.by_credit(slot),
                amount(credits), *slot, hold_id, member(slot, hold_id), time_to_live,
                time_to_live + GRACE, draft.event_subtype, amount(draft.quantity_reserved),
                amount(draft.consumption_rate), context(draft),
            )
        ]  # fmt: skip
        if self._refuses_several(reply):
            return (yield from self.try_reserve(slot, credits))
        # A script that failed half way has made the debit.
        _accept(reply, lost=True)
        if reply == ID_TAKEN:
            raise StoreError(f"there is a hold {hold_id} already", lost=False)
        return _debited(reply, recorded=True)

    def add(self, reservation: Reservation) -> Operation[bool]:
        """Record a hold whose credits were debited; False if its id is taken.

        The row goes first, the indexes after it. If only a part of that was done, the failure is
        one of which nobody knows: a claim of the hold cleans up.
        """
        slot = reservation.company_id, reservation.credit_type_id
        lapses = millis(reservation.expires_at.timestamp())
        key, held = self._keys.reservation(reservation.id), amount(reservation.credits_reserved)
        by_expiry, by_credit = self._keys.by_expiry(), self._keys.by_credit(slot)
        row, *indexes = yield [
            _call(scripts.RECORD, key, lapses + GRACE, *hold_row(reservation)),
            # Neither touches what another recording of the same id has written.
            Command(by_expiry, ("ZADD", by_expiry, "NX", lapses, member(slot, reservation.id))),
            Command(by_credit, ("HSETNX", by_credit, reservation.id, held)),
        ]
        recorded = _accept(row) == 1
        for reply in indexes:
            _accept(reply, lost=True)
        return recorded

    def consume(
        self,
        reservation_id: str,
        credits: float,  # noqa: A002
        slot: Slot | None = None,
    ) -> Operation[float | None]:
        """Claim a hold, once, and refund what was not used of it to its own lease.

        Returns the credits consumed, within what was held; None if there is no such hold. All of it is
        done at once if the store can do that, and the slot is known.
        """
        claimed = yield from self._settle(reservation_id, credits, slot)
        if claimed is None:
            return None
        # What is no number counts as all: too little refunded comes back, too much never does.
        used = max(min(claimed.credits, credits), 0.0)
        if not claimed.is_finished:
            yield from self._finish(claimed, claimed.credits, used)
        return used

    def _settle(
        self, reservation_id: str, used: float, slot: Slot | None
    ) -> Operation[Claimed | None]:
        if slot is not None and (self._takes_several or (yield from self._is_one())):
            [reply] = yield [self._settled(reservation_id, used, slot)]
            if not self._refuses_several(reply):
                return _claimed(reply, lost=True)
        [reply] = yield [_call(scripts.CLAIM, self._keys.reservation(reservation_id))]
        return _claimed(reply)

    def _settled(self, reservation_id: str, used: float, slot: Slot) -> Command:
        used = max(used, 0.0)
        told = amount(used) if math.isfinite(used) else ""
        return _call(
            scripts.SETTLE, self._keys.reservation(reservation_id), self._keys.lease(slot),
            self._keys.by_expiry(), self._keys.by_credit(slot),
            told, *slot, reservation_id, member(slot, reservation_id),
        )  # fmt: skip

    # Several keys at once

    def _is_one(self) -> Operation[bool]:
        """Tell whether one server has all keys, so that a script may have several of them."""
        if self._takes_several is None:
            self._takes_several = yield from self._probe()
        return self._takes_several is True

    def _probe(self) -> Operation[bool | None]:
        """Find out whether scripts may have several keys; None if no script can be run now.

        A server of a cluster refuses them. Some proxies do not, and send the whole script to where its
        first key belongs: so each key is looked for where it belongs itself.
        """
        token = self._token()
        first, *others = [self._keys.reservation(f"probe-{token}-{n}") for n in range(PROBES + 1)]
        script = "EVAL", scripts.PROBE.text
        batch = [
            Command(first, (*script, 1, first)),
            Command(others[0], (*script, PROBES, *others)),
            *(Command(key, ("DEL", key)) for key in others),
            Command(first, ("DEL", first)),
        ]
        try:
            alone, *several = yield batch
        except StoreError as error:
            # What it was asked for was not even sent.
            raise StoreError(str(error), lost=False, is_refusal=error.is_refusal) from error
        if self._refuses_several(several[0]):
            return False
        return None if _failed(alone) else several == [PROBES, *[1] * PROBES, 1]

    def _refuses_several(self, reply: object) -> bool:
        """Tell whether a script was not run since its keys are in several places after all."""
        refuses = isinstance(reply, ClusterCrossSlotError) or (
            isinstance(reply, ResponseError) and str(reply).startswith("CROSSSLOT")
        )
        if refuses:
            self._takes_several = False
        return refuses

    # Slabs

    def note(self, notes: Sequence[SlabNote]) -> Operation[list[Noted | None]]:
        """Let slabs hold less by what was used of each: no sweep gives that back.

        Returns what their rows say, None of a row that is gone.
        """
        calls = [self._note(note) for note in notes]
        replies = [_sequence(reply) for reply in (yield from _ask(calls))]
        lowered = [
            _call(scripts.LOWER, self._keys.by_credit(note.slot), note.row_id, text(reply[0]))
            for note, reply in zip(notes, replies, strict=True)
            if reply and (note.used or note.ended)
        ]
        for reply in (yield from _ask(lowered)):
            _accept(reply, lost=True)
        return [_noted(reply) if reply else None for reply in replies]

    def _note(self, note: SlabNote) -> Command:
        ended = [
            word
            for hold_id, settled in note.ended
            for word in (hold_id, "" if settled is None else amount(settled))
        ]
        key = self._keys.reservation(note.row_id)
        return _call(scripts.NOTE, key, amount(note.used), *ended)

    def close_slab(
        self, row: Reservation, used: float, held: Sequence[tuple[str, float]] = ()
    ) -> Operation[bool]:
        """Claim a slab, once, and refund to its lease what was used of it neither here nor elsewhere.

        `used` are the credits used here. What is `held` of it counts as used, unless its row tells
        what that hold was settled with elsewhere. Tells whether there is such a slab.
        """
        [reply] = yield [_call(scripts.CLOSE, self._keys.reservation(row.id))]
        fields = _sequence(reply)
        if not fields:
            return False
        claimed, settled = read_slab(fields)
        open_here = (each for hold_id, each in held if hold_id not in settled)
        unused = rest(row.credits_reserved, chain([used], settled.values(), open_here))
        yield from self._finish(claimed, unused)
        return True

    def has_reservation(self, reservation_id: str) -> Operation[bool]:
        """Tell whether a hold is open."""
        key = self._keys.reservation(reservation_id)
        [reply] = yield [Command(key, ("EXISTS", key))]
        return _accept(reply) == 1

    def reservation_count(self) -> Operation[int]:
        """Count the open holds of all slots."""
        key = self._keys.by_expiry()
        [reply] = yield [Command(key, ("ZCARD", key))]
        return int(number(_accept(reply)))

    def reserved_credits(self, slot: Slot) -> Operation[float]:
        """Add up the open holds of a slot."""
        key = self._keys.by_credit(slot)
        [reply] = yield [Command(key, ("HVALS", key))]
        return math.fsum(map(number, _sequence(reply)))

    def now(self) -> Operation[float]:
        """Tell the instant by the clock of the server that lists the holds."""
        [reply] = yield [Command(self._keys.by_expiry(), ("TIME",))]
        whole, millionths = map(number, _sequence(reply))
        return whole + millionths / 1e6

    def sweep(self, now: float) -> Operation[int]:
        """Give every hold back that has lapsed; returns how many there were.

        Takes so many at a time that no sweep takes long: the next goes on.
        """
        swept = 0
        for _ in range(PAGES):
            page = yield from self.sweep_page(now)
            swept += page.ended
            if not page.is_full:
                break
        return swept

    def sweep_page(self, now: float) -> Operation[SweptPage]:
        """Give the first page of holds back that have lapsed."""
        key = self._keys.by_expiry()
        [reply] = yield [
            Command(key, ("ZRANGEBYSCORE", key, "-inf", millis(now), "LIMIT", 0, PAGE))
        ]
        members = [text(name, undecoded="surrogateescape") for name in _sequence(reply)]
        ended = yield from self._end_all(members)
        return SweptPage(ended, len(members) == PAGE)

    def _end_all(self, members: Sequence[str]) -> Operation[int]:
        """End the holds of one page, and take what was read out of the index.

        Credits go back only for a row that this sweep has claimed, never for an index entry alone.
        A hold that could not be ended, or not forgotten, stays in the index for the next sweep.
        """
        holds = {name: found for name in members if (found := read_member(name)) is not None}
        at_once = bool(holds) and (yield from self._is_one())
        calls = [
            self._settled(hold_id, 0.0, slots[0])
            if at_once and len(slots) == 1
            else _call(scripts.CLAIM, self._keys.reservation(hold_id))
            for slots, hold_id in holds.values()
        ]
        replies = yield from _ask(calls)
        any(map(self._refuses_several, replies))  # then the next sweep ends them one by one
        claims = dict(zip(holds, map(_try_claimed, replies), strict=True))
        claimed = {n: claim for n, claim in claims.items() if not isinstance(claim, StoreError)}
        ends = {
            name: self._end(*holds[name], claim, claim.credits if claim else 0.0)
            for name, claim in claimed.items()
            if claim is None or not claim.is_finished
        }
        ended = iter((yield from _carry_out([*chain.from_iterable(ends.values())])))
        outcomes = {name: [*islice(ended, len(commands))] for name, commands in ends.items()}
        left = {
            name
            for name, (slots, _) in holds.items()
            if name not in outcomes or any(map(_failed, outcomes[name][: len(slots)]))
        }
        done = [name for name in members if name not in left]
        unlisted = yield from _ask([self._unlist(done)] if done else [])
        for reply in chain(claims.values(), *outcomes.values(), unlisted):
            _accept(reply, lost=True)
        return sum(claim is not None for claim in claimed.values())

    def _finish(self, claimed: Claimed, held: float, used: float = 0.0) -> Operation[None]:
        """Refund what was held and not used of a claimed hold, and take it out of the indexes.

        Until the refund is made the hold counts as reserved no more, and a sweep finds its member.
        """
        slot, hold_id = claimed.slot, claimed.reservation_id
        name = member(slot, hold_id)
        ends = [*self._end([slot], hold_id, claimed, held, used), self._unlist([name])]
        replies = yield from _carry_out(ends)
        if _failed(replies[0]):
            # Without its member no sweep would find what is left of the hold in the other index.
            by_expiry = self._keys.by_expiry()
            yield [Command(by_expiry, ("ZADD", by_expiry, 0, name))]
        for reply in replies:
            _accept(reply, lost=True)

    def _end(
        self,
        slots: Sequence[Slot],
        reservation_id: str,
        claimed: Claimed | None,
        held: float,
        used: float = 0.0,
    ) -> list[Command]:
        """Count a hold as reserved no more; then refund what was not used, if it was claimed."""
        commands = [self._forget(slot, reservation_id) for slot in slots]
        if claimed is not None and claimed.lease_id and math.isfinite(held) and held > used:
            commands.append(self._refund(claimed.slot, held, claimed.lease_id, used))
        return commands

    def _unlist(self, members: Sequence[str]) -> Command:
        key = self._keys.by_expiry()
        return Command(key, ("ZREM", key, *members), is_owed=True)

    def _forget(self, slot: Slot, reservation_id: str) -> Command:
        key = self._keys.by_credit(slot)
        return Command(key, ("HDEL", key, reservation_id), is_owed=True)

    def _refund(self, slot: Slot, held: float, pin: str | None, used: float = 0.0) -> Command:
        arguments = amount(held), pin or "", amount(used)
        return Command(self._keys.lease(slot), arguments, scripts.REFUND, is_owed=True)


def _check_end(expires_at: float) -> None:
    if not math.isfinite(expires_at):
        message = f"expires_at must be a finite number of epoch seconds, got {expires_at}"
        raise StoreError(message, lost=False)


def _call(script: Script, key: str, *arguments: str | int) -> Command:
    return Command(key, arguments, script)


def _debited(reply: object, *, recorded: bool = False) -> SharedDebit | Refused:
    return read_debit(reply, recorded) if isinstance(reply, (str, bytes)) else Refused(reply)


def _claimed(reply: object, *, lost: bool = False) -> Claimed | None:
    _accept(reply, lost=lost)
    return read_claim(reply) if isinstance(reply, (str, bytes)) else None


def _noted(reply: Sequence[object]) -> Noted:
    _, first, *settled = reply
    return Noted(int(number(first)), [None if not text(each) else number(each) for each in settled])


def _try_claimed(reply: object) -> Claimed | StoreError | None:
    """Read the answer to a claim; a row that is no text spoils no other's, and is gone next time."""
    try:
        return _claimed(reply)
    except StoreError as error:
        return error


def _ask(commands: Sequence[Command]) -> Operation[Replies]:
    """Ask nothing of nobody, or all at once."""
    return (yield commands) if commands else ()


def _carry_out(commands: Sequence[Command]) -> Operation[Replies]:
    """Do what follows a claim, which cannot be taken back: any fault leaves it half done."""
    try:
        return (yield from _ask(commands))
    except StoreError as error:
        raise StoreError(str(error), lost=True, is_refusal=error.is_refusal) from error


def _failed(reply: object) -> bool:
    return isinstance(reply, Exception)


def _accept(reply: object, *, lost: bool = False) -> object:
    """Return a reply that is no failure; `lost` if more was done already than what failed."""
    if isinstance(reply, StoreError):
        lost = lost or reply.lost
        raise StoreError(str(reply), lost=lost, is_refusal=reply.is_refusal) from reply
    if isinstance(reply, Exception):
        message = f"Redis refused a command: {reply}"
        raise StoreError(message, lost=lost, is_refusal=True) from reply
    return reply


def _sequence(reply: object) -> Sequence[object]:
    _accept(reply)
    if not isinstance(reply, (list, tuple)):
        raise StoreError(f"Redis answered with {type(reply).__name__}, not a list", lost=True)
    return reply
