"""Why a flag was evaluated as it was: each rule in its order, each condition, and what it looked at.

Whether a condition holds is asked of the rules engine, one condition at a time, so that a trace
cannot say anything else than the evaluation does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from schematic_native.emulator.state.evaluation import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Entity = dict[str, Any]

# The order in which the engine goes through the types of rules.
_RULE_TYPES = (
    "global_override",
    "company_override",
    "plan_entitlement",
    "company_override_usage_exceeded",
    "plan_entitlement_usage_exceeded",
    "standard",
    "default",
)
# Where the ids are that a condition of each type compares; otherwise it is the entity's own.
_ID_FIELDS = {
    "plan": "plan_ids",
    "plan_version": "plan_version_ids",
    "billing_product": "billing_product_ids",
    "base_plan": "base_plan_id",
}
_UNCONDITIONAL = {"global_override", "default"}


def _value_first(rule: Entity) -> int:
    return int(not rule["value"])


# The order among rules of one type; those that are not here are in the order of `_value_first`.
_INSIDE: dict[str, Callable[[Entity], int]] = {
    "global_override": lambda _rule: 0,
    "standard": lambda rule: int(rule["priority"]),
    "default": lambda _rule: 0,
}


class Context(NamedTuple):
    """For whom, with which preflight and at which instant a flag is evaluated."""

    company: Entity | None
    user: Entity | None
    options: Entity
    now: float


class ConditionTrace(NamedTuple):
    """One condition: what it asks, what it found, and whether it holds."""

    condition: Entity
    found: str
    holds: bool


class RuleTrace(NamedTuple):
    """One rule: whether all of its conditions hold, and whether it decided."""

    rule: Entity
    holder: str  # "flag", "company" or "user": whose rule it is
    matches: bool
    decides: bool
    conditions: list[ConditionTrace]
    groups: list[list[ConditionTrace]]


def trace(flag: Entity, context: Context, deciding_rule: str | None) -> list[RuleTrace]:
    """Trace the rules of one evaluation, which `deciding_rule` (an id) decided."""
    return [
        _trace_rule(rule, holder, context, decides=rule["id"] == deciding_rule)
        for holder, rule in _in_order(_rules(flag, context))
    ]


def _rules(flag: Entity, context: Context) -> Iterable[tuple[str, Entity]]:
    yield from (("flag", rule) for rule in flag.get("rules") or [])
    for holder, entity in (("company", context.company), ("user", context.user)):
        for rule in (entity or {}).get("rules") or []:
            if rule.get("flag_id") == flag["id"]:
                yield holder, rule


def _in_order(rules: Iterable[tuple[str, Entity]]) -> list[tuple[str, Entity]]:
    def place(held: tuple[str, Entity]) -> tuple[int, int]:
        rule = held[1]
        kind = rule["rule_type"]
        return _RULE_TYPES.index(kind), _INSIDE.get(kind, _value_first)(rule)

    return sorted(rules, key=place)


def _trace_rule(rule: Entity, holder: str, context: Context, *, decides: bool) -> RuleTrace:
    if rule["rule_type"] in _UNCONDITIONAL:
        return RuleTrace(rule, holder, bool(rule["id"]), decides, [], [])
    conditions = [_trace_condition(each, context) for each in rule.get("conditions") or []]
    groups = [
        [_trace_condition(each, context) for each in group.get("conditions") or []]
        for group in rule.get("condition_groups") or []
    ]
    matches = _holds(rule.get("conditions"), rule.get("condition_groups"), context)
    return RuleTrace(rule, holder, matches and bool(rule["id"]), decides, conditions, groups)


def _trace_condition(condition: Entity, context: Context) -> ConditionTrace:
    return ConditionTrace(condition, _found(condition, context), _holds([condition], [], context))


def _holds(conditions: Any, groups: Any, context: Context) -> bool:
    """Ask the engine, with a flag of nothing but one rule."""
    owner = {"account_id": "", "environment_id": ""}
    rule = {
        "id": "probe",
        **owner,
        "name": "",
        "rule_type": "standard",
        "priority": 0,
        "value": True,
        "conditions": conditions,
        "condition_groups": groups,
    }
    flag = {"id": "probe", **owner, "key": "", "default_value": False, "rules": [rule]}
    company = None if context.company is None else {**context.company, "rules": []}
    user = None if context.user is None else {**context.user, "rules": []}
    return bool(evaluate(flag, company, user, context.options, context.now)["value"])


def _found(condition: Entity, context: Context) -> str:
    """Tell what a condition looks at, as it is."""
    kind = condition["condition_type"]
    if kind == "trait":
        return _trait(condition, context)
    entity = context.user if kind == "user" else context.company
    if entity is None:
        return "no user" if kind == "user" else "no company"
    if kind == "credit":
        credits_left = entity["credit_balances"].get(condition.get("credit_id"), 0)
        return f"{credits_left:,.10g} credits left"
    if kind == "metric":
        return f"{_metric(condition, entity):,} counted"
    ids = entity.get(_ID_FIELDS.get(kind, "id")) or []
    return ", ".join([ids] if isinstance(ids, str) else ids) or "none"


def _metric(condition: Entity, company: Entity) -> int:
    wanted = (
        condition.get("event_subtype"),
        condition.get("metric_period") or "all_time",
        condition.get("metric_period_month_reset") or "first_of_month",
    )
    rows = company.get("metrics") or []
    found = [
        row["value"]
        for row in rows
        if (row["event_subtype"], row["period"], row["month_reset"]) == wanted
    ]
    return found[0] if found else 0


def _trait(condition: Entity, context: Context) -> str:
    definition = condition.get("trait_definition") or {}
    kind = definition.get("entity_type")
    entity = context.user if kind == "user" else context.company
    if entity is None:
        return f"no {kind or 'company'}"
    for trait in entity.get("traits") or []:
        if (trait.get("trait_definition") or {}).get("id") == definition.get("id"):
            return repr(trait["value"])
    return "not set"
