"""The seed: what the emulated service knows when it starts, read and checked.

The file is wire JSON: `{"api_key", "flags", "companies", "users"}`, each entity exactly as
DataStream sends it.
Every complaint names the place in the file and what would be right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schematic_native.emulator.amounts import AmountError, is_finite, to_units
from schematic_native.ground import json_text

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

I64_MIN, I64_MAX = -(2**63), 2**63 - 1
_LONGEST_SHOWN = 60  # characters of a wrong value in a message

Entity = dict[str, Any]


class SeedError(ValueError):
    """The seed is not what the service could send; the message names the field."""


@dataclass(frozen=True)
class Seed:
    """A checked seed."""

    api_key: str
    flags: list[Entity]
    companies: list[Entity]
    users: list[Entity]
    digest: str


def load_seed(source: str | os.PathLike[str] | Mapping[str, Any] | None = None) -> Seed:
    """Read a seed from a file or a mapping; the one that ships with the package by default.

    Raises:
        SeedError: The seed is malformed; the message names the field.
        OSError: The file cannot be read.

    """
    if source is None:
        content = (
            resources.files("schematic_native.emulator").joinpath("inference.json").read_bytes()
        )
    elif isinstance(source, Mapping):
        try:
            content = json_text.write(dict(source))
        except TypeError as error:
            raise SeedError(f"seed: must hold JSON values only: {error}") from error
    else:
        content = Path(source).read_bytes()
    try:
        value = json_text.read(content)
    except json_text.NotJSONError as error:
        raise SeedError(f"seed: not valid JSON: {error}") from error
    return _check_seed(value)


def _check_seed(value: object) -> Seed:
    seed = _object(value, "seed")
    api_key = seed.get("api_key")
    if not isinstance(api_key, str) or not api_key:
        raise SeedError(f"api_key: expected a non-empty string, got {_show(api_key)}")
    for name in ("flags", "companies", "users"):
        if seed.get(name) is None:
            seed[name] = []
        if not isinstance(seed[name], list):
            raise SeedError(f"{name}: expected a list, got {_show(seed[name])}")
    unknown = set(seed) - {"api_key", "flags", "companies", "users"}
    if unknown:
        raise SeedError(f"{min(unknown)}: unknown; a seed has api_key, flags, companies and users")
    for name, check in (("flags", check_flag), ("companies", check_company), ("users", check_user)):
        for index, entity in enumerate(seed[name]):
            check(entity, f"{name}[{index}]")
        _check_unique(seed[name], name)
    digest = hashlib.sha256(json_text.write(seed, sort_keys=True)).hexdigest()
    return Seed(api_key, seed["flags"], seed["companies"], seed["users"], digest)


def _check_unique(entities: list[Entity], path: str) -> None:
    seen: dict[tuple[str, str], int] = {}
    for index, entity in enumerate(entities):
        names = [("id", entity["id"])]
        if path == "flags":
            names.append(("key", entity["key"].lower()))
        else:
            pairs = (entity.get("keys") or {}).items()
            names += [(f"key {name.lower()}", value.lower()) for name, value in pairs]
        for name in names:
            if name in seen:
                raise SeedError(
                    f"{path}[{index}]: {name[0]} {name[1]!r} is taken by {path}[{seen[name]}]"
                )
            seen[name] = index


# Values


def _show(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _object(value: object, path: str) -> Entity:
    if not isinstance(value, dict):
        raise SeedError(f"{path}: expected an object, got {_show(value)}")
    return value


def _text(value: object, path: str) -> None:
    if not isinstance(value, str):
        raise SeedError(f"{path}: expected a string, got {_show(value)}")


def _named(value: object, path: str) -> None:
    _text(value, path)
    if not value:
        raise SeedError(f"{path}: expected a non-empty string")


def _switch(value: object, path: str) -> None:
    if not isinstance(value, bool):
        raise SeedError(f"{path}: expected true or false, got {_show(value)}")


def _whole(value: object, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not I64_MIN <= value <= I64_MAX:
        raise SeedError(f"{path}: expected a whole number of 64 bits, got {_show(value)}")


def _number(value: object, path: str) -> None:
    if not is_finite(value):
        raise SeedError(f"{path}: expected a number, got {_show(value)}")


def _amount(value: object, path: str) -> None:
    try:
        to_units(value, path)
    except AmountError as error:
        raise SeedError(f"{path}: expected an amount of credits: {error}") from error


def _rate(value: object, path: str) -> None:
    _amount(value, path)
    if isinstance(value, (int, float)) and value < 0:
        raise SeedError(f"{path}: expected a rate of 0 or more, got {_show(value)}")


def _one_of(*names: str) -> Callable[[Any, str], None]:
    def check(value: object, path: str) -> None:
        if value not in names:
            raise SeedError(f"{path}: expected one of {', '.join(names)}, got {_show(value)}")

    return check


def _list(check: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    def check_list(value: object, path: str) -> None:
        if not isinstance(value, list):
            raise SeedError(f"{path}: expected a list, got {_show(value)}")
        for index, element in enumerate(value):
            check(element, f"{path}[{index}]")

    return check_list


def _map(check: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    def check_map(value: object, path: str) -> None:
        for name, element in _object(value, path).items():
            check(element, f"{path}.{name}")

    return check_map


def _maybe(check: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    def check_unless_null(value: object, path: str) -> None:
        if value is not None:
            check(value, path)

    return check_unless_null


def _struct(
    required: dict[str, Callable[[Any, str], None]],
    optional: dict[str, Callable[[Any, str], None]],
) -> Callable[[Any, str], None]:
    """Check an object: optional fields may be missing or null, unknown ones are left alone."""

    def check(value: object, path: str) -> None:
        fields = _object(value, path)
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
