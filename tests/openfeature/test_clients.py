"""The clients that a provider is given or owns: sync, async, shared and forked."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("openfeature", reason="pip install --group test")

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import Reason
from openfeature.track import TrackingEventDetails

from openfeature import api
from schematic_native import AsyncSchematic, AsyncSchematicConfig, Schematic, SchematicConfig
from schematic_native.openfeature import SchematicProvider
from tests.conftest import API_KEY, eventually, eventually_async, plain, streaming
from tests.forks import in_fork
from tests.openfeature.evaluations import ACME, DEFAULTS, NOBODY
from tests.openfeature.flags import flag
from tests.openfeature.listeners import Events

if TYPE_CHECKING:
    from openfeature.client import OpenFeatureClient

    from schematic_native.emulator import Emulator


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

    def resolve() -> bool:
        value = client.get_boolean_value("inference", False, ACME)
        provider.client.shutdown()
        return value

    assert in_fork(resolve) is True


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
