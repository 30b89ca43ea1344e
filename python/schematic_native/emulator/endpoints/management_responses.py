"""Companies, users, plans, features, flags and credits as the management calls of the API answer them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.clock import format_instant
from schematic_native.emulator.credits.amounts import to_credits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from schematic_native.emulator.credits.grants import Grant
    from schematic_native.emulator.state.service import Service

Entity = dict[str, Any]

# When everything was made that the seed does not date.
LONG_AGO = "2025-01-01T00:00:00Z"
_DATED = {"created_at": LONG_AGO, "updated_at": LONG_AGO}
_NOTHING = {"description": "", "icon": "gray"}


def company(service: Service, company_id: str) -> Entity:
    """Write a company."""
    wire = service.company_wire(company_id)
    base, plans = wire.get("base_plan_id"), wire.get("plan_ids") or []
    members = [r for r in service.directory.records.values() if company_id in r.get("members", ())]
    return {
        **_named(service, wire, "company"),
        "add_ons": [_company_plan(plan) for plan in plans if plan != base],
        "billing_credit_balances": wire["credit_balances"],
        "billing_subscriptions": [],
        "custom_plan_billings": [],
        "entitlements": wire.get("entitlements") or [],
        "metrics": [
            {**row, "captured_at_min": row["created_at"], "captured_at_max": row["created_at"]}
            for row in wire["metrics"]
        ],
        "payment_methods": [],
        "plan": None if base is None else _company_plan(base),
        "plans": [{"id": plan, "name": plan} for plan in plans],
        "rules": [_rule(rule) for rule in wire.get("rules") or []],
        "user_count": len(members),
    }


def user(service: Service, user_id: str) -> Entity:
    """Write a user."""
    wire = service.directory.users[user_id]
    record = service.directory.records.get(user_id, {})
    dated = {name: record.get(name, LONG_AGO) for name in _DATED}
    return {
        **_named(service, wire, "user"),
        "company_memberships": [
            {"id": f"{user_id}_{member}", "company_id": member, "user_id": user_id, **dated}
            for member in record.get("members", ())
        ],
    }


def brief(service: Service, wire: Entity) -> Entity:
    """Write what is told of a company or user that is deleted."""
    record = service.directory.records.get(wire["id"], {})
    return {
        "id": wire["id"],
        "environment_id": wire["environment_id"],
        "name": record.get("name", ""),
        **{name: record.get(name, LONG_AGO) for name in _DATED},
    }


def _named(service: Service, wire: Entity, kind: str) -> Entity:
    """Write what companies and users have in common."""
    told = brief(service, wire)
    record = service.directory.records.get(wire["id"], {})
    base = {
        "environment_id": wire["environment_id"],
        "created_at": told["created_at"],
        "updated_at": told["updated_at"],
    }
    traits = [trait for trait in wire.get("traits") or [] if trait.get("trait_definition")]
    return {
        **told,
        "last_seen_at": record.get("last_seen_at"),
        "keys": [
            {
                **base,
                "id": f"{wire['id']}_{name}",
                "definition_id": f"key_{name}",
                "entity_id": wire["id"],
                "entity_type": kind,
                "key": name,
                "value": value,
            }
            for name, value in (wire.get("keys") or {}).items()
        ],
        "entity_traits": [
            {
                **base,
                "id": f"{wire['id']}_{trait['trait_definition']['id']}",
                "definition_id": trait["trait_definition"]["id"],
                "value": trait["value"],
            }
            for trait in traits
        ],
        "traits": {trait["trait_definition"]["id"]: _trait_value(trait) for trait in traits},
    }


def _trait_value(trait: Entity) -> object:
    kind, text = trait["trait_definition"]["comparable_type"], trait["value"]
    if kind == "bool":
        return text == "true"
    if kind == "int" and text.lstrip("-").isdigit():
        return int(text)
    return text


def _company_plan(plan: str) -> Entity:
    return {"id": plan, "name": plan, "included_credit_grants": []}


def plan(service: Service, plan_id: str) -> Entity:
    """Write a plan; what it entitles to is what a company on it is entitled to."""
    companies = service.directory.companies.values()
    on_it = [c for c in companies if plan_id in (c.get("plan_ids") or [c.get("base_plan_id")])]
    entitled = [e for company in on_it[:1] for e in company.get("entitlements") or []]
    credits_ = sorted({e["credit_id"] for e in entitled if e.get("credit_id")})
    return {
        **_DATED,
        **_NOTHING,
        "id": plan_id,
        "name": plan_id,
        "billing_strategy": "no_billing",
        "charge_type": "none",
        "company_count": len(on_it),
        "controlled_by": "schematic",
        "credits": [credit(credit_id) for credit_id in credits_],
        "currency_prices": [],
        "features": [feature(service, each["feature_id"]) for each in entitled],
        "is_default": False,
        "is_free": True,
        "is_trialable": False,
        "plan_type": "plan",
        "versions": [],
    }


def features(service: Service) -> dict[str, Entity]:
    """Return the features that companies are entitled to, by id: one entitlement to each."""
    found: dict[str, Entity] = {}
    for wire in service.directory.companies.values():
        for entitlement in wire.get("entitlements") or []:
            found.setdefault(entitlement["feature_id"], entitlement)
    return found


def feature(service: Service, feature_id: str) -> Entity:
    """Write a feature; its flag is the one with its key."""
    entitlement = features(service)[feature_id]
    found = service.directory.flag(entitlement["feature_key"])
    event = entitlement.get("event_subtype") or entitlement.get("event_name")
    kind = entitlement["value_type"]
    return {
        **_DATED,
        **_NOTHING,
        "id": feature_id,
        "name": entitlement["feature_key"],
        "event_source": "track",
        "event_subtype": event,
        "feature_type": "event" if event else "trait" if kind == "trait" else "boolean",
        "flags": [] if found is None else [flag(found)],
        "plans": [],
    }


def flag(wire: Entity) -> Entity:
    """Write a flag with its rules."""
    return {
        **_DATED,
        "id": wire["id"],
        "key": wire["key"],
        "name": wire["key"],
        "description": "",
        "default_value": wire["default_value"],
        "flag_type": "boolean",
        "rules": [_rule(rule) for rule in wire.get("rules") or []],
    }


def _rule(rule: Entity) -> Entity:
    def conditions(holder: Entity) -> list[Entity]:
        return [
            {
                **_DATED,
                **condition,
                "resource_ids": condition.get("resource_ids") or [],
                "resources": [],
                "rule_id": rule["id"],
            }
            for condition in holder.get("conditions") or []
        ]

    groups = rule.get("condition_groups") or []
    return {
        **_DATED,
        **rule,
        "conditions": conditions(rule),
        "condition_groups": [
            {
                **_DATED,
                "id": f"{rule['id']}_{number}",
                "environment_id": rule["environment_id"],
                "rule_id": rule["id"],
                "conditions": conditions(group),
            }
            for number, group in enumerate(groups)
        ],
    }


def credit(credit_id: str) -> Entity:
    """Write a credit type."""
    return {
        **_DATED,
        "id": credit_id,
        "name": credit_id,
        "description": "",
        "burn_strategy": "expiration_priority",
        "cost_editable": False,
        "currency_prices": [],
        "default_expiry_unit": "days",
        "default_rollover_policy": "none",
        "ledger_authority": "schematic_authoritative",
    }


def grant(service: Service, given: Grant) -> Entity:
    """Write a grant of credits."""
    left = service.state.grant_left(given)
    record = service.directory.records.get(given.company_id, {})
    ended = given.ended_at
    return {
        "id": given.id,
        "company_id": given.company_id,
        "company_name": record.get("name", ""),
        "credit_id": given.credit_type_id,
        "credit_name": given.credit_type_id,
        "created_at": format_instant(given.created_at),
        "updated_at": format_instant(given.created_at if ended is None else ended),
        "expires_at": None if given.expires_at is None else format_instant(given.expires_at),
        "grant_reason": given.reason,
        "quantity": to_credits(given.quantity),
        "quantity_remaining": to_credits(left),
        "quantity_used": to_credits(given.quantity - left),
        "renewal_enabled": False,
        "source_label": given.reason,
        "zeroed_out_date": None if ended is None else format_instant(ended),
        "zeroed_out_reason": given.ended_reason,
    }


def balances(service: Service, company_id: str) -> list[Entity]:
    """Write what a company has of each credit type."""
    return [
        {
            "credit_id": credit_id,
            "remaining": line.remaining,
            "reserved": line.reserved,
            "settled": line.settled,
            "total": line.total,
            "source": "schematic",
        }
        for credit_id, line in sorted(service.state.lines(company_id).items())
    ]


def token(service: Service, issued: Entity) -> Entity:
    """Write a temporary access token."""
    return {
        "id": issued["id"],
        "token": issued["token"],
        "environment_id": service.directory.owner()[1],
        "issuer_type": "api_key",
        "resource_type": "company",
        "created_at": format_instant(issued["created_at"]),
        "updated_at": format_instant(issued["created_at"]),
        "expired_at": format_instant(issued["expires_at"]),
    }


def every(write: Callable[[Service, str], Entity], service: Service, ids: Iterable[str]) -> Any:
    """Write several."""
    return [write(service, each) for each in ids]
