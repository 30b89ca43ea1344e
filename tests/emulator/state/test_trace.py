"""The trace of an evaluation agrees with the evaluation, and says what was looked at."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schematic_native.emulator.state.evaluation import evaluate
from schematic_native.emulator.state.trace import Context, trace

OWNER = {"account_id": "acct", "environment_id": "env"}
SEATS = {"id": "seats", "comparable_type": "int", "entity_type": "company"}
ROLE = {"id": "role", "comparable_type": "string", "entity_type": "user"}
COMPANY: dict[str, Any] = {
    "id": "comp",
    **OWNER,
    "plan_ids": ["pro"],
    "base_plan_id": "pro",
    "credit_balances": {"coins": 10},
    "traits": [{"value": "3", "trait_definition": SEATS}],
    "metrics": [
        {
            **OWNER,
            "company_id": "comp",
            "event_subtype": "call",
            "period": "all_time",
            "month_reset": "first_of_month",
            "value": 5,
            "created_at": "2025-01-01T00:00:00Z",
        }
    ],
}
USER: dict[str, Any] = {
    "id": "user",
    **OWNER,
    "traits": [{"value": "admin", "trait_definition": ROLE}],
}
SUBJECTS = [
    {"condition_type": "company", "resource_ids": ["comp"]},
    {"condition_type": "user", "resource_ids": ["user"]},
    {"condition_type": "plan", "resource_ids": ["pro", "max"]},
    {"condition_type": "base_plan", "resource_ids": ["free"]},
    {"condition_type": "billing_product", "resource_ids": ["thing"]},
    {"condition_type": "metric", "event_subtype": "call", "metric_value": 5},
    {"condition_type": "trait", "trait_definition": SEATS, "trait_value": "3"},
    {"condition_type": "trait", "trait_definition": ROLE, "trait_value": "admin"},
    {"condition_type": "credit", "credit_id": "coins", "consumption_rate": 3.0},
    {"condition_type": "weather"},
]


def condition(subject: dict[str, Any], operator: str = "eq") -> dict[str, Any]:
    return {"id": "cond", **OWNER, "operator": operator, "trait_value": "", **subject}


CONDITIONS = st.builds(
    condition,
    st.sampled_from(SUBJECTS),
    st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte", "is_empty", "not_empty"]),
)
RULES = st.builds(
    lambda kind, priority, value, conditions, groups: {
        **OWNER,
        "name": "rule",
        "rule_type": kind,
        "priority": priority,
        "value": value,
        "conditions": conditions,
        "condition_groups": [{"conditions": group} for group in groups],
    },
    st.sampled_from(
        [
            "global_override",
            "company_override",
            "plan_entitlement",
            "company_override_usage_exceeded",
            "plan_entitlement_usage_exceeded",
            "standard",
            "default",
        ]
    ),
    st.integers(-2, 2),
    st.booleans(),
    st.lists(CONDITIONS, max_size=2),
    st.lists(st.lists(CONDITIONS, max_size=2), max_size=2),
)


@settings(deadline=None, max_examples=300)
@given(
    rules=st.lists(st.tuples(st.sampled_from(["flag", "company", "user"]), RULES), max_size=6),
    with_company=st.booleans(),
    with_user=st.booleans(),
    usage=st.sampled_from([None, 0, 1, 4]),
)
def test_the_first_rule_that_matches_in_the_trace_is_the_one_that_decided(
    rules: list[tuple[str, dict[str, Any]]], with_company: bool, with_user: bool, usage: int | None
) -> None:
    named = [
        (holder, {**rule, "id": f"rule_{number}", "flag_id": "flag"})
        for number, (holder, rule) in enumerate(rules)
    ]
    held = {
        who: [rule for holder, rule in named if holder == who]
        for who in ("flag", "company", "user")
    }
    flag = {"id": "flag", "key": "flag", "default_value": False, **OWNER, "rules": held["flag"]}
    company = {**COMPANY, "rules": held["company"]} if with_company else None
    user = {**USER, "rules": held["user"]} if with_user else None
    options = {} if usage is None else {"usage": usage}
    answer = evaluate(flag, company, user, options, 1e9)
    traced = trace(flag, Context(company, user, options, 1e9), answer.get("rule_id"))
    matching = [each.rule["id"] for each in traced if each.matches]
    deciding = [each.rule["id"] for each in traced if each.decides]
    decided = [answer["rule_id"]] if "rule_id" in answer else []
    assert deciding == matching[:1] == decided


def test_each_condition_says_what_it_found() -> None:
    rule = {
        "id": "rule",
        **OWNER,
        "name": "All",
        "rule_type": "standard",
        "priority": 1,
        "value": True,
        "conditions": [condition(subject) for subject in SUBJECTS],
    }
    flag = {"id": "flag", "key": "flag", "default_value": False, **OWNER, "rules": [rule]}
    [known] = trace(flag, Context(COMPANY, USER, {}, 1e9), None)
    assert [(each.holds, each.found) for each in known.conditions] == [
        (True, "comp"),
        (True, "user"),
        (True, "pro"),
        (False, "pro"),
        (False, "none"),
        (True, "5 counted"),
        (True, "'3'"),
        (True, "'admin'"),
        (True, "10 credits left"),
        (False, "comp"),
    ]
    [unknown] = trace(flag, Context(None, None, {}, 1e9), None)
    assert {each.found for each in unknown.conditions} == {"no company", "no user"}


def test_every_flag_of_the_seed_can_be_traced() -> None:
    text = files("schematic_native.emulator").joinpath("inference.json").read_text()
    seed = json.loads(text)
    for flag in seed["flags"]:
        for company in [None, *seed["companies"]]:
            for usage in (None, 1, 10**7):
                options = {} if usage is None else {"usage": usage}
                answer = evaluate(flag, company, None, options, 1e9)
                traced = trace(flag, Context(company, None, options, 1e9), answer.get("rule_id"))
                assert sum(rule.decides for rule in traced) == ("rule_id" in answer)
