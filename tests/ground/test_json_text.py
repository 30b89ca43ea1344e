"""JSON is read strictly and written compactly."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Network
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schematic_native.ground import json_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    LEAVES | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20
)


class Colour(Enum):
    RED = "red"


@given(VALUES)
def test_written_values_are_read_back(value: object) -> None:
    assert json_text.read(json_text.write(value)) == value


@given(st.dictionaries(TEXTS, TEXTS))
def test_a_mapping_of_texts_is_written_as_by_the_encoder(values: dict[str, str]) -> None:
    assert json_text.texts(values).encode() == json_text.write(values)


def test_it_is_written_compactly_and_in_utf_8() -> None:
    assert json_text.write({"b": ["é", 1.5], "a": None}) == '{"b":["é",1.5],"a":null}'.encode()
    assert json_text.write({"b": 1, "a": 2}, sort_keys=True) == b'{"a":2,"b":1}'


def test_instants_ids_and_members_become_text() -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
    identity = UUID(int=1)
    written = json_text.write(
        [noon, date(2026, 1, 2), identity, Colour.RED, Decimal("1.50"), {7}, frozenset({8})]
    )
    assert json_text.read(written) == [
        "2026-01-02T12:00:00+00:00",
        "2026-01-02",
        "00000000-0000-0000-0000-000000000001",
        "red",
        "1.50",
        [7],
        [8],
    ]


@dataclass
class Seats:
    used: int
    since: date


PARIS, UTC_PLUS_0 = ZoneInfo("Europe/Paris"), ZoneInfo("Europe/London")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 1, 2, 12, tzinfo=timezone.utc), "2026-01-02T12:00:00Z"),
        (datetime(2026, 1, 2, 12, 0, 0, 678, tzinfo=timezone.utc), "2026-01-02T12:00:00.000678Z"),
        (datetime(2026, 1, 2, 12, tzinfo=UTC_PLUS_0), "2026-01-02T12:00:00Z"),
        (datetime(2026, 7, 2, 12, tzinfo=UTC_PLUS_0), "2026-07-02T12:00:00+01:00"),
        (datetime(2026, 7, 2, 12, tzinfo=PARIS), "2026-07-02T12:00:00+02:00"),
        (datetime(2026, 1, 2, 12), "2026-01-02T12:00:00"),  # noqa: DTZ001 - it has no zone
        (date(2026, 1, 2), "2026-01-02"),
        (time(12, 30), "12:30:00"),
        (time(12, 30, tzinfo=timezone.utc), "12:30:00Z"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.50"), "1.50"),
        (Fraction(1, 2), "1/2"),
        (IPv4Address("10.0.0.1"), "10.0.0.1"),
        (IPv6Network("fd00::/8"), "fd00::/8"),
        (deque([1, "b"]), [1, "b"]),
        (Seats(3, date(2026, 1, 2)), {"used": 3, "since": "2026-01-02"}),
    ],
)
def test_a_trait_has_the_value_that_the_published_package_gives_it(
    value: object, text: object
) -> None:
    assert json_text.read(json_text.write_traits({"at": [value]})) == {"at": [text]}
    published = pytest.importorskip("schematic.types")
    event = published.EventBodyTrack(event="opened", traits={"at": [value]})
    assert json_text.read(event.json())["traits"] == {"at": [text]}


def test_a_model_is_a_trait_with_the_fields_that_are_set() -> None:
    published = pytest.importorskip("schematic.types")
    model = published.EventBodyIdentifyCompany(keys={"id": "acme"})
    written = json_text.read(json_text.write_traits({"company": model}))
    assert written == {"company": {"keys": {"id": "acme"}}}
    event = published.EventBodyTrack(event="opened", traits={"company": model})
    assert json_text.read(event.json())["traits"] == written


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, "\ud800", object(), {(1,): 2}, b"bytes"],
    ids=["nan", "infinity", "surrogate", "object", "tuple key", "bytes"],
)
def test_a_value_without_a_json_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        json_text.write([value])
    with pytest.raises(TypeError):
        json_text.write_traits([value])


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(TypeError):
        json_text.write(loop)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1,]",
        "NaN",
        "[Infinity]",
        "1e400",
        "1 2",
        b"\xff",
        b"\xef\xbb\xbf1",
        "[" * 100_000,
    ],
)
def test_malformed_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(json_text.NotJSONError):
        json_text.read(text)
