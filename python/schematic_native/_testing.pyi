"""What only tests need of the extension; there only if it is built with the cargo feature `testing`.

No published wheel has it, and nothing of the package imports it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias, type_check_only

from schematic_native._native import CheckFlagResult, Core, Reservation

# Answers a lease-backed check: flag key, company id, a credit and its balance in place of the real one, credit cost by
# credit, event usage. A result with an error is an engine that fails, as is one that raises.
Engine: TypeAlias = Callable[
    [str, str | None, tuple[str, float] | None, dict[str, float], tuple[str, int] | None],
    CheckFlagResult,
]

def scripted_core(engine: Engine, **settings: Any) -> Core:
    """Make a core whose lease-backed checks `engine` answers; the settings are those of `Core`."""

def try_reserve(
    core: Core, company_id: str, credit_type_id: str, credits: float
) -> tuple[float, str] | None:
    """Debit a slot; returns the credits left and the lease charged, or None if it was refused."""

def refund(
    core: Core, company_id: str, credit_type_id: str, credits: float, lease_id: str | None = None
) -> None:
    """Give credits back to a slot, if the lease in it is `lease_id`; None means any."""

def add_hold(core: Core, reservation: Reservation) -> bool:
    """Record a hold; False if its id is taken."""

def consume(core: Core, reservation_id: str, credits: float) -> float | None:
    """End a hold with so many credits used; returns the credits consumed, None if there is no such hold."""

def has_hold(core: Core, reservation_id: str) -> bool:
    """Tell whether a hold is open."""

@type_check_only
class Disk(Protocol):
    """A disk, and a machine without threads that it belongs to, for the spool of one core."""

    def create(self, path: Path, /) -> None:
        """Let a file be made, or raise what keeps it from being made."""

    def synced(self, path: Path, start: int, end: int, /) -> None:
        """Have a part of a file on the medium."""

    def synced_names(self, directory: Path, /) -> None:
        """Have the names in a directory on the medium."""

    def now(self) -> float:
        """Return seconds by a clock that never steps."""

    def new_owner(self) -> str:
        """Return a name that no other client has."""

def simulate_disk(disk: Disk) -> None:
    """Let the next core that is made on this thread have its spool on a disk of the test's."""

def tend_spool(core: Core) -> None:
    """Do what the thread of a spool does each time that it wakes, where there is none."""

def abandon_spool(core: Core) -> None:
    """End a spool as the death of its process would: its locks are free, and its files stay as they are."""
