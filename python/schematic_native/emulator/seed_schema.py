"""What a seed may hold: the fields of flags, companies and users, as DataStream sends them.

Every complaint names the place in the seed and what would be right. Fields that are not known here are
left alone: the service may know more than the emulator does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.credits.amounts import AmountError, is_finite, to_units

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[Any, str], None]

Entity = dict[str, Any]

_I64_MIN, _I64_MAX = -(2**63), 2**63 - 1
_LONGEST_SHOWN = 60  # characters of a wrong value in a message


class SeedError(ValueError):
    """The seed is not what the service could send; the message names the field."""


def show(value: object) -> str:
    """Write a value for a message, cut where it is long."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def as_object(value: object, path: str) -> Entity:
    """Return a value that must be an object."""
    if not isinstance(value, dict):
        raise SeedError(f"{path}: expected an object, got {show(value)}")
    return value


def _text(value: object, path: str) -> None:
    if not isinstance(value, str):
        raise SeedError(f"{path}: expected a string, got {show(value)}")


def _named(value: object, path: str) -> None:
    _text(value, path)
    if not value:
        raise SeedError(f"{path}: expected a non-empty string")


def _switch(value: object, path: str) -> None:
    if not isinstance(value, bool):
        raise SeedError(f"{path}: expected true or false, got {show(value)}")


def _whole(value: object, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not _I64_MIN <= value <= _I64_MAX:
        raise SeedError(f"{path}: expected a whole number of 64 bits, got {show(value)}")


def _number(value: object, path: str) -> None:
    if not is_finite(value):
        raise SeedError(f"{path}: expected a number, got {show(value)}")


def _amount(value: object, path: str) -> None:
    try:
        to_units(value, path)
    except AmountError as error:
        raise SeedError(f"{path}: expected an amount of credits: {error}") from error


def _rate(value: object, path: str) -> None:
    _amount(value, path)
    if isinstance(value, (int, float)) and value < 0:
        raise SeedError(f"{path}: expected a rate of 0 or more, got {show(value)}")


def _one_of(*names: str) -> Check:
    def check(value: object, path: str) -> None:
        if value not in names:
            raise SeedError(f"{path}: expected one of {', '.join(names)}, got {show(value)}")

    return check


def _list(check: Check) -> Check:
    def check_list(value: object, path: str) -> None:
        if not isinstance(value, list):
            raise SeedError(f"{path}: expected a list, got {show(value)}")
        for index, element in enumerate(value):
            check(element, f"{path}[{index}]")

    return check_list


def _map(check: Check) -> Check:
    def check_map(value: object, path: str) -> None:
        for name, element in as_object(value, path).items():
            check(element, f"{path}.{name}")

    return check_map


def _maybe(check: Check) -> Check:
    def check_unless_null(value: object, path: str) -> None:
        if value is not None:
            check(value, path)

    return check_unless_null


def _struct(
    required: dict[str, Check],
    optional: dict[str, Check],
) -> Check:
    """Check an object: optional fields may be missing or null, unknown ones are left alone."""

    def check(value: object, path: str) -> None:
        fields = as_object(value, path)
        for name, check_field in required.items():
            if name not in fields:
                raise SeedError(f"{path}.{name}: missing")
            check_field(fields[name], f"{path}.{name}")
        for name, check_field in optional.items():
            if fields.get(name) is not None:
                check_field(fields[name], f"{path}.{name}")

    return check


# Entities, as ENGINE needs them

_OWNERS = {"account_id": _text, "environment_id": _text}
_PERIOD = _one_of("all_time", "current_day", "current_week", "current_month")
_MONTH_RESET = _one_of("first_of_month", "billing_cycle")

_TRAIT_DEFINITION = _struct(
    {
        "id": _text,
        "comparable_type": _one_of("string", "bool", "int", "date"),
        "entity_type": _one_of("company", "user"),
    },
    {},
)
_TRAIT = _struct({"value": _text}, {"trait_definition": _TRAIT_DEFINITION})
_CONDITION = _struct(
    {"id": _text, **_OWNERS, "condition_type": _text, "operator": _text, "trait_value": _text},
    {
        "resource_ids": _list(_text),
        "event_subtype": _text,
        "metric_value": _whole,
        "metric_period": _PERIOD,
        "metric_period_month_reset": _MONTH_RESET,
        "credit_id": _text,
        "consumption_rate": _rate,
        "quantity_rates": _map(_maybe(_number)),
        "trait_definition": _TRAIT_DEFINITION,
        "comparison_trait_definition": _TRAIT_DEFINITION,
    },
)
_RULE = _struct(
    {
        "id": _text,
        **_OWNERS,
        "name": _text,
        "rule_type": _one_of(
            "global_override",
            "company_override",
            "plan_entitlement",
            "company_override_usage_exceeded",
            "plan_entitlement_usage_exceeded",
            "standard",
            "default",
        ),
        "priority": _whole,
        "value": _switch,
    },
    {
        "flag_id": _text,
        "conditions": _list(_CONDITION),
        "condition_groups": _list(_struct({}, {"conditions": _list(_CONDITION)})),
    },
)
_METRIC = _struct(
    {
        **_OWNERS,
        "company_id": _text,
        "event_subtype": _text,
        "period": _PERIOD,
        "month_reset": _MONTH_RESET,
        "value": _whole,
        "created_at": _text,
    },
    {"valid_until": _text},
)
_ENTITLEMENT = _struct(
    {
        "feature_id": _text,
        "feature_key": _text,
        "value_type": _one_of("boolean", "credit", "numeric", "trait", "unknown", "unlimited"),
    },
    {
        "allocation": _whole,
        "soft_limit": _whole,
        "usage": _whole,
        "event_name": _text,
        "event_subtype": _text,
        "metric_period": _PERIOD,
        "month_reset": _MONTH_RESET,
        "metric_reset_at": _text,
        "credit_id": _text,
        "consumption_rate": _rate,
        **dict.fromkeys(
            (
                "credit_total",
                "credit_used",
                "credit_remaining",
                "credit_reserved",
                "credit_settled",
            ),
            _number,
        ),
        "quantity_rates": _map(_maybe(_number)),
        "warning_tiers": _list(_struct({"key": _text, "value": _whole}, {})),
    },
)
_SPEND_POLICY = _struct(
    {"id": _text, "credit_id": _text},
    {
        "kind": _text,
        "scope": _text,
        "company_id": _text,
        "label": _text,
        "limit": _number,
        "consumed": _number,
        "resets_at": _text,
        "window": _struct({}, {"unit": _text, "count": _whole}),
    },
)

check_flag = _struct(
    {"id": _named, **_OWNERS, "key": _named, "default_value": _switch}, {"rules": _list(_RULE)}
)
check_company = _struct(
    {"id": _named, **_OWNERS},
    {
        "keys": _map(_text),
        "traits": _list(_TRAIT),
        "rules": _list(_RULE),
        "metrics": _list(_METRIC),
        "entitlements": _list(_ENTITLEMENT),
        "credit_balances": _map(_amount),
        "credit_postpaid": _map(_maybe(_struct({}, {"overdraft_limit": _amount}))),
        "credit_spend_policies": _list(_SPEND_POLICY),
        "subscription": _struct({"id": _text, "period_start": _text, "period_end": _text}, {}),
        "base_plan_id": _text,
        **dict.fromkeys(("plan_ids", "plan_version_ids", "billing_product_ids"), _list(_text)),
    },
)
check_user = _struct(
    {"id": _named, **_OWNERS},
    {
        "keys": _map(_text),
        "traits": _list(_TRAIT),
        "rules": _list(_RULE),
        "credit_spend_policies": _list(_SPEND_POLICY),
    },
)
