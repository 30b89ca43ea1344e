"""When a server that could not be reached is tried again."""

from __future__ import annotations

import pytest

from schematic_native.faults import StoreError
from schematic_native.redis.faults import unsent
from schematic_native.redis.rest import Rest

REFUSED = ConnectionRefusedError("refused")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ends_after(rest: Rest, clock: Clock, seconds: float) -> bool:
    start = clock.now
    clock.now = start + seconds - 0.001
    with pytest.raises(StoreError, match="refused; asked again in a moment") as failure:
        rest.check()
    assert not failure.value.lost
    clock.now = start + seconds
    rest.check()
    return True


def test_each_rest_is_twice_as_long_up_to_a_second():
    clock = Clock()
    rest = Rest(clock)
    for seconds in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        rest.note(REFUSED, unsent(REFUSED))
        assert ends_after(rest, clock, seconds)


def test_a_server_that_was_reached_is_given_the_first_rest_again():
    clock = Clock()
    rest = Rest(clock)
    rest.note(REFUSED, unsent(REFUSED))
    rest.note(REFUSED, unsent(REFUSED))
    rest.end()
    rest.note(REFUSED, unsent(REFUSED))
    assert ends_after(rest, clock, 0.05)


def test_a_time_that_was_up_is_no_reason_to_rest():
    rest = Rest(Clock())
    rest.note(TimeoutError(), unsent(TimeoutError()))
    rest.check()
