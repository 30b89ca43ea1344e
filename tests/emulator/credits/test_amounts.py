"""Amounts of credits: kept exactly, or refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schematic_native.emulator.credits.amounts import ONE, AmountError, to_credits, to_units


@given(st.floats(min_value=-(2.0**62), max_value=2.0**62, allow_nan=False))
def test_an_amount_is_kept_exactly_or_refused(value: float) -> None:
    try:
        units = to_units(value, "amount")
    except AmountError:
        assert value.as_integer_ratio()[1] > ONE
    else:
        assert to_credits(units) == value


def test_a_tenth_added_ten_times_is_ten_tenths() -> None:
    assert sum([to_units(0.1, "amount")] * 10) == 10 * to_units(0.1, "amount")


@pytest.mark.parametrize("value", [math.nan, math.inf, 2.0**63, 10**400, "1", None, True, 1e-40])
def test_what_is_no_amount_is_refused_by_name(value: object) -> None:
    with pytest.raises(AmountError, match="requested_amount"):
        to_units(value, "requested_amount")
