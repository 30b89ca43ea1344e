"""Code written for the published package: what it imports, says and matches on, after one changed line."""

from __future__ import annotations

import dataclasses
import inspect
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

import schematic_native
import schematic_native.client
from schematic_native import (
    INSUFFICIENT_CREDITS_REASON,
    REASON_ERROR,
    REASON_FLAG_NOT_FOUND,
    REASON_OFFLINE,
    CacheProvider,
    CheckFlagOptions,
    CheckFlagResponseData,
    CheckFlagResult,
    CreditLeaseConfig,
    LocalCache,
    Schematic,
    SchematicConfig,
)
from schematic_native.emulator import Emulator
from tests.callers import Caller, both_clients
from tests.conftest import ACME, API_KEY, plain

if TYPE_CHECKING:
    import types
    from collections.abc import Iterator

published = pytest.importorskip("schematic.client")

# What the published module defines itself and means for its users.
NAMES = [
    "AsyncSchematic",
    "AsyncSchematicConfig",
    "CacheProvider",
    "CheckFlagOptions",
    "CheckFlagResponseData",
    "CheckOptions",
    "CheckResult",
    "CreditLeaseConfig",
    "CreditLeaseMode",
    "DataStreamConfig",
    "EventBodyIdentifyCompany",
    "EventUsage",
    "FeatureEntitlement",
    "INSUFFICIENT_CREDITS_REASON",
    "IdentifyOptions",
    "LeaseConfigOverride",
    "LocalCache",
    "LogLevel",
    "OnAcquireFailure",
    "REASON_ERROR",
    "REASON_FLAG_NOT_FOUND",
    "REASON_OFFLINE",
    "Reservation",
    "Schematic",
    "SchematicConfig",
    "TrackOptions",
    "TrackWithReservationOptions",
]


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    with Emulator(process=False) as running:
        yield running


@pytest.mark.parametrize("module", [schematic_native, schematic_native.client])
def test_what_published_code_imports_is_there(module: types.ModuleType) -> None:
    assert set(NAMES) <= set(vars(published))
    assert set(NAMES) <= set(module.__all__) <= set(vars(module))


CONFIGURATION = [
    name
    for name in NAMES
    if dataclasses.is_dataclass(getattr(published, name))
    and dataclasses.is_dataclass(getattr(schematic_native, name))
]


@pytest.mark.parametrize("name", CONFIGURATION)
def test_fields_by_position_mean_what_they_meant(name: str) -> None:
    theirs = [field.name for field in dataclasses.fields(getattr(published, name))]
    ours = [field.name for field in dataclasses.fields(getattr(schematic_native, name))]
    assert ours[: len(theirs)] == theirs


@pytest.mark.parametrize("name", ["CheckResult", "Reservation", "LocalCache"])
def test_arguments_by_position_mean_what_they_meant(name: str) -> None:
    def parameters(module: types.ModuleType) -> list[str]:
        found = inspect.signature(getattr(module, name)).parameters.values()
        return [each.name for each in found if each.kind is each.POSITIONAL_OR_KEYWORD]

    assert parameters(schematic_native) == parameters(published)


def test_a_cache_is_made_and_subclassed_with_the_type_it_keeps() -> None:
    class Own(CacheProvider[CheckFlagResponseData]):
        def __init__(self) -> None:
            self.kept: dict[str, CheckFlagResponseData] = {}

        def get(self, key: str) -> CheckFlagResponseData | None:
            return self.kept.get(key)

        def set(
            self, key: str, val: CheckFlagResponseData, ttl_override: int | None = None
        ) -> None:
            self.kept[key] = val

    assert CheckFlagResponseData is CheckFlagResult
    caches = [Own(), LocalCache[CheckFlagResponseData](10, 1000)]
    Schematic(API_KEY, SchematicConfig(cache_providers=caches)).shutdown()


@both_clients
def test_a_reason_is_matched_by_its_constant(service: Emulator, kind: str) -> None:
    with Caller(kind, {"offline": True}) as person:
        assert person.do("check_flag_with_entitlement", "f").reason == REASON_OFFLINE
    with Caller(kind, plain(service, credit_leases=CreditLeaseConfig())) as person:
        (answer,) = person.do("check_flags", ["nope"], ACME)
        assert answer.reason == REASON_FLAG_NOT_FOUND
        denied = person.do("check", "inference", {"id": "none"}, usage=1)
        assert denied.reason == INSUFFICIENT_CREDITS_REASON
    refused = {"base_url": "http://127.0.0.1:9", "event_capture_url": "http://127.0.0.1:9"}
    with Caller(kind, refused | {"timeout": 0.2}) as person:
        assert person.do("check_flag_with_entitlement", "f").reason.startswith(REASON_ERROR)


@both_clients
def test_a_whole_float_is_a_quantity(service: Emulator, kind: str) -> None:
    with Caller(kind, plain(service)) as person:
        person.do("track", "whole", ACME, quantity=3.0)
        with pytest.raises(ValueError, match="quantity must be a whole number"):
            person.do("track", "half", ACME, quantity=2.5)
    quantities = {
        e["body"]["event"]: e["body"]["quantity"]
        for e in service.events()
        if "quantity" in e["body"]
    }
    assert quantities["whole"] == 3
    assert "half" not in quantities


@both_clients
def test_default_flags_keep_their_spelling_and_are_found_in_any(kind: str) -> None:
    with Caller(kind, {"offline": True, "flag_defaults": {"New-UI": True}}) as person:
        person.client.set_flag_default("Other", False)
        answers = {answer.flag: answer.value for answer in person.do("check_flags")}
        assert answers == {"New-UI": True, "Other": False}
        assert person.do("check_flag", "new-ui") is True


@both_clients
@pytest.mark.parametrize(
    ("method", "options"),
    [("check", "CheckOptions"), ("check_flag", "CheckFlagOptions"), ("track", "TrackOptions")],
)
def test_options_of_the_published_package_are_told_from_ours(
    kind: str, method: str, options: str
) -> None:
    theirs = getattr(published, options)()
    said = f"options must be schematic_native.{options}, not schematic.client.{options}"
    with Caller(kind, {"offline": True}) as person, pytest.raises(TypeError, match=re.escape(said)):
        person.do(method, "f", options=theirs)


@both_clients
def test_a_reservation_of_the_published_package_is_told_from_ours(kind: str) -> None:
    instant = datetime(2030, 1, 1, tzinfo=timezone.utc)
    theirs = published.Reservation("r", "l", "client", "c", "ct", "e", 1.0, 1.0, 1.0, instant)
    said = "reservation must be schematic_native.Reservation, not schematic.client.Reservation"
    with Caller(kind, {"offline": True}) as person, pytest.raises(TypeError, match=re.escape(said)):
        person.do("track_with_reservation", theirs, 1)


@pytest.mark.parametrize(
    ("field", "name"),
    [("credit_leases", "CreditLeaseConfig"), ("datastream", "DataStreamConfig")],
)
def test_configuration_of_the_published_package_is_told_from_ours(field: str, name: str) -> None:
    theirs = getattr(published, name)()
    said = f"{field} must be schematic_native.{name}, not schematic.client.{name}"
    with pytest.raises(TypeError, match=re.escape(said)):
        Schematic(API_KEY, SchematicConfig(**{field: theirs}))
    said = "config must be schematic_native.SchematicConfig, not schematic.client.SchematicConfig"
    with pytest.raises(TypeError, match=re.escape(said)):
        Schematic(API_KEY, published.SchematicConfig())
    options = CheckFlagOptions(event_usage=published.EventUsage("e", 1))
    said = "event_usage must be schematic_native.EventUsage, not schematic.client.EventUsage"
    with pytest.raises(TypeError, match=re.escape(said)):
        Schematic(API_KEY, SchematicConfig(offline=True)).check_flag("f", options=options)
