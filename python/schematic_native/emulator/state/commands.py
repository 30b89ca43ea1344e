"""The commands that change the state, each as the record that the journal keeps of it.

A record holds everything that carrying it out needs, new ids included, so that the journal can be
replayed. The instant is kept beside it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

Entity = dict[str, Any]


# Draws the random part of an id, of so many bytes; a simulation puts its own in this place.
draw_token: Callable[[int], str] = secrets.token_hex


def _new_id(prefix: str) -> Any:
    """Declare a field that is a new id unless the journal says which."""
    make: Callable[[], str] = lambda: f"{prefix}_{draw_token(10)}"  # noqa: E731
    return field(default_factory=make)


@dataclass(frozen=True)
class Command:
    """Something that changes the state; `do` names it in the journal."""

    do: ClassVar[str]


@dataclass(frozen=True)
class Acquire(Command):
    """Lend `amount` credits until `expires_at`, or return the slot's active lease."""

    do: ClassVar[str] = "acquire"
    company_id: str
    credit: str
    amount: float
    expires_at: float
    lease_id: str = _new_id("lse")


@dataclass(frozen=True)
class Extend(Command):
    """Add `amount` credits to a lease; a repeated key gets the first answer again."""

    do: ClassVar[str] = "extend"
    lease_id: str
    amount: float
    expires_at: float | None
    key: str | None


@dataclass(frozen=True)
class Release(Command):
    """End a lease and refund what it did not spend."""

    do: ClassVar[str] = "release"
    lease_id: str


@dataclass(frozen=True)
class Reserve(Command):
    """Hold `quantity * rate` credits for a check that came to `verdict`."""

    do: ClassVar[str] = "reserve"
    slot: tuple[str, str]
    event_subtype: str | None
    rate: float
    quantity: int
    expires_at: float
    key: str | None
    verdict: Entity
    reservation_id: str = _new_id("res")


@dataclass(frozen=True)
class ReleaseReservation(Command):
    """Refund a reservation whole."""

    do: ClassVar[str] = "release_reservation"
    reservation_id: str


@dataclass(frozen=True)
class SetCompany(Command):
    """Add or replace a checked company; the balances it names become its balances."""

    do: ClassVar[str] = "set_company"
    company: Entity


@dataclass(frozen=True)
class SetFlag(Command):
    """Add or replace a checked flag."""

    do: ClassVar[str] = "set_flag"
    flag: Entity


@dataclass(frozen=True)
class SetUser(Command):
    """Add or replace a checked user."""

    do: ClassVar[str] = "set_user"
    user: Entity


@dataclass(frozen=True)
class Delete(Command):
    """Forget a flag, company or user; what its ledger holds stays."""

    do: ClassVar[str] = "delete"
    kind: str
    entity_id: str


@dataclass(frozen=True)
class SetBalance(Command):
    """Make a company's remaining balance exactly `amount` credits."""

    do: ClassVar[str] = "set_balance"
    company_id: str
    credit: str
    amount: float


@dataclass(frozen=True)
class GrantCredits(Command):
    """Give a company credits, until they expire if they do."""

    do: ClassVar[str] = "grant_credits"
    company_id: str
    credit: str
    amount: float
    reason: str
    expires_at: float | None
    grant_id: str = _new_id("bcgrt")


@dataclass(frozen=True)
class ZeroOutGrant(Command):
    """Take back what is left of a grant."""

    do: ClassVar[str] = "zero_out_grant"
    grant_id: str
    reason: str


@dataclass(frozen=True)
class IssueToken(Command):
    """Make a temporary access token for a company."""

    do: ClassVar[str] = "issue_token"
    company_id: str
    seconds: float
    token_id: str = _new_id("tmptok")
    token: str = _new_id("token")


BY_NAME: dict[str, type[Command]] = {kind.do: kind for kind in Command.__subclasses__()}
