"""How long a failing server is left alone."""

from __future__ import annotations

import pytest

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.circuit_breaker import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PATIENCE,
    CircuitBreaker,
)
from schematic_native.redis.failures import unheard


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


FAULT = ConnectionError("cut")


def test_a_failing_server_is_left_alone_longer_after_each_failure_and_then_asked_again():
    clock = Clock()
    breaker = CircuitBreaker(clock)
    for length in (FIRST_PAUSE, 0.1, 0.2, 0.4, 0.8, LONGEST_PAUSE, LONGEST_PAUSE):
        breaker.failed(unheard(FAULT), FAULT, breaker.begin())
        clock.now += length * 0.99
        with pytest.raises(StoreError, match="cut") as failure:
            breaker.begin()
        assert not failure.value.lost
        clock.now += length * 0.02
    breaker.begin()
    breaker.succeeded()
    breaker.failed(unheard(FAULT), FAULT, breaker.begin())
    clock.now += FIRST_PAUSE
    assert breaker.begin() == clock.now


def test_a_timeout_shorter_than_the_patience_does_not_open_the_breaker():
    clock = Clock()
    breaker = CircuitBreaker(clock)
    error = TimeoutError()
    began = breaker.begin()
    clock.now += PATIENCE / 2
    breaker.failed(unheard(error), error, began)
    assert breaker.begin() == clock.now
    clock.now = began + PATIENCE
    breaker.failed(unheard(error), error, began)
    with pytest.raises(StoreError):
        breaker.begin()
