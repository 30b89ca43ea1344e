"""The clock of the emulator: instants on the wire, and time that never runs backwards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schematic_native.emulator.clock import Clock, format_instant, parse_instant


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01t00:00:01z", 1.0),
        ("1970-01-01T00:00:00.123456789Z", 0.123456789),
        ("1970-01-01T05:30:00.5+05:30", 0.5),
        ("1969-12-31T19:00:00-05:00", 0.0),
    ],
)
def test_every_rfc_3339_spelling_is_read(text: str, seconds: float) -> None:
    assert parse_instant(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1970-01-01", "1970-01-01T00:00:00", "tomorrow", "1970-13-01T00:00:00Z"]
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"instant|month"):
        parse_instant(text)


@given(st.floats(min_value=0, max_value=4e9))
def test_an_instant_survives_the_wire_to_the_microsecond(seconds: float) -> None:
    assert abs(parse_instant(format_instant(seconds)) - seconds) < 2e-6


def test_a_clock_never_runs_backwards() -> None:
    real = [100.0]
    clock = Clock(lambda: real[0])
    assert clock.now() == 100.0
    real[0] = 50.0
    assert clock.now() == 100.0


def test_a_frozen_clock_moves_only_when_advanced() -> None:
    real = [100.0]
    clock = Clock(lambda: real[0])
    clock.freeze()
    real[0] = 200.0
    assert clock.now() == 100.0
    clock.advance(7)
    assert clock.now() == 107.0
    clock.resume()
    real[0] = 201.0
    assert clock.now() == 108.0
