"""How the provider reads a company and a user from an evaluation context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("openfeature", reason="pip install --group test")

from openfeature.evaluation_context import EvaluationContext, set_evaluation_context
from openfeature.exception import ErrorCode, InvalidContextError
from openfeature.flag_evaluation import FlagEvaluationOptions
from openfeature.hook import Hook
from openfeature.transaction_context import (
    ContextVarsTransactionContextPropagator,
    set_transaction_context,
    set_transaction_context_propagator,
)

from schematic_native.openfeature import SchematicProvider
from tests.openfeature.evaluations import ACME, NOBODY
from tests.openfeature.flags import emulator_company

if TYPE_CHECKING:
    from openfeature.client import OpenFeatureClient

    from schematic_native.emulator import Emulator


@pytest.mark.parametrize(
    "attributes",
    [
        {"company.id": "acme"},
        {"company": {"id": "acme"}},
        {"company": {"id": "other"}, "company.id": "acme"},
        {"company": {"id": "acme"}, "plan": "pro", "nested": {"company.id": "no"}},
        {"company": {"id": "acme"}, "user": None},
    ],
)
def test_attributes_name_the_company(details, attributes) -> None:
    assert details("boolean", "inference", False, EvaluationContext(attributes=attributes)).value


@pytest.mark.parametrize(
    "attributes",
    [{"company": "acme"}, {"company.id": ["acme"]}, {"company": {"id": True}}, {"user": {1: "a"}}],
)
def test_attributes_that_are_not_lookup_keys_make_the_context_invalid(details, attributes) -> None:
    found = details("boolean", "inference", True, EvaluationContext(attributes=attributes))
    assert (found.value, found.error_code) == (True, ErrorCode.INVALID_CONTEXT)


def test_keys_of_two_companies_make_the_context_invalid(details, emulator: Emulator) -> None:
    other = emulator_company(emulator) | {"id": "comp_other", "keys": {"slug": "other"}}
    emulator.set_company(other)
    context = EvaluationContext(attributes={"company": {"slug": "other"}})
    assert details("boolean", "inference", False, context).error_code is None
    assert details("boolean", "inference").error_code is None
    both = EvaluationContext(attributes={"company": {"slug": "other", "id": "acme"}})
    found = details("boolean", "inference", True, both)
    assert (found.value, found.error_code) == (True, ErrorCode.INVALID_CONTEXT)


def keys_asked(provider: SchematicProvider, context: EvaluationContext) -> Any:
    return provider._contexts.read("inference", context)[1:]


def test_the_targeting_key_is_the_users_id_or_as_configured(provider: SchematicProvider) -> None:
    assert keys_asked(provider, EvaluationContext("u")) == (None, {"id": "u"})
    context = EvaluationContext("u", {"user.id": "v", "user": {"email": "w", "number": 7}})
    assert keys_asked(provider, context) == (None, {"id": "v", "email": "w", "number": "7"})
    for name, expected in (("company.slug", ({"slug": "u"}, None)), (None, (None, None))):
        other = SchematicProvider(provider.client, targeting_key=name)
        assert keys_asked(other, EvaluationContext("u")) == expected


def test_a_function_maps_contexts(provider: SchematicProvider) -> None:
    mapped = SchematicProvider(
        provider.client, map_context=lambda context: ({"id": context.attributes["tenant"]}, None)
    )
    context = EvaluationContext("u", {"tenant": "acme"})
    assert keys_asked(mapped, context) == ({"id": "acme"}, None)
    wrong = SchematicProvider(provider.client, map_context=lambda _: ({"id": 1}, None))
    with pytest.raises(InvalidContextError, match="company"):
        wrong.resolve_boolean_details("inference", False, context)


class Adding(Hook):
    def before(self, hook_context, hints):
        return EvaluationContext(attributes={"company.id": "acme"})


@pytest.mark.parametrize("level", ["api", "transaction", "client", "invocation", "before hooks"])
def test_contexts_of_all_levels_are_merged(client: OpenFeatureClient, level: str) -> None:
    wrong = EvaluationContext(attributes={"company.id": "nobody"})
    levels = ["api", "transaction", "client", "invocation", "before hooks"]
    # Every level before it has other keys, so that this one must win.
    given = dict.fromkeys(levels[: levels.index(level)], wrong) | {level: ACME}
    set_transaction_context_propagator(ContextVarsTransactionContextPropagator())
    set_evaluation_context(given.get("api", NOBODY))
    set_transaction_context(given.get("transaction", NOBODY))
    client.context = given.get("client", NOBODY)
    options = FlagEvaluationOptions(hooks=[Adding()] if "before hooks" in given else [])
    try:
        invocation = given.get("invocation", NOBODY)
        found = client.get_boolean_details("inference", False, invocation, options)
    finally:
        set_transaction_context(NOBODY)
    assert (found.value, found.flag_metadata["company_id"]) == (True, "comp_acme")
