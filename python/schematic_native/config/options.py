"""The options of calls: what a program may pass to a check, a track or an identify.

Nothing here is checked: the client does that when a call comes in. To add an option, add it here, to the
method that takes it (client/), and to docs/api.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

DefaultValue: TypeAlias = bool | Callable[[], bool] | None
OnAcquireFailure: TypeAlias = Literal["fail-closed", "fail-open"]
# Lookup keys of a company or a user as callers give them; a UUID counts as its text.
LookupKeys: TypeAlias = "Mapping[str, str | UUID]"


@dataclass
class EventUsage:
    """Usage of one event, for a check of whether it would still be allowed.

    Attributes:
        event_subtype: the event's name.
        quantity: how many units; rounded up.

    """

    event_subtype: str
    quantity: float


@dataclass
class EventQuantities:
    """Named quantities of one event (token kinds, say), priced by the entitlement.

    Attributes:
        event_subtype: the event's name.
        quantities: units by name, for example {"input_tokens": 1200}.
        quantity: units of the event itself, in addition to the named ones; None counts one.

    """

    event_subtype: str
    quantities: Mapping[str, float]
    quantity: float | None = None


@dataclass
class CheckFlagOptions:
    """Options of a plain flag check.

    Attributes:
        default_value: the value if the flag cannot be checked: a bool, or a function that returns one.
        timeout: seconds that the call may take.
        usage: asks whether this much more usage would still be allowed; rounded up.
        event_usage: the same for one event.
        event_quantities: the same for named quantities of one event.
        credit_cost: the same in credits, by credit id.

    """

    default_value: DefaultValue = None
    timeout: float | None = None
    usage: float | None = None
    event_usage: EventUsage | None = None
    credit_cost: Mapping[str, float] | None = None
    event_quantities: EventQuantities | None = None


@dataclass
class CheckOptions:
    """Options of `check`.

    Attributes:
        usage: units of the event to reserve credits for; None or 0 reserves nothing.
        event_subtype: the event that will be billed; None uses the entitlement's.
        on_acquire_failure: whether the check is allowed ("fail-open") or denied when credits cannot be
            reserved.
        default_value: the value if the flag cannot be checked: a bool, or a function that returns one.
        timeout: seconds that the whole check may take.

    """

    usage: float | None = None
    event_subtype: str | None = None
    on_acquire_failure: OnAcquireFailure = "fail-closed"
    default_value: DefaultValue = None
    timeout: float | None = None


@dataclass
class TrackOptions:
    """Options of `track`.

    Attributes:
        idempotency_key: the server counts events with the same key once within 24 hours.
        sent_at: when the event happened.
        trusted_client_clock: bill at `sent_at` instead of the time of arrival.
        backfill: the event is from the past.

    """

    idempotency_key: str | None = None
    sent_at: datetime | None = None
    trusted_client_clock: bool | None = None
    backfill: bool | None = None


@dataclass
class IdentifyOptions:
    """Options of `identify`.

    Attributes:
        idempotency_key: the server counts events with the same key once within 24 hours.
        prewarm: credit type ids to acquire a lease for, in the background.

    """

    idempotency_key: str | None = None
    prewarm: Sequence[str] | None = None


@dataclass
class TrackWithReservationOptions:
    """Options of `track_with_reservation`: traits to send with the event."""

    traits: Mapping[str, Any] | None = None


@dataclass
class EventBodyIdentifyCompany:
    """The company of an `identify`: its keys, its name, its traits."""

    keys: LookupKeys
    name: str | None = None
    traits: Mapping[str, Any] | None = None
