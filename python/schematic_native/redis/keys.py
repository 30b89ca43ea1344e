"""The names of keys, which every SDK that shares a Redis must agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schematic_native.ground.slots import Slot


@dataclass(frozen=True)
class Keys:
    """The keys of one deployment.

    Args:
        prefix: what each begins with.

    """

    prefix: str

    def lease(self, slot: Slot) -> str:
        """Return the hash of a slot's lease."""
        return f"{self.prefix}credit-lease:{slot[0]}:{slot[1]}"

    def reservation(self, reservation_id: str) -> str:
        """Return the hash of a hold."""
        return f"{self.prefix}credit-reservation:{reservation_id}"

    def by_expiry(self) -> str:
        """Return the sorted set of all holds, by the millisecond in which they lapse."""
        return f"{self.prefix}credit-reservations:byExpiry"

    def by_credit(self, slot: Slot) -> str:
        """Return the hash of a slot's holds: credits by id."""
        return f"{self.prefix}credit-reservations:byCredit:{slot[0]}:{slot[1]}"


def member(slot: Slot, reservation_id: str) -> str:
    """Return a hold's member of the sorted set."""
    return f"{slot[0]}|{slot[1]}|{reservation_id}"


def read_member(name: str) -> tuple[list[Slot], str] | None:
    """Read a member of the sorted set: a hold's id and its slot; None if it is not one.

    If an id contains a `|`, its end is ambiguous: then every slot is returned that it may be.
    """
    *parts, reservation_id = name.split("|")
    ends = range(1, len(parts))
    slots = [("|".join(parts[:end]), "|".join(parts[end:])) for end in ends]
    return (slots, reservation_id) if slots else None
