"""What the OpenFeature provider resolves, by the scenarios of the specification."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("openfeature", reason="pip install --group test")

from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode, ProviderFatalError
from openfeature.flag_evaluation import Reason
from openfeature.provider import ProviderStatus

from openfeature import api
from schematic_native import SchematicConfig
from schematic_native.openfeature import SchematicProvider
from tests.conftest import API_KEY, PATIENCE, eventually, streaming
from tests.openfeature.evaluations import ACME, DEFAULTS, NOBODY
from tests.openfeature.flags import entitle, flag, for_company, rule

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("boolean", "inference", True),
        ("integer", "exports", 10),
        ("float", "inference", 1_000_000_000.0),
        ("float", "exports", 10.0),
    ],
)
def test_values_are_resolved(details, kind, key, value) -> None:
    found = details(kind, key)
    assert (found.value, type(found.value)) == (value, type(value))
    assert found.reason == Reason.TARGETING_MATCH
    assert (found.error_code, found.error_message) == (None, None)


def test_an_object_is_the_entitlement(details) -> None:
    found = details("object", "exports")
    assert found.value["allocation"] == 10
    assert found.value["usage"] == 3
    assert found.value["value_type"] == "numeric"
    assert found.reason == Reason.TARGETING_MATCH


def test_a_zero_is_a_value(details, emulator: Emulator) -> None:
    emulator.set_flag(flag("off", for_company("comp_acme", False), default=True))
    entitle(emulator, "nothing", value_type="numeric", allocation=0)
    eventually(lambda: details("integer", "nothing").value == 0)
    eventually(lambda: details("boolean", "off", True).error_code is None)
    assert details("boolean", "off", True).value is False
    assert details("boolean", "off", True).variant == "off"
    assert details("integer", "nothing", 7).value == 0
    assert details("float", "nothing", 7.5).value == 0.0
    assert details("float", "nothing", 7.5).error_code is None


def test_a_rule_that_matches_is_a_targeting_match_and_none_is_the_default(
    details, emulator: Emulator
) -> None:
    emulator.set_flag(flag("targeted", for_company("comp_acme", True)))
    emulator.set_flag(flag("everyone", rule("default", True)))
    eventually(lambda: details("boolean", "everyone").error_code is None)
    assert details("boolean", "targeted").reason == Reason.TARGETING_MATCH
    nobody = details("boolean", "targeted", True, NOBODY)
    assert (nobody.value, nobody.reason) == (False, Reason.DEFAULT)
    by_default_rule = details("boolean", "everyone")
    assert (by_default_rule.value, by_default_rule.reason) == (True, Reason.DEFAULT)


@pytest.mark.parametrize(
    "context", [None, NOBODY, EvaluationContext(attributes={"company.id": None})]
)
def test_an_empty_context_names_nobody(details, context) -> None:
    found = details("boolean", "inference", True, context)
    assert (found.value, found.reason, found.error_code) == (False, Reason.DEFAULT, None)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_an_unknown_flag_is_not_found(details, kind) -> None:
    found = details(kind, "non-existent-flag")
    assert found.value == DEFAULTS[kind]
    assert (found.reason, found.error_code) == (Reason.ERROR, ErrorCode.FLAG_NOT_FOUND)


def test_an_error_says_which_flag_it_is_about(details) -> None:
    assert "error-flag" in details("boolean", "error-flag").error_message


def test_a_resolution_leaves_the_context_as_it_was_and_its_metadata_cannot_be_changed(
    details,
) -> None:
    attributes: dict[str, Any] = {"company": {"id": "acme"}, "list": [1], "none": None}
    context = EvaluationContext("someone", attributes)
    found = details("boolean", "inference", context=context)
    assert (context.targeting_key, context.attributes) == (
        "someone",
        {"company": {"id": "acme"}, "list": [1], "none": None},
    )
    with pytest.raises(TypeError):
        found.flag_metadata["rule_id"] = "another"


def test_the_callers_default_wins_over_one_of_the_client(details, provider) -> None:
    provider.client.set_flag_default("non-existent-flag", False)
    assert details("boolean", "non-existent-flag", True).value is True


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("string", "inference"),
        ("string", "exports"),
        ("integer", "inference"),  # credits have fractions
        ("integer", "plain"),
        ("float", "plain"),
        ("object", "plain"),
    ],
)
def test_another_type_is_a_type_mismatch(details, emulator: Emulator, kind, key) -> None:
    emulator.set_flag(flag("plain", for_company("comp_acme", True)))
    eventually(lambda: details("boolean", "plain").error_code is None)
    found = details(kind, key)
    assert found.value == DEFAULTS[kind]
    assert (found.reason, found.error_code) == (Reason.ERROR, ErrorCode.TYPE_MISMATCH)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_a_provider_that_is_not_set_up_is_not_ready(dead_url: str, kind) -> None:
    blocked = threading.Event()

    class Slow(SchematicProvider):
        def initialize(self, evaluation_context):
            blocked.wait(PATIENCE)

    slow = Slow(API_KEY, SchematicConfig(base_url=dead_url))
    api.set_provider(slow)
    client = api.get_client()
    try:
        assert client.get_provider_status() == ProviderStatus.NOT_READY
        found = getattr(client, f"get_{kind}_details")("inference", DEFAULTS[kind])
    finally:
        blocked.set()
    assert found.value == DEFAULTS[kind]
    assert (found.reason, found.error_code) == (Reason.ERROR, ErrorCode.PROVIDER_NOT_READY)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_a_key_that_is_refused_is_fatal(emulator: Emulator, kind) -> None:
    refused = SchematicProvider("sch_dev_another_key", SchematicConfig(**streaming(emulator)))
    with pytest.raises(ProviderFatalError):
        api.set_provider_and_wait(refused)
    client = api.get_client()
    assert client.get_provider_status() == ProviderStatus.FATAL
    found = getattr(client, f"get_{kind}_details")("inference", DEFAULTS[kind], ACME)
    assert found.value == DEFAULTS[kind]
    assert (found.reason, found.error_code) == (Reason.ERROR, ErrorCode.PROVIDER_FATAL)


def test_the_details_are_complete(details) -> None:
    found = details("boolean", "exports")
    assert (found.flag_key, found.value, found.variant) == ("exports", True, "on")
    metadata = dict(found.flag_metadata)
    assert metadata["rule_id"] == "rule_exports_pro"
    assert metadata["rule_type"] == "plan_entitlement"
    assert metadata["company_id"] == "comp_acme"
    assert (metadata["allocation"], metadata["usage"]) == (10, 3)
    assert metadata["reason"].startswith("Matched plan entitlement rule")
    assert all(isinstance(value, (bool, int, float, str)) for value in metadata.values())
    assert details("boolean", "inference").flag_metadata["credit_remaining"] == 1_000_000_000.0
    assert repr(found.flag_metadata) == repr(metadata)


def test_a_resolution_reserves_and_bills_nothing(details, emulator: Emulator) -> None:
    for kind in DEFAULTS:
        details(kind, "inference")
    state = emulator.state()
    assert (state["leases"], state["reservations"], state["billed"]) == ({}, {}, {})
