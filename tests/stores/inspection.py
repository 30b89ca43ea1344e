"""Operations that only tests need of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.redis import sweep_operations
from schematic_native.redis.commands import Command, accept
from schematic_native.redis.values import number

if TYPE_CHECKING:
    from schematic_native.ground.slots import Slot
    from schematic_native.redis import Operation, Operations


def drop_lease(ask: Operations, slot: Slot) -> Operation[None]:
    """Empty a slot."""
    key = ask._keys.lease(slot)
    [reply] = yield [Command(key, ("DEL", key))]
    accept(reply)


def is_open(ask: Operations, reservation_id: str) -> Operation[bool]:
    """Tell whether a hold is open."""
    key = ask._keys.reservation(reservation_id)
    [reply] = yield [Command(key, ("EXISTS", key))]
    return accept(reply) == 1


def count_holds(ask: Operations) -> Operation[int]:
    """Count the open holds of all slots."""
    key = ask._keys.by_expiry()
    [reply] = yield [Command(key, ("ZCARD", key))]
    return int(number(accept(reply)))


def sweep_all(ask: Operations, now: float) -> Operation[int]:
    """End the holds that have lapsed, page by page as a client does; returns how many there were."""
    swept = 0
    for _ in range(sweep_operations.PAGES):
        page = yield from ask.sweep_page(now)
        swept += page.ended
        if not page.is_full:
            break
    return swept
