"""The sweep of a store: it ends the holds that have lapsed, of every process.

Credits go back only for a row that this sweep has claimed, never for an index entry alone.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import scripts
from schematic_native.redis.commands import (
    Command,
    accept,
    as_list,
    call,
    has_failed,
    send,
    send_owed,
)
from schematic_native.redis.hold_operations import HoldOperations, claimed_by
from schematic_native.redis.keys import read_member
from schematic_native.redis.values import millis, number, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schematic_native.redis.commands import Operation
    from schematic_native.redis.reservation_row import Claimed

# So many holds are ended in one page, and so many pages in one sweep: the next sweep goes on.
PAGE = 256
PAGES = 16


class LapsedPage(NamedTuple):
    """The first holds that have lapsed, by their names in the index, and when the server said so."""

    now: float
    members: Sequence[str]


class SweptPage(NamedTuple):
    """The result of one page: how many holds it ended, and whether more may have lapsed."""

    ended: int
    is_full: bool


class SweepOperations(HoldOperations):
    """The operations of a sweep. Instants are epoch seconds."""

    def lapsed(self) -> Operation[LapsedPage]:
        """Find the first page of holds that have lapsed by the clock of the server that lists them."""
        [reply] = yield [call(scripts.LAPSED, self._keys.by_expiry(), PAGE)]
        at, names = as_list(reply)
        return LapsedPage(number(at) / 1000, _members(names))

    def sweep_page(self, now: float) -> Operation[SweptPage]:
        """End the holds of the first page that have lapsed, and refund them."""
        return (yield from self.end_page((yield from self._lapsed_at(now))))

    def _lapsed_at(self, now: float) -> Operation[Sequence[str]]:
        key = self._keys.by_expiry()
        [reply] = yield [
            Command(key, ("ZRANGEBYSCORE", key, "-inf", millis(now), "LIMIT", 0, PAGE))
        ]
        return _members(reply)

    def end_page(self, members: Sequence[str]) -> Operation[SweptPage]:
        """End holds that have lapsed, and refund them."""
        ended = yield from self._end_all(members)
        return SweptPage(ended, len(members) == PAGE)

    def _end_all(self, members: Sequence[str]) -> Operation[int]:
        """End the holds of one page, and remove them from the indexes.

        A hold that could not be ended, or not removed, stays in the index for the next sweep.
        """
        holds = {name: found for name in members if (found := read_member(name)) is not None}
        at_once = bool(holds) and (yield from self.placement.allows_several_keys())
        calls = [
            self._settled(hold_id, 0.0, slots[0])
            if at_once and len(slots) == 1
            else call(scripts.CLAIM, self._keys.reservation(hold_id))
            for slots, hold_id in holds.values()
        ]
        replies = yield from send(calls)
        any(
            map(self.placement.refuses_several_keys, replies)
        )  # the next sweep ends them one by one
        claims = dict(zip(holds, map(_try_claimed, replies), strict=True))
        claimed = {n: claim for n, claim in claims.items() if not isinstance(claim, StoreError)}
        ends = {
            name: self._end(*holds[name], claim, claim.credits if claim else 0.0)
            for name, claim in claimed.items()
            if claim is None or not claim.is_finished
        }
        ended = iter((yield from send_owed([*chain.from_iterable(ends.values())])))
        outcomes = {name: [*islice(ended, len(commands))] for name, commands in ends.items()}
        left = {
            name
            for name, (slots, _) in holds.items()
            if name not in outcomes or any(map(has_failed, outcomes[name][: len(slots)]))
        }
        done = [name for name in members if name not in left]
        unlisted = yield from send([self._unlist(done)] if done else [])
        for reply in chain(claims.values(), *outcomes.values(), unlisted):
            accept(reply, lost=True)
        return sum(claim is not None for claim in claimed.values())


def _members(reply: object) -> Sequence[str]:
    return [text(name, undecoded="surrogateescape") for name in as_list(reply)]


def _try_claimed(reply: object) -> Claimed | StoreError | None:
    """Read the reply to a claim. One that cannot be read must not stop the others of its page."""
    try:
        return claimed_by(reply)
    except StoreError as error:
        return error
