"""The frozen result classes: equality, repr, pickling, and reservations as plain values."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import datetime, timedelta, timezone, tzinfo
from types import MappingProxyType
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schematic_native import CheckFlagResult, CheckResult, FeatureEntitlement, Reservation
from schematic_native._native import WarningTier
from schematic_native.rulesengine import RulesEngine

text = st.text(max_size=20)
amount = st.floats(0, 1e15, allow_nan=False)
# The core keeps instants in milliseconds.
instant = st.integers(0, 4_000_000_000_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=ms)
)
keys = st.none() | st.dictionaries(text, text, max_size=3)

reservations = st.builds(
    Reservation,
    id=text | st.uuids().map(str),
    lease_id=text,
    mode=st.sampled_from(["client", "server"]),
    company_id=text,
    credit_type_id=text,
    event_subtype=text,
    quantity_reserved=amount,
    credits_reserved=amount,
    consumption_rate=amount,
    expires_at=instant,
    company=keys,
    user=keys,
)
integers = st.none() | st.integers(-(2**63), 2**63 - 1)
entitlements = st.builds(
    FeatureEntitlement,
    feature_id=text,
    feature_key=text,
    value_type=st.sampled_from(["boolean", "credit", "numeric", "trait", "unknown", "unlimited"]),
    allocation=integers,
    soft_limit=integers,
    usage=integers,
    event_name=st.none() | text,
    event_subtype=st.none() | text,
    metric_period=st.none()
    | st.sampled_from(["all_time", "current_day", "current_month", "current_week"]),
    month_reset=st.none() | st.sampled_from(["first_of_month", "billing_cycle"]),
    metric_reset_at=st.none() | instant,
    credit_id=st.none() | text,
    credit_remaining=st.none() | amount,
    consumption_rate=st.none() | amount,
    quantity_rates=st.none() | st.dictionaries(text, amount, min_size=1, max_size=3),
    warning_tiers=st.none()
    | st.lists(st.builds(WarningTier, text, st.integers(0, 100)), min_size=1, max_size=3),
)
flag_results = st.builds(
    CheckFlagResult,
    flag=text,
    value=st.booleans(),
    reason=text,
    flag_id=st.none() | text,
    rule_type=st.none() | text,
    entitlement=st.none() | entitlements,
    error=st.none() | text,
    feature_usage=integers,
    feature_usage_reset_at=st.none() | instant,
)
check_results = st.builds(
    CheckResult,
    allowed=st.booleans(),
    value=st.booleans(),
    reason=text,
    flag_key=text,
    reservation=st.none() | reservations,
    entitlement=st.none() | entitlements,
    flag_id=st.none() | text,
    error=st.none() | text,
)


@given(reservations | entitlements | flag_results | check_results)
def test_a_result_survives_pickling_and_copying(result: object) -> None:
    for again in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert again == result
        assert type(again) is type(result)
        assert repr(again) == repr(result)


@given(reservations)
def test_a_reservation_survives_as_json(reservation: Reservation) -> None:
    data = json.loads(json.dumps(reservation.to_dict()))
    assert Reservation.from_dict(data) == reservation


def reservation(**changes: object) -> Reservation:
    fields: dict[str, object] = {
        "id": "r1",
        "lease_id": "l1",
        "mode": "client",
        "company_id": "c1",
        "credit_type_id": "ct1",
        "event_subtype": "tokens",
        "quantity_reserved": 2.5,
        "credits_reserved": 6.0,
        "consumption_rate": 2.0,
        "expires_at": datetime(2030, 1, 1, tzinfo=timezone.utc),
    }
    return Reservation(**(fields | changes))  # type: ignore[arg-type]


def test_results_differ_in_any_field() -> None:
    assert reservation() == reservation()
    assert reservation() != reservation(company={"id": "acme"})
    assert reservation() != reservation(credits_reserved=6.1)
    assert reservation() != "r1"


def test_results_are_immutable() -> None:
    with pytest.raises(AttributeError):
        reservation().id = "r2"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        reservation().more = 1  # type: ignore[attr-defined]


def test_repr_names_every_field() -> None:
    assert repr(reservation(company={"id": "acme"})) == (
        "Reservation(id='r1', lease_id='l1', mode='client', company_id='c1', credit_type_id='ct1', "
        "event_subtype='tokens', quantity_reserved=2.5, credits_reserved=6.0, consumption_rate=2.0, "
        "expires_at=datetime.datetime(2030, 1, 1, 0, 0, tzinfo=datetime.timezone.utc), "
        "company={'id': 'acme'}, user=None)"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "neither"}, "mode must be 'client' or 'server'"),
        ({"credits_reserved": float("nan")}, "credits_reserved must be finite and not negative"),
        ({"quantity_reserved": -1.0}, "quantity_reserved must be finite and not negative"),
        ({"id": "\ud800"}, "id must be text that UTF-8 can hold"),
    ],
)
def test_a_reservation_that_cannot_be_names_what_is_wrong(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reservation(**changes)
    with pytest.raises(ValueError, match=message):
        Reservation.from_dict(reservation().to_dict() | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 5}, "id must be a str, not int"),
        ({"mode": None}, "mode must be a str, not NoneType"),
        ({"quantity_reserved": "1"}, "quantity_reserved must be a number, not str"),
        ({"expires_at": 5}, "expires_at must be a datetime with a time zone, not 5"),
        ({"expires_at": datetime(2030, 1, 1)}, "expires_at must be a datetime with a time zone"),  # noqa: DTZ001
        ({"company": 5}, "company must be a dict of lookup keys"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        reservation(**changes)
    with pytest.raises(TypeError, match=message):
        Reservation.from_dict(reservation().to_dict() | changes)


def test_from_dict_says_what_is_missing() -> None:
    with pytest.raises(KeyError, match="expires_at"):
        Reservation.from_dict({})
    with pytest.raises(ValueError, match="RFC 3339"):
        Reservation.from_dict(reservation().to_dict() | {"expires_at": "tomorrow"})
    data = reservation().to_dict()
    for name in set(data) - {"company", "user"}:
        with pytest.raises(KeyError, match=f"data has no '{name}'"):
            Reservation.from_dict({key: value for key, value in data.items() if key != name})
    with pytest.raises(TypeError, match="data must be a mapping"):
        Reservation.from_dict([])  # type: ignore[arg-type]


def test_from_dict_takes_any_mapping_and_keys_may_be_missing() -> None:
    data = MappingProxyType(reservation().to_dict())
    assert Reservation.from_dict(data) == reservation()
    bare = {key: value for key, value in data.items() if key not in {"company", "user"}}
    assert Reservation.from_dict(bare) == reservation()


@pytest.mark.parametrize(
    "zone", [timezone(timedelta(hours=-5)), ZoneInfo("America/New_York")], ids=str
)
def test_an_instant_in_any_zone_is_taken(zone: tzinfo) -> None:
    local = datetime(2029, 12, 31, 19, 0, 0, 123_000, tzinfo=zone)
    utc = datetime(2030, 1, 1, 0, 0, 0, 123_000, tzinfo=timezone.utc)
    assert reservation(expires_at=local).expires_at == utc
    result = CheckFlagResult(flag="f", value=True, reason="", feature_usage_reset_at=local)
    assert result.feature_usage_reset_at == utc
    entitlement = FeatureEntitlement("f", "k", "numeric", metric_reset_at=local)
    assert entitlement.metric_reset_at == utc


@pytest.mark.parametrize(
    ("instant", "shown"),
    [
        (
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-5))),
            datetime.max.replace(tzinfo=timezone.utc),
        ),
        (
            datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
            datetime.min.replace(tzinfo=timezone.utc),
        ),
    ],
)
def test_an_instant_beyond_what_python_can_hold_is_the_last_it_can(
    instant: datetime, shown: datetime
) -> None:
    results = (
        CheckFlagResult(flag="f", value=True, reason="", feature_usage_reset_at=instant),
        FeatureEntitlement("f", "k", "numeric", metric_reset_at=instant),
        reservation(expires_at=instant),
    )
    assert results[0].feature_usage_reset_at == results[1].metric_reset_at == shown
    for result in results:
        assert pickle.loads(pickle.dumps(result)) == result
        assert str(shown.year) in repr(result)
    assert Reservation.from_dict(results[2].to_dict()) == results[2]


def test_an_instant_that_the_service_tells_beyond_that_can_be_read() -> None:
    engine = RulesEngine()
    metric = {
        "account_id": "a", "environment_id": "e", "company_id": "c", "event_subtype": "t",
        "period": "current_month", "month_reset": "first_of_month", "value": 1,
        "created_at": "2026-01-01T00:00:00Z", "valid_until": "9999-12-31T23:59:59-05:00",
    }  # fmt: skip
    entitlement = {
        "feature_id": "f", "feature_key": "f", "value_type": "numeric", "allocation": 5, "usage": 1,
        "event_name": "t", "metric_period": "current_month", "month_reset": "first_of_month",
        "metric_reset_at": "9999-12-31T23:59:59-05:00",
    }  # fmt: skip
    company = {
        "id": "c", "account_id": "a", "environment_id": "e", "keys": {}, "metrics": [metric],
        "entitlements": [entitlement],
    }  # fmt: skip
    flag = {
        "id": "f", "account_id": "a", "environment_id": "e", "key": "f", "rules": [],
        "default_value": True,
    }  # fmt: skip
    result = engine.check_flag(
        engine.load_flag(json.dumps(flag)), engine.load_company(json.dumps(company)), now=0
    )
    assert result.entitlement is not None
    assert result.entitlement.metric_reset_at == datetime.max.replace(tzinfo=timezone.utc)
    assert "9999" in repr(result)


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="value_type must be one of 'boolean', 'credit'"):
        FeatureEntitlement(feature_id="f", feature_key="k", value_type="sometimes")
