"""The log of a client: one line when a fault begins and one when it is over, never with the API key."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.ground.fault_log import MAX_STATES, FaultLog
from tests.conftest import ACME, API_KEY, eventually, streaming
from tests.servers import Answer, HttpServer

INFERENCE = "inference"
SECRET = "sch_live_VERY-SECRET-KEY"  # noqa: S105 - of nobody


def make(emulator, **fields: object) -> Schematic:
    return Schematic(API_KEY, SchematicConfig(**streaming(emulator, **fields)))


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records]


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "schematic_native")
    return caplog


def own(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("schematic_native")]


def test_a_thousand_checks_without_a_lease_log_one_line_and_one_when_it_is_back(emulator, caplog):
    with make(emulator) as client:
        client.check_flag(INFERENCE, ACME)
        caplog.clear()
        with emulator.fail("status", on="acquire", status=400):
            for _ in range(1000):
                assert not client.check(INFERENCE, ACME, usage=1).allowed
        assert client.check(INFERENCE, ACME, usage=1).allowed
        told = own(caplog)
    assert [record.levelname for record in told] == ["ERROR", "INFO"]
    assert "acquire of a lease" in told[0].getMessage()
    assert "works again" in told[1].getMessage()


async def test_a_thousand_asynchronous_checks_without_a_lease_log_one_line(emulator, caplog):
    config = AsyncSchematicConfig(**streaming(emulator))
    async with AsyncSchematic(API_KEY, config) as client:
        await client.check_flag(INFERENCE, ACME)
        caplog.clear()
        fault = await asyncio.to_thread(emulator.fail, "status", "acquire", status=400)
        for _ in range(1000):
            await client.check(INFERENCE, ACME, usage=1)
        await asyncio.to_thread(fault.clear)
        assert (await client.check(INFERENCE, ACME, usage=1)).allowed
        assert [record.levelname for record in own(caplog)] == ["ERROR", "INFO"]


def test_an_outage_of_event_capture_logs_two_lines_however_many_batches_fail(emulator, caplog):
    with make(emulator, event_buffer_period=0.02) as client:
        client.check_flag(INFERENCE, ACME)
        with emulator.fail("status", on="capture", status=500):
            for _ in range(2000):
                client.track("e", ACME)
            eventually(lambda: emulator.state()["requests"].get("capture", 0) >= 4)
        eventually(lambda: not client.status().queued_events)
    told = [record for record in own(caplog) if "event capture" in record.getMessage()]
    assert [record.levelname for record in told] == ["ERROR", "INFO"]


def test_alternating_failures_are_logged_once_each():
    answers = [Answer(500, {"error": "one"}), Answer(400, {"error": "two"})] * 100
    for answer in answers:
        answer.headers = {"Retry-After": "1000"}
    with HttpServer(*answers) as server:
        log = logging.getLogger("test_logs.turns")
        lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())
        log.addHandler(handler)
        config = SchematicConfig(base_url=server.url, event_capture_url=server.url, logger=log)
        with Schematic(API_KEY, config) as client:
            for number in range(20):
                client.check_flag(f"flag_{number}")
        log.removeHandler(handler)
    assert sorted(lines) == [
        "flag checks over REST: HTTP 400: two",
        "flag checks over REST: HTTP 500: one",
    ]


def test_a_fault_logs_each_of_its_states_once_up_to_a_limit(caplog):
    faults = FaultLog(logging.getLogger("schematic_native"), API_KEY)
    for _ in range(3):
        for number in range(20):
            faults.raised("topic", f"message {number}")
    assert len(own(caplog)) == MAX_STATES
    assert faults.last_error == "message 19"
    faults.cleared("topic")
    faults.cleared("topic")
    assert len(own(caplog)) == MAX_STATES + 1
    assert faults.last_error is None
    faults.raised("topic", "message 19")
    assert faults.last_error == "message 19"
    assert len(own(caplog)) == MAX_STATES + 2


def test_the_key_is_in_no_log_no_repr_and_no_exception(caplog):
    """The server repeats the key in its errors, in every way it can."""
    caplog.set_level(logging.DEBUG)
    echo = {"error": f"the key {SECRET} is not known"}
    said: list[str] = []
    for answer in (
        Answer(401, echo),
        Answer(500, echo, {"Retry-After": "1000"}),
        Answer(402, echo),
        Answer(404, echo),
        Answer(200, {"data": {"flag": SECRET}}),
        Answer(200, f"not JSON: {SECRET}".encode()),
        Answer(close=True),
        Answer(307, echo, {"Location": "http://127.0.0.1:1/"}),
    ):
        with HttpServer(otherwise=answer) as server:
            for mode in ("server", "client"):
                config = SchematicConfig(
                    base_url=server.url,
                    event_capture_url=server.url,
                    use_datastream=mode == "client",
                    timeout=0.3,
                    event_buffer_period=0.01,
                    credit_leases=CreditLeaseConfig(mode=mode),
                )
                client = Schematic(SECRET, config)
                said += [repr(client), repr(config), repr(vars(config)), repr(client._settings)]
                said += [repr(client.check(INFERENCE, ACME, usage=1))]
                said += [repr(client.check_flag_with_entitlement(INFERENCE, ACME))]
                said += [repr(client.check_flags(None, ACME))]
                client.prewarm(ACME, ["credit_inference"])
                try:
                    client.get_credit_balance(ACME, "credit_inference")
                except Exception as error:  # noqa: BLE001 - its text is what matters
                    while error is not None:
                        said.append(f"{error!r} {error}")
                        error = error.__cause__ or error.__context__
                said.append(repr(client.status()))
                # The event is given up, as it cannot be delivered and would delay the shutdown.
                client._core.take_batch()
                client.shutdown()
    assert [text for text in said if SECRET in text] == []
    records = [
        f"{record.name}: {record.getMessage()} {record.exc_text or ''}" for record in caplog.records
    ]
    assert [text for text in records if SECRET in text] == []
    assert [text for text in records if text.startswith("schematic_native")] != []


def acquires(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Return the levels at which httpx has logged requests for a lease."""
    lines = [record for record in caplog.records if record.name == "httpx"]
    return [line.levelno for line in lines if "POST" in line.getMessage()]


def test_requests_of_this_package_are_logged_at_debug(emulator, caplog):
    caplog.set_level(logging.INFO, "httpx")
    with make(emulator) as client:
        client.prewarm(ACME, ["credit_inference"])
    assert emulator.state()["requests"]["acquire"] == 1
    assert acquires(caplog) == []

    caplog.set_level(logging.DEBUG, "httpx")
    with make(emulator) as client:
        client.prewarm(ACME, ["credit_inference"])
    assert set(acquires(caplog)) == {logging.DEBUG}


def test_control_calls_of_the_emulator_are_logged_at_debug(emulator, caplog):
    caplog.set_level(logging.INFO, "httpx")
    emulator.state()
    assert [record for record in caplog.records if record.name == "httpx"] == []


def test_requests_of_the_program_are_logged_as_usual(emulator, caplog):
    caplog.set_level(logging.INFO, "httpx")
    httpx.get(f"{emulator.base_url}/nothing-here", timeout=60)
    assert [record.levelname for record in caplog.records if record.name == "httpx"] == ["INFO"]


def test_a_company_without_credits_is_not_a_fault(emulator, caplog):
    emulator.set_balance("comp_acme", "credit_inference", 0)
    with make(emulator) as client:
        client.check_flag(INFERENCE, ACME)
        caplog.clear()
        for _ in range(3):
            assert client.check(INFERENCE, ACME, usage=1).error == "lease_acquire_failed"
        assert client.status().last_error is None
        assert [record for record in own(caplog) if record.levelno >= logging.INFO] == []
