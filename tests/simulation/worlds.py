"""Flags and companies that the emulated service knows in a simulation: as few and as small as may be."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from schematic_native.emulator.seed import Seed, load_seed

if TYPE_CHECKING:
    from tests.simulation.schedules import Scenario

FLAG, EVENT = "inference", "tokens"
# A flag whose rules are named by its own number and that of the company: there are so many numbers of a company.
GATE, NUMBERS = "gate", 40
_NUMBER = {"id": "number", "comparable_type": "string", "entity_type": "company"}
API_KEY = "sch_dev_simulation"
_ACCOUNT = {"account_id": "acct", "environment_id": "env"}


def slots(scenario: Scenario) -> list[tuple[str, str]]:
    """Return company id and credit type id of each company."""
    if scenario.has_colons:
        return [("co:x", "cr"), ("co", "x:cr")][: max(2, scenario.companies)]
    return [(f"co{number}", "cr") for number in range(scenario.companies)]


def load(scenario: Scenario) -> Seed:
    """Return what the service knows at the start."""
    return _load(tuple(slots(scenario)), scenario.rate, scenario.balance, scenario.is_replicated)


@lru_cache(maxsize=256)
def _load(slots: tuple[tuple[str, str], ...], rate: float, balance: float, has_gate: bool) -> Seed:
    credit_types = sorted({credit for _, credit in slots})
    return load_seed(
        {
            "api_key": API_KEY,
            "flags": [_flag(credit_types, rate), *([gate(0)] if has_gate else [])],
            "companies": [company(*slot, rate, balance) for slot in slots],
        }
    )


def _flag(credit_types: list[str], rate: float) -> dict[str, Any]:
    rules = [
        {
            "id": f"rule_{credit}", **_ACCOUNT, "flag_id": None, "name": "Plan", "value": True,
            "rule_type": "plan_entitlement", "priority": number, "condition_groups": [],
            "conditions": [
                {
                    "id": f"cond_{credit}", **_ACCOUNT, "condition_type": "credit", "operator": "lt",
                    "resource_ids": [], "event_subtype": EVENT, "credit_id": credit,
                    "consumption_rate": rate, "trait_value": "",
                }
            ],
        }
        for number, credit in enumerate(credit_types)
    ]  # fmt: skip
    return {"id": "flag", **_ACCOUNT, "key": FLAG, "default_value": False, "rules": rules}


def gate(number: int) -> dict[str, Any]:
    """Return the flag that tells by which state a check was decided."""
    rules = [
        {
            "id": f"{number}.{of_company}", **_ACCOUNT, "flag_id": None, "name": "Number", "value": True,
            "rule_type": "standard", "priority": of_company, "condition_groups": [],
            "conditions": [
                {
                    "id": f"cond_{of_company}", **_ACCOUNT, "condition_type": "trait", "operator": "eq",
                    "resource_ids": [], "trait_definition": _NUMBER, "trait_value": f"{of_company}",
                }
            ],
        }
        for of_company in range(NUMBERS)
    ]  # fmt: skip
    return {"id": GATE, **_ACCOUNT, "key": GATE, "default_value": False, "rules": rules}


def number(of_company: int) -> list[dict[str, Any]]:
    """Return the traits of a company that has been changed so often."""
    return [{"value": f"{of_company % NUMBERS}", "trait_definition": _NUMBER}]


def company(company_id: str, credit: str, rate: float, balance: float) -> dict[str, Any]:
    """Return a company as the service sends it."""
    return {
        "id": company_id, **_ACCOUNT, "keys": {"id": company_id}, "plan_ids": ["plan"],
        "plan_version_ids": [], "billing_product_ids": [], "credit_balances": {credit: balance},
        "traits": number(0), "metrics": [], "rules": [],
        "entitlements": [
            {
                "feature_id": "feat", "feature_key": FLAG, "value_type": "credit", "credit_id": credit,
                "consumption_rate": rate, "event_subtype": EVENT, "event_name": EVENT,
                "credit_total": balance, "credit_used": 0, "credit_remaining": balance,
                "credit_reserved": 0, "credit_settled": 0,
            }
        ],
    }  # fmt: skip
