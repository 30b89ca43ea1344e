"""The rules engine: against recorded answers, against the published engine, and as an object."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native import CheckFlagOptions, EventQuantities, EventUsage
from schematic_native.rulesengine import (
    ENGINE_VERSION_KEY,
    EngineError,
    RulesEngine,
    check_flag_json,
    check_flags_json,
)
from tests.engine.fuzz import described, normal, run
from tests.engine.oracle import Oracle, find_module

if TYPE_CHECKING:
    from collections.abc import Callable

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("cases.json").read_text())
SHARE = 5_000  # envelopes of the fuzzer in an ordinary run; `make fuzz` does more
NOW = 1_700_000_000.0
IDS = {"account_id": "account", "environment_id": "environment"}


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    module = find_module()
    if module is None:
        pytest.skip("schematichq is not installed: pip install 'schematichq[datastream]==1.4.6'")
    return Oracle(module)


def condition(**fields: Any) -> dict[str, Any]:
    return {"id": "condition", **IDS, "operator": "gte", "trait_value": "", **fields}


def flag(*conditions: dict[str, Any], kind: str = "standard") -> str:
    rule = {
        "id": "rule", **IDS, "name": "name", "rule_type": kind, "priority": 0, "value": True,
        "conditions": conditions,
    }  # fmt: skip
    return json.dumps(
        {"id": "flag", **IDS, "key": "feature", "default_value": False, "rules": [rule]}
    )


def company(**fields: Any) -> str:
    return json.dumps({"id": "company", **IDS, **fields})


def metered() -> dict[str, Any]:
    return condition(condition_type="metric", event_subtype="calls", metric_value=10)


def paid(**fields: Any) -> dict[str, Any]:
    return condition(
        condition_type="credit", operator="lt", credit_id="gold", event_subtype="calls", **fields
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_case_is_answered_as_the_published_engine_did(case: dict[str, Any]) -> None:
    check = check_flags_json if case["bulk"] else check_flag_json
    now = None if case["now"] is None else case["now"] / 1000
    if case["expected"] is None:
        with pytest.raises(EngineError):
            check(case["envelope"], now=now)
    else:
        assert check(case["envelope"], now=now) == case["expected"]
        assert check(case["envelope"].encode(), now=now) == case["expected"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_published_engine_still_says_what_was_recorded(
    case: dict[str, Any], oracle: Oracle
) -> None:
    export = "checkFlagsCombined" if case["bulk"] else "checkFlagCombined"
    answer = oracle.check(case["envelope"].encode(), case["now"], export)
    assert normal(answer) == normal(case["expected"])


@pytest.mark.timeout(600)
def test_random_envelopes_are_answered_as_the_published_engine_does(oracle: Oracle) -> None:
    report, difference = run(SHARE, seed=20_251_101, broken_share=0.3, oracle=oracle)
    assert difference is None, described(difference, oracle)
    assert report.envelopes == SHARE
    kinds = {kind for kind, operator, _ in report.outcomes}
    both = {
        kind
        for kind in kinds
        if {True, False} <= {held for k, _, held in report.outcomes if k == kind}
    }
    assert kinds - both == {"mystery"}


def test_the_version_key_is_that_of_the_published_engine() -> None:
    assert ENGINE_VERSION_KEY == "fde6dba2"


def test_an_envelope_that_cannot_be_read_says_where() -> None:
    with pytest.raises(EngineError, match="envelope cannot be read: missing field `flag`"):
        check_flag_json("{}")
    with pytest.raises(EngineError, match="envelope cannot be read: missing field `flags`"):
        check_flags_json("{}")
    with pytest.raises(EngineError, match="envelope is not UTF-8"):
        check_flag_json(b"\xff")
    with pytest.raises(ValueError, match="envelope is not Unicode text"):
        check_flag_json("\ud800")


def test_arguments_of_the_wrong_type_are_named() -> None:
    with pytest.raises(TypeError, match="envelope must be a str or bytes, not dict"):
        check_flag_json({})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="now must be a finite number of epoch seconds, not NaN"):
        check_flag_json("{}", now=float("nan"))
    with pytest.raises(TypeError, match="json must be a str or bytes, not int"):
        RulesEngine().load_flag(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="flag must be what load_flag gives, not str"):
        RulesEngine().check_flag("flag")  # type: ignore[arg-type]
    engine = RulesEngine()
    handle, user = engine.load_flag(flag()), engine.load_user(json.dumps({"id": "user", **IDS}))
    with pytest.raises(TypeError, match="company must be what load_company gives, not str"):
        engine.check_flag(handle, "acme")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="company must be what load_company gives, not Compiled"):
        engine.check_flag(handle, user)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="user must be what load_user gives, not int"):
        engine.check_flag(handle, user=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="now must be a number, not str"):
        engine.check_flag(handle, now="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="now must be a number, not str"):
        check_flag_json("{}", now="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["flag", "company", "user"])
def test_half_an_entity_is_refused(name: str) -> None:
    load: Callable[[str], object] = getattr(RulesEngine(), f"load_{name}")
    with pytest.raises(EngineError, match=f"{name} cannot be read: missing field `id`"):
        load(json.dumps(IDS))


def test_a_compiled_flag_answers_for_any_company_and_user() -> None:
    engine = RulesEngine()
    trait = {"id": "level", "comparable_type": "int", "entity_type": "user"}
    compiled = engine.load_flag(
        flag(condition(condition_type="trait", trait_definition=trait, trait_value="3"))
    )
    values = [
        engine.check_flag(
            compiled,
            user=engine.load_user(
                json.dumps(
                    {"id": "user", **IDS, "traits": [{"trait_definition": trait, "value": level}]}
                )
            ),
        ).value
        for level in ("2", "3", "4")
    ]
    assert values == [False, True, True]
    assert engine.check_flag(compiled).value is False


def test_a_result_tells_rule_usage_and_reset() -> None:
    engine = RulesEngine()
    metric = {
        **IDS, "company_id": "company", "event_subtype": "calls", "period": "current_day",
        "month_reset": "first_of_month", "value": 12, "created_at": "2023-11-14T00:00:00Z",
    }  # fmt: skip
    daily = {**metered(), "metric_period": "current_day"}
    result = engine.check_flag(
        engine.load_flag(flag(daily, kind="plan_entitlement")),
        engine.load_company(company(metrics=[metric])),
        now=NOW,
    )
    assert (result.flag, result.flag_id, result.value) == ("feature", "flag", True)
    assert result.reason == 'Matched plan entitlement rule "name" (rule)'
    assert (result.rule_id, result.rule_type) == ("rule", "plan_entitlement")
    assert (result.company_id, result.user_id) == ("company", None)
    assert (result.feature_usage, result.feature_allocation) == (12, 10)
    assert (result.feature_usage_event, result.feature_usage_period) == ("calls", "current_day")
    assert result.feature_usage_reset_at is not None
    assert result.feature_usage_reset_at.isoformat() == "2023-11-15T00:00:00+00:00"


def test_options_ask_on_top_of_the_entities() -> None:
    engine = RulesEngine()
    compiled = engine.load_flag(flag(metered()))
    empty = engine.load_company(company())

    def value(options: CheckFlagOptions | None) -> bool:
        return engine.check_flag(compiled, empty, options=options).value

    assert value(None) is False
    assert value(CheckFlagOptions(usage=9)) is False
    assert value(CheckFlagOptions(usage=9.01)) is True
    assert value(CheckFlagOptions(event_usage=EventUsage("calls", 10))) is True
    assert value(CheckFlagOptions(event_usage=EventUsage("other", 10))) is False


def test_options_price_a_draw() -> None:
    engine = RulesEngine()
    compiled = engine.load_flag(flag(paid(consumption_rate=1, quantity_rates={"images": 2})))
    rich = engine.load_company(company(credit_balances={"gold": 7}))

    def value(options: CheckFlagOptions) -> bool:
        return engine.check_flag(compiled, rich, options=options).value

    assert value(CheckFlagOptions(event_quantities=EventQuantities("calls", {"images": 3}))) is True
    assert (
        value(CheckFlagOptions(event_quantities=EventQuantities("calls", {"images": 4}))) is False
    )
    assert value(CheckFlagOptions(credit_cost={"gold": 7})) is True
    assert value(CheckFlagOptions(credit_cost={"gold": 7.5})) is False
    with pytest.raises(ValueError, match="usage must be finite and 0 or more"):
        value(CheckFlagOptions(usage=-1))
