"""What only tests need of the extension; there only if it is built with the cargo feature `testing`.

No published wheel has it, and nothing of the package imports it.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

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
