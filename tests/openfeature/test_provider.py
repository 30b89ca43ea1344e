"""The OpenFeature provider in the SDK itself, by the scenarios of the specification."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("openfeature", reason="pip install --group test")

from openfeature.evaluation_context import EvaluationContext, set_evaluation_context
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import (
    ErrorCode,
    InvalidContextError,
    OpenFeatureError,
    ProviderFatalError,
    ProviderNotReadyError,
)
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagEvaluationOptions, Reason
from openfeature.hook import Hook, add_hooks, clear_hooks
from openfeature.provider import ProviderStatus
from openfeature.track import TrackingEventDetails
from openfeature.transaction_context import (
    ContextVarsTransactionContextPropagator,
    set_transaction_context,
    set_transaction_context_propagator,
)

from openfeature import _event_support, api
from schematic_native import AsyncSchematic, AsyncSchematicConfig, Schematic, SchematicConfig
from schematic_native.openfeature import SchematicProvider
from tests.conftest import API_KEY, eventually, eventually_async, plain, streaming

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openfeature.client import OpenFeatureClient

    from schematic_native.emulator import Emulator

ACME = EvaluationContext(attributes={"company.id": "acme"})
NOBODY = EvaluationContext()
DEFAULTS: dict[str, Any] = {
    "boolean": False,
    "string": "bye",
    "integer": 1,
    "float": 0.1,
    "object": {"a": 1},
}


@pytest.fixture(autouse=True)
def _nothing_is_left_in_the_api(emulator: Emulator) -> Iterator[None]:
    yield  # the emulator accepts what a shutdown still delivers
    api.clear_providers()
    _event_support.clear()
    clear_hooks()
    set_evaluation_context(EvaluationContext())


@pytest.fixture
def provider(emulator: Emulator) -> SchematicProvider:
    """A provider that has its own client and is not set yet."""
    return SchematicProvider(API_KEY, SchematicConfig(**streaming(emulator)))


@pytest.fixture
def client(provider: SchematicProvider) -> OpenFeatureClient:
    api.set_provider_and_wait(provider)
    return api.get_client()


@pytest.fixture(params=["sync", "async"])
def details(request: pytest.FixtureRequest, client: OpenFeatureClient) -> Any:
    """Evaluates with details, through each of the SDK's two ways."""

    def evaluate(
        kind: str, key: str, default: Any = None, context: EvaluationContext | None = ACME
    ) -> FlagEvaluationDetails[Any]:
        default = DEFAULTS[kind] if default is None else default
        if request.param == "sync":
            return getattr(client, f"get_{kind}_details")(key, default, context)
        return asyncio.run(getattr(client, f"get_{kind}_details_async")(key, default, context))

    return evaluate


class Events:
    """Handlers of all events, and what they were told."""

    def __init__(self, source: Any) -> None:
        self.told: queue.Queue[tuple[ProviderEvent, EventDetails]] = queue.Queue()
        for event in ProviderEvent:
            source.add_handler(event, self.handler(event))

    def handler(self, event: ProviderEvent) -> Any:
        return lambda details: self.told.put((event, details))

    def next(self) -> tuple[ProviderEvent, EventDetails]:
        return self.told.get(timeout=10)


class Recorder(Hook):
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.last: FlagEvaluationDetails[Any] | None = None
        self.error_met: Exception | None = None

    def before(self, hook_context, hints):
        self.stages.append("before")

    def after(self, hook_context, details, hints):
        self.stages.append("after")
        self.last = details

    def error(self, hook_context, exception, hints):
        self.stages.append("error")
        self.error_met = exception

    def finally_after(self, hook_context, details, hints):
        self.stages.append("finally")
        self.last = details


def flag(key: str, *rules: dict[str, Any], default: bool = False) -> dict[str, Any]:
    ids = {"account_id": "acct_demo", "environment_id": "env_demo"}
    return {
        "id": f"flag_{key}",
        **ids,
        "key": key,
        "default_value": default,
        "rules": [{"condition_groups": [], "flag_id": None, "priority": 0, **ids, **rule} for rule in rules],
    }  # fmt: skip


def rule(kind: str, value: bool, **condition: Any) -> dict[str, Any]:
    ids = {"account_id": "acct_demo", "environment_id": "env_demo"}
    conditions = [
        {"id": "cond", **ids, "operator": "eq", "trait_value": "", **condition}
    ] if condition else []  # fmt: skip
    return {"id": f"rule_{kind}", "name": kind, "rule_type": kind, "value": value,
            "conditions": conditions}  # fmt: skip


def for_company(company_id: str, value: bool) -> dict[str, Any]:
    return rule("company_override", value, condition_type="company", resource_ids=[company_id])


def entitle(emulator: Emulator, key: str, **entitlement: Any) -> None:
    """Give the company an entitlement to a feature, and the feature a flag."""
    emulator.set_flag(flag(key))
    company = dict(emulator_company(emulator))
    company["entitlements"] = [
        *(company.get("entitlements") or []),
        {"feature_id": f"feat_{key}", "feature_key": key, **entitlement},
    ]
    emulator.set_company(company)


def emulator_company(emulator: Emulator) -> dict[str, Any]:
    import json  # noqa: PLC0415
    from importlib.resources import files  # noqa: PLC0415

    text = files("schematic_native.emulator").joinpath("inference.json").read_text()
    return json.loads(text)["companies"][0]


# Evaluation


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
            blocked.wait(10)

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


# Contexts


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


# Hooks


def test_hooks_receive_the_details(client: OpenFeatureClient) -> None:
    hook = Recorder()
    client.add_hooks([hook])
    client.get_boolean_details("inference", False, ACME)
    assert hook.stages == ["before", "after", "finally"]
    assert hook.last is not None
    assert (hook.last.flag_key, hook.last.value, hook.last.variant) == ("inference", True, "on")
    assert (hook.last.reason, hook.last.error_code) == (Reason.TARGETING_MATCH, None)


def test_hooks_of_one_evaluation_run_in_their_order(client: OpenFeatureClient) -> None:
    stages: list[str] = []

    class Named(Recorder):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def before(self, hook_context, hints):
            stages.append(f"before {self.name}")

        def after(self, hook_context, details, hints):
            stages.append(f"after {self.name}")

    options = FlagEvaluationOptions(hooks=[Named("one"), Named("two")])
    assert client.get_boolean_details("inference", False, ACME, options).value is True
    assert stages == ["before one", "before two", "after two", "after one"]


@pytest.mark.parametrize(
    ("key", "code"), [("missing", ErrorCode.FLAG_NOT_FOUND), ("inference", ErrorCode.TYPE_MISMATCH)]
)
def test_hooks_receive_errors(client: OpenFeatureClient, key, code) -> None:
    hook = Recorder()
    add_hooks([hook])
    client.get_string_details(key, "uh-oh", ACME)
    assert hook.stages == ["before", "error", "finally"]
    assert isinstance(hook.error_met, OpenFeatureError)
    assert hook.error_met.error_code == code
    assert hook.last is not None
    assert (hook.last.value, hook.last.variant) == ("uh-oh", None)
    assert (hook.last.reason, hook.last.error_code) == (Reason.ERROR, code)


# Events


def test_ready_is_emitted_once_when_the_flags_have_arrived(provider: SchematicProvider) -> None:
    events = Events(api)
    client = api.get_client()
    assert events.next()[1].provider_name != "Schematic"  # that of the earlier provider
    api.set_provider(provider)
    event, told = events.next()
    assert (event, told.provider_name) == (ProviderEvent.PROVIDER_READY, "Schematic")
    assert client.get_provider_status() == ProviderStatus.READY
    assert events.told.empty()


def test_without_a_service_an_error_is_emitted_and_defaults_are_returned(
    dead_url: str,
) -> None:
    config = SchematicConfig(base_url=dead_url, event_capture_url=dead_url, use_datastream=True)
    provider = SchematicProvider(API_KEY, config)
    events = Events(api)
    assert events.next()[0] == ProviderEvent.PROVIDER_READY  # of the earlier provider
    api.set_provider(provider)
    event, told = events.next()
    assert (event, told.error_code) == (ProviderEvent.PROVIDER_ERROR, ErrorCode.PROVIDER_NOT_READY)
    client = api.get_client()
    assert client.get_provider_status() == ProviderStatus.ERROR
    found = client.get_boolean_details("inference", True, ACME)
    assert (found.value, found.reason, found.error_code) == (True, Reason.ERROR, ErrorCode.GENERAL)


def test_a_service_that_comes_later_makes_the_provider_ready(
    provider: SchematicProvider, emulator: Emulator
) -> None:
    refusal = emulator.fail("status", on="datastream", status=503)
    with pytest.raises(ProviderNotReadyError):
        api.set_provider_and_wait(provider)
    events = Events(api)
    assert events.next()[0] == ProviderEvent.PROVIDER_ERROR
    refusal.clear()
    assert events.next()[0] == ProviderEvent.PROVIDER_READY
    assert api.get_client().get_boolean_value("inference", False, ACME)


def test_a_lost_connection_is_stale_and_checks_go_on_from_memory(
    client: OpenFeatureClient, emulator: Emulator
) -> None:
    assert client.get_boolean_details("inference", False, ACME).reason == Reason.TARGETING_MATCH
    events = Events(client)
    assert events.next()[0] == ProviderEvent.PROVIDER_READY
    with emulator.fail("status", on="datastream", status=503):
        emulator.drop_sockets()
        event, told = events.next()
        assert event == ProviderEvent.PROVIDER_STALE
        assert told.message
        assert client.get_provider_status() == ProviderStatus.STALE
        found = client.get_boolean_details("inference", False, ACME)
        assert (found.value, found.reason, found.variant) == (True, Reason.STALE, "on")
    assert events.next()[0] == ProviderEvent.PROVIDER_READY
    assert client.get_provider_status() == ProviderStatus.READY
    assert client.get_boolean_details("inference", False, ACME).reason == Reason.TARGETING_MATCH


def test_a_change_names_the_flags_that_changed(
    client: OpenFeatureClient, emulator: Emulator
) -> None:
    events = Events(client)
    assert events.next()[0] == ProviderEvent.PROVIDER_READY
    for changed in (
        lambda: emulator.set_flag(flag("changing-flag")),
        lambda: emulator.set_flag(flag("changing-flag", default=True)),
        lambda: emulator.delete_flag("flag_changing-flag"),
    ):
        changed()
        event, told = events.next()
        assert event == ProviderEvent.PROVIDER_CONFIGURATION_CHANGED
        assert told.flags_changed == ["changing-flag"]
    found = client.get_boolean_details("changing-flag", True)
    assert (found.value, found.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)


def test_flags_that_changed_while_it_was_away_are_named_after_ready(
    client: OpenFeatureClient, emulator: Emulator
) -> None:
    events = Events(client)
    assert events.next()[0] == ProviderEvent.PROVIDER_READY
    with emulator.fail("status", on="datastream", status=503):
        emulator.drop_sockets()
        assert events.next()[0] == ProviderEvent.PROVIDER_STALE
        emulator.set_flag(flag("new-flag", default=True))
    told = [events.next(), events.next()]
    # Handlers run on threads of the SDK's, in any order.
    assert {event for event, _ in told} == {
        ProviderEvent.PROVIDER_READY,
        ProviderEvent.PROVIDER_CONFIGURATION_CHANGED,
    }
    assert [each.flags_changed for _, each in told if each.flags_changed] == [["new-flag"]]


def test_a_reconnection_that_changes_nothing_is_no_change(
    client: OpenFeatureClient, emulator: Emulator
) -> None:
    events = Events(client)
    assert events.next()[0] == ProviderEvent.PROVIDER_READY
    emulator.drop_sockets()
    assert events.next()[0] == ProviderEvent.PROVIDER_STALE
    assert events.next()[0] == ProviderEvent.PROVIDER_READY
    emulator.set_flag(flag("next"))
    assert events.next()[1].flags_changed == ["next"]


# Tracking


def tracked(emulator: Emulator, provider: SchematicProvider, number: int = 1) -> Any:
    def of_programs() -> list[Any]:
        return [event for event in emulator.events() if event["type"] == "track"]

    eventually(lambda: len(of_programs()) >= number)
    return [event["body"] for event in of_programs()]


@pytest.mark.parametrize("name", ["", None])
def test_tracking_without_a_name_is_an_error(client, name, provider) -> None:
    with pytest.raises((TypeError, ValueError), match="tracking_event_name"):
        client.track(name)
    assert provider.client.status().queued_events == 0


@pytest.mark.parametrize(
    ("details", "quantity", "traits"),
    [
        (None, 1, None),
        (TrackingEventDetails(), 1, None),
        (TrackingEventDetails(2.1, {"page": "home"}), 3, {"page": "home"}),
        (TrackingEventDetails(7), 7, None),
        (TrackingEventDetails(0), 0, None),
    ],
)
def test_an_event_is_tracked_with_quantity_and_traits(
    client, provider, emulator: Emulator, details, quantity, traits
) -> None:
    client.track("the-event", EvaluationContext("u", {"company.id": "acme"}), details)
    api.shutdown()
    [body] = tracked(emulator, provider)
    assert body["event"] == "the-event"
    assert body["quantity"] == quantity
    assert body.get("traits") == traits
    assert (body["company"], body["user"]) == ({"id": "acme"}, {"id": "u"})


@pytest.mark.parametrize("form", ["object", "dict"])
def test_a_reservation_in_the_attributes_is_settled(
    client, provider, emulator: Emulator, form
) -> None:
    held = provider.client.check("inference", {"id": "acme"}, usage=100).reservation
    assert held is not None
    given = held if form == "object" else held.to_dict()
    details = TrackingEventDetails(41.5, {"reservation": given, "model": "small"})
    client.track("inference_tokens", NOBODY, details)
    assert provider.client.status().open_holds == 0
    api.shutdown()
    eventually(lambda: emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 42}})
    assert [body["traits"] for body in tracked(emulator, provider)] == [{"model": "small"}]
    assert emulator.audit()["balanced"]


@pytest.mark.parametrize(
    ("name", "value", "reservation"),
    [
        ("inference_tokens", None, "held"),  # without the quantity that was used
        ("another_event", 5, "held"),
        ("inference_tokens", 5, {"id": "res_1"}),
        ("inference_tokens", 5, "res_1"),
    ],
)
def test_an_invalid_settlement_settles_nothing(client, provider, name, value, reservation) -> None:
    held = provider.client.check("inference", {"id": "acme"}, usage=100).reservation
    attributes = {"reservation": held if reservation == "held" else reservation}
    with pytest.raises((TypeError, ValueError)):
        client.track(name, NOBODY, TrackingEventDetails(value, attributes))
    assert provider.client.status().open_holds == 1
    provider.client.track_with_reservation(held, 0)


# The clients


async def test_an_asyncio_client_checks_tracks_and_settles_on_its_loop(emulator: Emulator) -> None:
    config = AsyncSchematicConfig(**streaming(emulator))
    async with AsyncSchematic(API_KEY, config) as native:
        provider = SchematicProvider(native)
        api.set_provider_and_wait(provider)
        client = api.get_client()
        assert await client.get_boolean_value_async("inference", False, ACME)
        # The entities are in memory by now, so that nothing waits.
        assert client.get_boolean_value("inference", False, ACME)
        unknown = EvaluationContext(attributes={"company.id": "unknown"})
        found = client.get_boolean_details("inference", True, unknown)
        assert (found.value, found.error_code) == (True, ErrorCode.GENERAL)
        assert "_async" in (found.error_message or "")
        held = (await native.check("inference", {"id": "acme"}, usage=10)).reservation
        assert held is not None
        client.track("seen", ACME)
        details = TrackingEventDetails(4, {"reservation": held})
        client.track("inference_tokens", NOBODY, details)
        with pytest.raises(TypeError, match="traits"):
            client.track("seen", ACME, TrackingEventDetails(1, {"what": object()}))
        await eventually_async(lambda: native.status().open_holds == 0)
        never_started = SchematicProvider(AsyncSchematic(API_KEY, config))
        with pytest.raises(ProviderNotReadyError):
            api.set_provider_and_wait(never_started, "never started")
    billed = emulator.state()["billed"]["comp_acme"]
    assert billed == {"inference_tokens": 4, "seen": 1}


async def test_another_thread_checks_through_the_loop_of_an_asyncio_client(
    emulator: Emulator,
) -> None:
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**plain(emulator))) as native:
        provider = SchematicProvider(native)
        await asyncio.to_thread(api.set_provider_and_wait, provider)
        client = api.get_client()
        ask = client.get_boolean_details
        first = await asyncio.to_thread(ask, "inference", False, ACME)
        assert (first.value, first.reason) == (True, Reason.TARGETING_MATCH)
        await asyncio.to_thread(client.track, "seen", ACME)
    assert emulator.state()["billed"]["comp_acme"] == {"seen": 1}


def test_without_a_datastream_results_of_the_api_are_cached(emulator: Emulator) -> None:
    provider = SchematicProvider(API_KEY, SchematicConfig(**plain(emulator)))
    api.set_provider_and_wait(provider)
    client = api.get_client()
    assert client.get_boolean_details("inference", False, ACME).reason == Reason.TARGETING_MATCH
    again = client.get_boolean_details("inference", False, ACME)
    assert (again.value, again.reason, again.variant) == (True, Reason.CACHED, "on")


@pytest.mark.parametrize("kind", DEFAULTS)
def test_every_default_is_returned_without_an_error_when_offline(kind) -> None:
    api.set_provider_and_wait(SchematicProvider(API_KEY, SchematicConfig(offline=True)))
    client = api.get_client()
    found = getattr(client, f"get_{kind}_details")("inference", DEFAULTS[kind], ACME)
    assert (found.value, found.reason) == (DEFAULTS[kind], Reason.DEFAULT)
    assert found.error_code is None


def test_domains_have_providers_of_their_own(provider, emulator: Emulator) -> None:
    emulator.set_flag(flag("other", default=True))
    with Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as second:
        api.set_provider_and_wait(provider, "first")
        api.set_provider_and_wait(SchematicProvider(second), "second")
        second.offline = True
        first, other = api.get_client("first"), api.get_client("second")
        assert first.get_boolean_value("inference", False, ACME) is True
        assert other.get_boolean_value("inference", False, ACME) is False
        assert api.get_client("third").get_boolean_value("inference", False, ACME) is False


def test_a_given_client_outlives_its_provider(emulator: Emulator) -> None:
    with Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as native:
        api.set_provider_and_wait(SchematicProvider(native))
        api.shutdown()
        assert native.check_flag("inference", {"id": "acme"})


def test_an_owned_client_starts_and_ends_with_the_provider(
    provider: SchematicProvider,
) -> None:
    api.set_provider_and_wait(provider)
    first = provider.client
    api.clear_providers()
    # Checks go on from memory.
    ended = provider.resolve_boolean_details("inference", True, ACME)
    assert (ended.value, ended.error_code) == (True, ErrorCode.PROVIDER_NOT_READY)
    api.set_provider_and_wait(provider)
    assert provider.client is not first
    assert api.get_client().get_boolean_value("inference", False, ACME)


def test_a_client_does_not_keep_its_listeners_alive(emulator: Emulator) -> None:
    with Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as native:
        provider = SchematicProvider(native)
        provider.initialize(NOBODY)
        gone = weakref.ref(provider)
        del provider
        gc.collect()
        assert gone() is None
        emulator.set_flag(flag("changed"))
        eventually(lambda: native.check_flags(["changed"])[0].error is None)


def test_both_providers_of_a_client_are_notified_even_if_one_fails(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(SchematicProvider):
        def emit(self, event, details):
            raise RuntimeError("told too much")

    with Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as native:
        failing, provider = Failing(native), SchematicProvider(native)
        failing.initialize(NOBODY)
        failing.initialize(NOBODY)
        api.set_provider_and_wait(provider)
        events = Events(api.get_client())
        assert events.next()[0] == ProviderEvent.PROVIDER_READY
        emulator.set_flag(flag("first"))
        assert events.next()[1].flags_changed == ["first"]
        assert caplog.text.count("RuntimeError: told too much") == 1  # registered once
        failing.shutdown()
        emulator.set_flag(flag("second"))
        assert events.next()[1].flags_changed == ["second"]
        assert caplog.text.count("RuntimeError: told too much") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_resolves(client: OpenFeatureClient, provider: SchematicProvider) -> None:
    assert client.get_boolean_value("inference", False, ACME)
    child = os.fork()
    if child == 0:
        value = False
        try:
            value = client.get_boolean_value("inference", False, ACME)
            provider.client.shutdown()
        finally:
            os._exit(0 if value else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [
        ((None,), {}, TypeError),
        ((object(),), {}, TypeError),
        (("",), {}, ValueError),
        (("key",), {"targeting_key": "id"}, ValueError),
        (("key",), {"targeting_key": "team.id"}, ValueError),
        (("key",), {"map_context": "id"}, TypeError),
        (("key", AsyncSchematicConfig()), {}, TypeError),
    ],
)
def test_wrong_arguments_are_refused(arguments, keywords, error) -> None:
    with pytest.raises(error):
        SchematicProvider(*arguments, **keywords)


def test_a_client_with_a_config_is_refused() -> None:
    native = Schematic(API_KEY, SchematicConfig(offline=True))
    with pytest.raises(TypeError, match="config"):
        SchematicProvider(native, SchematicConfig())
