"""Reads the arguments of `track`, `identify` and `track_with_reservation` into events.

A wrong argument raises a TypeError or ValueError that names it, before anything is queued.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

from schematic_native._native import UNBILLABLE, Reservation, read_quantity
from schematic_native.config.options import (
    IdentifyOptions,
    TrackOptions,
    TrackWithReservationOptions,
)
from schematic_native.ground.arguments import (
    check_optional,
    check_optional_text,
    check_options,
    check_text,
    read_keys,
    read_text,
    shown,
    wrong_kind,
)

if TYPE_CHECKING:
    from schematic_native._native import Core
    from schematic_native.client.runtime import Runtime
    from schematic_native.config.options import EventBodyIdentifyCompany, LookupKeys
    from schematic_native.ground.arguments import Keys

_NO_TRACK_OPTIONS = TrackOptions()
_NO_IDENTIFY_OPTIONS = IdentifyOptions()


class TrackEvent(NamedTuple):
    """A track event, its fields in the order of `Core.track`."""

    event: str
    company: Keys | None
    user: Keys | None
    traits: bytes | None
    quantity: int | None
    idempotency_key: str | None
    sent_at: str | None
    trusted_client_clock: bool | None
    backfill: bool | None

    def queue(self, core: Core) -> None:
        """Put the event into the core's queue."""
        core.track(*self)

    def has_follow_up(self, runtime: Runtime) -> bool:
        """Tell whether queueing the event requires work on the event loop as well."""
        return runtime.replica is not None and bool(self.company)

    def follow_up(self, runtime: Runtime) -> None:
        """Count the event in the replicator's cache. Call it on the event loop."""
        if self.company:
            runtime.count(self.company, self.event, 1 if self.quantity is None else self.quantity)


class IdentifyEvent(NamedTuple):
    """An identify event, and the credit types to prewarm after it."""

    # In the order of `Core.identify`.
    fields: tuple[Keys, bytes | None, str | None, bytes | None, str | None]
    company_keys: Keys
    prewarm: list[str]

    def queue(self, core: Core) -> None:
        """Put the event into the core's queue."""
        core.identify(*self.fields)

    def has_follow_up(self, runtime: Runtime) -> bool:  # noqa: ARG002 - the interface of TrackEvent
        """Tell whether queueing the event requires work on the event loop as well."""
        return bool(self.prewarm)

    def follow_up(self, runtime: Runtime) -> None:
        """Prewarm once the service has received the event. Call it on the event loop."""
        runtime.prewarm_after_identify(self.company_keys, self.prewarm)


class Settlement(NamedTuple):
    """The arguments of a settle, in the order of `Core.settle_shared`."""

    reservation: Reservation
    quantity: float
    traits: bytes | None


def read_track(
    event: str,
    company: LookupKeys | None,
    user: LookupKeys | None,
    traits: Mapping[str, Any] | None,
    quantity: int | None,
    options: TrackOptions | None,
) -> TrackEvent:
    """Read the arguments of `track`."""
    check_options(options, TrackOptions)
    options = options or _NO_TRACK_OPTIONS
    units = None if quantity is None else read_units("quantity", quantity)
    check_optional_text("idempotency_key", options.idempotency_key)
    sent_at = None if options.sent_at is None else read_instant("sent_at", options.sent_at)
    check_optional("trusted_client_clock", options.trusted_client_clock, bool)
    check_optional("backfill", options.backfill, bool)
    return TrackEvent(
        check_text("event", event),
        read_keys("company", company),
        read_keys("user", user),
        read_json("traits", traits),
        units,
        options.idempotency_key,
        sent_at,
        options.trusted_client_clock,
        options.backfill,
    )


def read_identify(
    keys: LookupKeys,
    company: EventBodyIdentifyCompany | Mapping[str, Any] | None,
    name: str | None,
    traits: Mapping[str, Any] | None,
    options: IdentifyOptions | None,
) -> IdentifyEvent:
    """Read the arguments of `identify`."""
    check_options(options, IdentifyOptions)
    options = options or _NO_IDENTIFY_OPTIONS
    check_optional_text("idempotency_key", options.idempotency_key)
    company_keys, company_body = read_company(company)
    prewarm = [] if options.prewarm is None else read_texts("prewarm", options.prewarm)
    user_keys = read_keys("keys", keys)
    if user_keys is None:
        raise TypeError("keys must be a mapping of str to str, got None")
    check_optional_text("name", name)
    body = read_json("traits", traits)
    fields = user_keys, company_body, name, body, options.idempotency_key
    return IdentifyEvent(fields, company_keys, prewarm)


def read_settlement(
    reservation: Reservation | None,
    actual_quantity: float,
    options: TrackWithReservationOptions | None,
) -> Settlement | None:
    """Read the arguments of `track_with_reservation`; None if there is no reservation.

    A negative or non-finite quantity is accepted here: the caller logs it and does not raise.
    """
    check_options(options, TrackWithReservationOptions)
    traits = read_json("traits", None if options is None else options.traits)
    if reservation is None:
        return None
    if not isinstance(reservation, Reservation):
        raise wrong_kind("reservation", Reservation, reservation)
    if isinstance(actual_quantity, bool):
        raise TypeError(f"actual_quantity must be a number, got {shown(actual_quantity)}")
    quantity = read_quantity("actual_quantity", actual_quantity)
    if UNBILLABLE <= quantity < math.inf:
        raise ValueError(
            f"actual_quantity must be below 2**63, which no event can bill, got {quantity!r}"
        )
    return Settlement(reservation, quantity, traits)


def read_texts(name: str, values: object) -> list[str]:
    """Require a list of non-empty strings."""
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of str, got {shown(values)}")
    return [read_text(f"{name}[{number}]", value) for number, value in enumerate(values)]


def read_company_keys(company: object) -> Keys:
    """Require at least one lookup key of a company."""
    keys = read_keys("company", company)
    if not keys:
        raise ValueError("company must hold at least one key")
    return keys


def read_units(name: str, value: object) -> int:
    """Read a whole number of any numeric type that fits into an event's 64 bits."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {shown(value)}")
    if isinstance(value, SupportsIndex):
        units = value.__index__()
    else:
        number = read_quantity(name, value)
        if not number.is_integer():
            raise ValueError(f"{name} must be a whole number, got {number!r}")
        units = int(number)
    if not -(2**63) <= units < 2**63:
        raise ValueError(f"{name} must fit into 64 bits, got {shown(units)}")
    return units


def read_instant(name: str, value: object) -> str:
    """Write a datetime in RFC 3339. One without a time zone is taken as UTC."""
    from datetime import datetime, timezone  # noqa: PLC0415 - loaded with the first instant

    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, got {shown(value)}")
    return (value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)).isoformat()


def read_json(name: str, value: object) -> bytes | None:
    """Write a mapping as JSON; None stays None."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, got {type(value).__name__}")
    from schematic_native.ground import json_text  # noqa: PLC0415 - loaded with the first traits

    try:
        return json_text.write_traits(dict(value))
    except TypeError as error:
        raise TypeError(f"{name} must hold JSON values: {error}") from error


def read_company(company: object) -> tuple[Keys, bytes | None]:
    """Read the company of `identify`: a mapping, or an object with keys, name and traits."""
    if company is None:
        return {}, None
    if isinstance(company, Mapping):
        unknown = set(company) - {"keys", "name", "traits"}
        if unknown:
            raise ValueError(
                f"company takes keys, name and traits, got {sorted(map(str, unknown))}"
            )
        keys, name, traits = (company.get(part) for part in ("keys", "name", "traits"))
    else:
        keys, name, traits = (getattr(company, part, None) for part in ("keys", "name", "traits"))
    company_keys = read_keys("company.keys", keys)
    if not company_keys:
        raise ValueError("company.keys must hold at least one key")
    check_optional_text("company.name", name)
    if traits is not None and not isinstance(traits, Mapping):
        raise TypeError(f"company.traits must be a mapping, got {type(traits).__name__}")
    parts = {"keys": dict(company_keys), "name": name, "traits": traits and dict(traits)}
    body = {part: value for part, value in parts.items() if value is not None}
    return company_keys, read_json("company", body)
