"""The fault log: one line when a fault begins, one when it is over."""

from __future__ import annotations

import logging

import pytest

from schematic_native.ground.fault_log import MAX_OPEN_FAULTS, FaultLog
from schematic_native.service.errors import ApiConnectionError, ApiError, PaymentRequiredError


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> FaultLog:
    caplog.set_level("INFO")
    return FaultLog(logging.getLogger("schematic_native.test"), "sch_secret")


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


def test_a_fault_is_logged_when_it_begins_and_when_it_is_over(log, caplog):
    for _ in range(3):
        log.raised("capture", "unreachable")
    assert log.last_error == "unreachable"
    log.cleared("capture")
    log.cleared("capture")
    assert log.last_error is None
    assert messages(caplog) == ["capture: unreachable", "capture: works again"]


def test_an_api_failure_is_the_same_while_its_kind_and_status_are(log, caplog):
    for left in (50, 49, 48):
        log.raised("acquire", PaymentRequiredError(f"{left} credits left", 402))
    assert log.last_error == "HTTP 402: 48 credits left"
    log.raised("acquire", ApiError("down", 503))
    log.raised("acquire", ApiConnectionError("no route"))
    assert messages(caplog) == [
        "acquire: HTTP 402: 50 credits left",
        "acquire: HTTP 503: down",
        "acquire: no route",
    ]


def test_the_api_key_is_in_no_message(log, caplog):
    log.raised("capture", "the key sch_secret was refused")
    log.raised("api", ApiError("sch_secret is unknown", 401))
    log.noted("what is sch_secret?")
    assert "sch_secret" not in caplog.text
    assert "sch_secret" not in str(log.last_error)


def test_a_short_api_key_is_not_removed_from_words(caplog):
    FaultLog(logging.getLogger("schematic_native.test"), "k").noted("the events are kept")
    assert messages(caplog) == ["the events are kept"]


def test_many_faults_do_not_fill_the_memory(log):
    for number in range(2 * MAX_OPEN_FAULTS):
        log.raised(f"topic {number}", "broken")
        log.noted(f"note {number}")
    assert len(log._open) == MAX_OPEN_FAULTS
    assert len(log._noted) == MAX_OPEN_FAULTS
