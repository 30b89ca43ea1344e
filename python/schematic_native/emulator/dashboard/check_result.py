"""The result of a check that was tried, with the trace of its evaluation: each rule and condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.dashboard.markup import Markup, tag
from schematic_native.emulator.dashboard.texts import amount
from schematic_native.emulator.errors import InvalidRequestError, UnknownIdError
from schematic_native.emulator.state.evaluation import evaluate
from schematic_native.emulator.state.trace import Context, trace

if TYPE_CHECKING:
    from schematic_native.emulator.state.service import Service
    from schematic_native.emulator.state.trace import ConditionTrace, RuleTrace

Entity = dict[str, Any]

_OPERATORS = {
    "eq": "is",
    "ne": "is not",
    "gt": "is more than",
    "gte": "is at least",
    "lt": "is less than",
    "lte": "is at most",
    "is_empty": "is empty",
    "not_empty": "is not empty",
}
_NOT_COVERED = {"gt", "gte"}
_ONE_SIDED = {"is_empty", "not_empty"}


def check(service: Service, body: Entity) -> Markup:
    """Evaluate a flag by ids, and show the answer and the way to it.

    Raises:
        ServiceError: There is no such flag, company or user, or the usage cannot be.

    """
    directory = service.directory
    flag = _named(directory.flags, "flag", body.get("flag_id"))
    company_id, user_id = body.get("company_id"), body.get("user_id")
    if company_id:
        _named(directory.companies, "company", company_id)
    context = Context(
        service.company_wire(company_id) if company_id else None,
        _named(directory.users, "user", user_id) if user_id else None,
        {} if body.get("usage") is None else {"usage": body["usage"]},
        service.clock.now(),
    )
    try:
        answer = evaluate(flag, context.company, context.user, context.options, context.now)
        rules = trace(flag, context, answer.get("rule_id"))
    except ValueError as error:
        raise InvalidRequestError(f"usage: {error}") from error
    return tag(
        "div",
        _answer(flag, answer),
        _rules(rules, flag),
        _entitlement(answer),
        class_="check-result",
    )


def _named(entities: dict[str, Entity], kind: str, entity_id: object) -> Entity:
    if not isinstance(entity_id, str) or entity_id not in entities:
        raise UnknownIdError(f"{kind} not found: {entity_id}")
    return entities[entity_id]


def _answer(flag: Entity, answer: Entity) -> list[Markup]:
    verdict = "true" if answer["value"] else "false"
    names = ("reason", "error", "rule_id", "rule_type")
    return [
        tag("p", tag("strong", f"{flag['key']}: {verdict}"), class_=f"verdict {verdict}"),
        _facts({name: answer.get(name) for name in names}),
    ]


def _entitlement(answer: Entity) -> Markup | None:
    entitlement = answer.get("entitlement")
    if not entitlement:
        return None
    return tag("details", tag("summary", "Entitlement"), _facts(entitlement))


def _facts(facts: Entity) -> Markup:
    return tag(
        "dl",
        [
            tag("div", tag("dt", name.replace("_", " ")), tag("dd", _fact(fact)))
            for name, fact in facts.items()
            if isinstance(fact, (str, int, float))
        ],
        class_="facts",
    )


def _fact(fact: str | float) -> str:
    return fact if isinstance(fact, str) else amount(fact)


def _rules(rules: list[RuleTrace], flag: Entity) -> list[Markup]:
    decided = (
        [rule.decides for rule in rules].index(True) if any(r.decides for r in rules) else None
    )
    items = [
        _rule(rule, after=decided is not None and place > decided)
        for place, rule in enumerate(rules)
    ]
    if decided is None:
        default = "true" if flag["default_value"] else "false"
        items.append(tag("li", f"No rule matches: the default value {default} stands."))
    return [tag("h3", "Rules, in the order of evaluation"), tag("ol", items, class_="rules")]


def _rule(rule: RuleTrace, *, after: bool) -> Markup:
    value = "true" if rule.rule["value"] else "false"
    if rule.decides:
        outcome = f"matches and decides: {value}"
    elif rule.matches and after:
        outcome = "would match; decided before"
    else:
        outcome = "matches" if rule.matches else "does not match"
    kind = rule.rule["rule_type"].replace("_", " ")
    conditions = [_condition(each) for each in rule.conditions]
    conditions += [
        tag("li", "one of", tag("ul", [_condition(each) for each in group]))
        for group in rule.groups
    ]
    return tag(
        "li",
        tag("strong", rule.rule["name"] or rule.rule["id"]),
        f" ({kind} rule of the {rule.holder}): ",
        tag("span", outcome, class_="outcome plain" if rule.matches else "outcome duplicate"),
        bool(conditions) and tag("ul", conditions),
        class_="decides" if rule.decides else None,
    )


def _condition(traced: ConditionTrace) -> Markup:
    mark = "holds" if traced.holds else "fails"
    return tag(
        "li",
        tag("span", mark, class_=f"mark {mark}"),
        f" {_question(traced.condition)}",
        tag("span", f" (found: {traced.found})", class_="found"),
    )


def _question(condition: Entity) -> str:
    """Say what a condition asks."""
    kind, operator = condition["condition_type"], condition["operator"]
    verb = _OPERATORS.get(operator, operator)
    if kind == "credit":
        does = "does not cover" if operator in _NOT_COVERED else "covers"
        rate = condition.get("consumption_rate")
        cost = f"{1 if rate is None else rate:g} a unit"
        return f"the balance of {condition.get('credit_id')} {does} the cost, {cost}"
    if kind == "metric":
        period = (condition.get("metric_period") or "all_time").replace("_", " ")
        left, right = f"{condition.get('event_subtype')} ({period})", condition.get("metric_value")
    elif kind == "trait":
        definition = condition.get("trait_definition") or {}
        left = f"the {definition.get('entity_type', '')} trait {definition.get('id')}"
        right = repr(condition["trait_value"])
        compared = condition.get("comparison_trait_definition")
        if compared:
            right = f"the trait {compared.get('id')}"
    else:
        left, right = kind.replace("_", " "), " or ".join(condition.get("resource_ids") or [])
    return f"{left} {verb}" if operator in _ONE_SIDED else f"{left} {verb} {right}"
