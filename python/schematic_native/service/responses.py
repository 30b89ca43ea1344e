"""Reads the responses of the REST API: JSON values in, typed results out.

Only fields that a response makes no sense without are required. Any other field that a newer server fills in
another way is left out, and never makes the whole response fail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from schematic_native._native import CheckFlagResult, FeatureEntitlement, Reservation, WarningTier

_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


VALUE_TYPES = frozenset({"boolean", "credit", "numeric", "trait", "unlimited", "unknown"})
METRIC_PERIODS = frozenset({"all_time", "current_day", "current_month", "current_week"})
MONTH_RESETS = frozenset({"first_of_month", "billing_cycle"})


class UnreadableAnswerError(Exception):
    """A response of the API lacks a required field."""


@dataclass(frozen=True)
class GrantedLease:
    """A lease as the server granted it: total credits, and expiry in epoch seconds."""

    lease_id: str
    granted: float
    expires_at: float | None
    # Whether an earlier attempt of the same request may have been carried out: then others may have changed
    # the lease before this response.
    is_retried: bool = False


def read_instant(text: str) -> datetime:
    """Read an RFC 3339 instant, with any number of fraction digits (a Go server writes up to nine).

    Raises:
        ValueError: the text is not one.

    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 instant: {text!r}")
    date, time, fraction, zone = match.groups()
    offset = "+00:00" if zone in "Zz" else zone
    whole = datetime.fromisoformat(f"{date}T{time}{offset}")
    return whole + timedelta(microseconds=int((fraction or "").ljust(6, "0")[:6]))


def write_instant(epoch: float) -> str:
    """Write epoch seconds as RFC 3339 in UTC."""
    return datetime.fromtimestamp(epoch, timezone.utc).isoformat().replace("+00:00", "Z")


def read_object(value: object, what: str) -> Mapping[str, object]:
    """Require a JSON object."""
    if not isinstance(value, Mapping):
        raise UnreadableAnswerError(f"{what} is {type(value).__name__}, not an object")
    return value


def read_lease(value: object) -> GrantedLease:
    """Read a lease."""
    data = read_object(value, "the lease")
    expires_at = _instant(data.get("expires_at"))
    return GrantedLease(
        lease_id=_required_text(data, "id"),
        granted=_required_number(data, "granted_amount"),
        expires_at=None if expires_at is None else expires_at.timestamp(),
    )


def read_reservation(
    value: object,
    event_subtype: str | None,
    company: Mapping[str, str] | None,
    user: Mapping[str, str] | None,
) -> Reservation:
    """Read a reservation on the server.

    It has no lease of ours; as in the published SDKs, its own id takes the place of the lease's.
    """
    data = read_object(value, "the reservation")
    expires_at = _instant(data.get("expires_at"))
    if expires_at is None:
        raise UnreadableAnswerError("the reservation has no expires_at")
    reservation_id = _required_text(data, "id")
    return Reservation(
        id=reservation_id,
        lease_id=reservation_id,
        mode="server",
        company_id=_required_text(data, "company_id"),
        credit_type_id=_required_text(data, "credit_type_id"),
        event_subtype=event_subtype or _text(data.get("event_subtype")) or "",
        quantity_reserved=_required_number(data, "quantity_reserved"),
        credits_reserved=_required_number(data, "credits_reserved"),
        consumption_rate=_required_number(data, "consumption_rate"),
        expires_at=expires_at,
        company=company,
        user=user,
    )


def read_flag_result(value: object) -> CheckFlagResult:
    """Read the response to a check of one flag."""
    data = read_object(value, "the flag check")
    verdict = data.get("value")
    if not isinstance(verdict, bool):
        raise UnreadableAnswerError("the flag check has no bool value")
    return CheckFlagResult(
        flag=_required_text(data, "flag"),
        value=verdict,
        reason=_text(data.get("reason")) or "",
        flag_id=_text(data.get("flag_id")),
        rule_id=_text(data.get("rule_id")),
        rule_type=_text(data.get("rule_type")),
        company_id=_text(data.get("company_id")),
        user_id=_text(data.get("user_id")),
        entitlement=_entitlement(data.get("entitlement")),
        error=_text(data.get("error")),
        feature_allocation=_integer(data.get("feature_allocation")),
        feature_usage=_integer(data.get("feature_usage")),
        feature_usage_event=_text(data.get("feature_usage_event")),
        feature_usage_period=_text(data.get("feature_usage_period")),
        feature_usage_reset_at=_instant(data.get("feature_usage_reset_at")),
    )


def read_flag_results(value: object) -> list[CheckFlagResult]:
    """Read the response to a check of all flags; an entry that cannot be read is left out."""
    flags = read_object(value, "the check of all flags").get("flags")
    results = []
    for entry in flags if isinstance(flags, list) else []:
        try:
            results.append(read_flag_result(entry))
        except UnreadableAnswerError:
            continue
    return results


def _entitlement(value: object) -> FeatureEntitlement | None:
    if not isinstance(value, Mapping):
        return None
    feature_id, feature_key, value_type = (
        _text(value.get(name)) for name in ("feature_id", "feature_key", "value_type")
    )
    if feature_id is None or feature_key is None or value_type is None:
        return None
    return FeatureEntitlement(
        feature_id=feature_id,
        feature_key=feature_key,
        value_type=_one_of(VALUE_TYPES, value_type) or "unknown",
        allocation=_integer(value.get("allocation")),
        soft_limit=_integer(value.get("soft_limit")),
        usage=_integer(value.get("usage")),
        event_name=_text(value.get("event_name")),
        event_subtype=_text(value.get("event_subtype")),
        metric_period=_one_of(METRIC_PERIODS, value.get("metric_period")),
        month_reset=_one_of(MONTH_RESETS, value.get("month_reset")),
        metric_reset_at=_instant(value.get("metric_reset_at")),
        credit_id=_text(value.get("credit_id")),
        credit_total=_number(value.get("credit_total")),
        credit_used=_number(value.get("credit_used")),
        credit_remaining=_number(value.get("credit_remaining")),
        credit_reserved=_number(value.get("credit_reserved")),
        credit_settled=_number(value.get("credit_settled")),
        consumption_rate=_number(value.get("consumption_rate")),
        quantity_rates=_rates(value.get("quantity_rates")),
        warning_tiers=_tiers(value.get("warning_tiers")),
    )


def _rates(value: object) -> dict[str, float] | None:
    if not isinstance(value, Mapping):
        return None
    rates = {name: _number(rate) for name, rate in value.items()}
    return {name: rate for name, rate in rates.items() if rate is not None}


def _tiers(value: object) -> list[WarningTier] | None:
    if not isinstance(value, list):
        return None
    tiers = []
    for tier in value:
        if isinstance(tier, Mapping):
            key, at = _text(tier.get("key")), _integer(tier.get("value"))
            if key is not None and at is not None:
                tiers.append(WarningTier(key=key, value=at))
    return tiers


def _required_text(data: Mapping[str, object], name: str) -> str:
    text = _text(data.get(name))
    if not text:
        raise UnreadableAnswerError(f"the answer has no text {name}")
    return text


def _required_number(data: Mapping[str, object], name: str) -> float:
    number = _number(data.get(name))
    if number is None:
        raise UnreadableAnswerError(f"the answer has no number {name}")
    return number


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _one_of(known: frozenset[str], value: object) -> str | None:
    """Return a known value as it is; that of a newer server becomes "unknown"."""
    if not isinstance(value, str):
        return None
    return value if value in known else "unknown"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        return None
    # The engine counts in 64 bits; a larger number must be a mistake.
    return int(value) if -(2**63) <= value < 2**63 else None


def _instant(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return read_instant(value)
    except (ValueError, OverflowError):
        return None
