"""The entities of the benchmarks: a small company, and a big one with 25 of each and 12 more rules."""

from __future__ import annotations

from typing import Any

API_KEY = "sch_bench"
FLAG = "inference"
COMPANY = {"id": "acme"}
CREDIT = "credit_inference"
EVENT = "inference_tokens"
# Credits of a lease: enough that no benchmark ever waits for the service.
BALANCE = 1e12
LEASE_SIZE = 1e9
# The event units that a check reserves, and those that are used of them.
USAGE, USED = 10, 7

_SCOPE = {"account_id": "acct_bench", "environment_id": "env_bench"}


def _condition(number: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"cond_{number}",
        "condition_type": kind,
        "operator": "eq",
        "trait_value": "",
        **_SCOPE,
    } | fields


def _trait(number: int) -> dict[str, Any]:
    return {"id": f"trait_{number}", "comparable_type": "string", "entity_type": "company"}


def _other_rule(number: int) -> dict[str, Any]:
    """Return a rule of the flag that does not match the company."""
    conditions = [
        _condition(f"plan_{number}", "plan", resource_ids=["plan_pro"]),
        _condition(
            f"trait_{number}",
            "trait",
            trait_definition=_trait(number),
            trait_value=f"not {number}",
            resource_ids=[],
        ),
    ]
    rule = {
        "id": f"rule_{number}",
        "name": f"Rule {number}",
        "rule_type": "plan_entitlement",
        "priority": number,
    }
    return rule | {"value": True, "conditions": conditions, "condition_groups": [], **_SCOPE}


def _flag(others: int) -> dict[str, Any]:
    granted = {
        "id": "rule_pro",
        "name": "Pro plan",
        "rule_type": "plan_entitlement",
        "priority": 0,
        "value": True,
        "conditions": [
            _condition("plan", "plan", resource_ids=["plan_pro"]),
            _condition(
                "credit",
                "credit",
                operator="lt",
                credit_id=CREDIT,
                consumption_rate=2.0,
                event_subtype=EVENT,
                resource_ids=[],
            ),
        ],
        "condition_groups": [],
        **_SCOPE,
    }
    rules = [*(_other_rule(number) for number in range(others)), granted]
    return {"id": "flag_inference", "key": FLAG, "default_value": False, "rules": rules, **_SCOPE}


def _metric(number: int) -> dict[str, Any]:
    return {
        "company_id": "comp_acme",
        "event_subtype": EVENT if number == 0 else f"event_{number}",
        "period": "all_time",
        "month_reset": "first_of_month",
        "value": number,
        "created_at": "2026-01-01T00:00:00Z",
        "valid_until": None,
        **_SCOPE,
    }


def _entitlement(number: int) -> dict[str, Any]:
    if number == 0:
        return {
            "feature_id": "feat_inference",
            "feature_key": FLAG,
            "value_type": "credit",
            "credit_id": CREDIT,
            "credit_remaining": BALANCE,
            "consumption_rate": 2.0,
            "event_subtype": EVENT,
        }
    return {
        "feature_id": f"feat_{number}",
        "feature_key": f"feature_{number}",
        "value_type": "numeric",
        "allocation": 100,
        "usage": number,
        "event_name": f"event_{number}",
        "metric_period": "current_month",
        "month_reset": "first_of_month",
    }


def world(size: str) -> dict[str, Any]:
    """Return an emulator seed; `size` is "small" or "big"."""
    each, others = {"small": (1, 0), "big": (25, 12)}[size]
    company = {
        "id": "comp_acme",
        "keys": dict(COMPANY),
        "base_plan_id": "plan_pro",
        "billing_product_ids": ["prod_1"],
        "plan_ids": ["plan_pro"],
        "plan_version_ids": ["ver_1"],
        "credit_balances": {CREDIT: BALANCE},
        "entitlements": [_entitlement(number) for number in range(each)],
        "metrics": [_metric(number) for number in range(each)],
        "traits": [
            {"trait_definition": _trait(number), "value": f"value {number}"}
            for number in range(each)
        ],
        "rules": [],
        "subscription": None,
        **_SCOPE,
    }
    return {"api_key": API_KEY, "flags": [_flag(others)], "companies": [company], "users": []}
