"""Which events the provider emits, and its status after each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("openfeature", reason="pip install --group test")

from openfeature.event import ProviderEvent
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import Reason
from openfeature.provider import ProviderStatus

from openfeature import api
from schematic_native import SchematicConfig
from schematic_native.openfeature import SchematicProvider
from tests.conftest import API_KEY
from tests.openfeature.evaluations import ACME
from tests.openfeature.flags import flag
from tests.openfeature.listeners import Events

if TYPE_CHECKING:
    from openfeature.client import OpenFeatureClient

    from schematic_native.emulator import Emulator


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
