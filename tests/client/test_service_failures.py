"""The synchronous client while the service refuses, hangs, restarts or is not there."""

from __future__ import annotations

import logging
import time

from schematic_native import CheckFlagOptions, CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native.emulator import Emulator
from tests.client.sync_clients import CREDIT, INFERENCE, at, make
from tests.conftest import ACME, API_KEY, eventually, streaming
from tests.limits import within
from tests.ports import free_port
from tests.servers import Answer, HttpServer


def test_a_wrong_api_key_denies_says_so_and_raises_nothing(emulator, caplog):
    config = SchematicConfig(**streaming(emulator))
    with Schematic("sch_wrong", config) as client:
        closed = client.check(INFERENCE, ACME, usage=1)
        assert client.check_flag(INFERENCE, ACME) is False
        client.track("e", ACME)
        eventually(lambda: "API key was refused" in caplog.text)
        assert client.status().connected is False
    assert closed.allowed is False
    assert "sch_wrong" not in caplog.text


def test_without_a_server_every_check_returns_its_default_and_nothing_raises(dead_url, caplog):
    config = at(
        dead_url,
        use_datastream=True,
        credit_leases=CreditLeaseConfig(),
        flag_defaults={"On": True},
        timeout=0.5,
    )
    client = Schematic(API_KEY, config)
    start = time.monotonic()
    client.initialize()
    assert client.check_flag("on") is True
    assert client.check_flag("off") is False
    assert client.check_flag("off", options=CheckFlagOptions(default_value=lambda: True)) is True
    assert client.check("f", ACME, usage=1).reason == "server_reservation_failed"
    assert client.check("on", ACME, usage=1, on_acquire_failure="fail-open").allowed is True
    assert client.check("f", ACME, default_value=True).allowed is True
    assert [answer.value for answer in client.check_flags(["on", "off"])] == [True, False]
    client.track("e")
    client.prewarm(ACME, [CREDIT])
    status = client.status()
    assert (status.connected, status.queued_events) == (False, 1)
    assert status.last_error
    client.shutdown()
    assert time.monotonic() - start < 50  # a busy machine has time; one default timeout is 60 s
    topics = [
        record.message.split(":")[0] for record in caplog.records if record.levelno >= logging.ERROR
    ]
    assert len(topics) == len(set(topics))


def test_checks_return_within_their_timeout_while_the_server_is_frozen():
    with HttpServer(otherwise=Answer(freeze=True)) as server:
        for leases in (None, CreditLeaseConfig(), CreditLeaseConfig(mode="client")):
            for use_datastream in (False, True):
                config = at(server.url, credit_leases=leases, use_datastream=use_datastream)
                client = Schematic(API_KEY, config)
                for _ in range(2):
                    for _ in within(0.4):
                        assert client.check("f", ACME, usage=1, timeout=0.2).allowed is False
                options = CheckFlagOptions(timeout=0.1)
                for _ in within(0.3):
                    assert client.check_flag("f", ACME, None, options) is False
                client.shutdown()


def test_checks_return_within_their_timeout_while_the_lease_service_is_frozen(emulator):
    with make(streaming(emulator)) as client:
        client.check_flag(INFERENCE, ACME)
        with emulator.fail("freeze", on="acquire"):
            for _ in within(0.5):
                result = client.check(INFERENCE, ACME, usage=1, timeout=0.2)
                assert (result.allowed, result.reason) == (False, "lease_acquire_failed")


def test_the_client_survives_a_restart_of_the_server(caplog):
    caplog.set_level("INFO")
    with (
        Emulator(port=free_port(), journal=True) as emulator,
        make(streaming(emulator, event_buffer_period=0.05)) as client,
    ):
        first = client.check(INFERENCE, ACME, usage=5)
        emulator.kill()
        eventually(lambda: not client.status().connected)
        # The lease and the entities are in memory, so checks and settles still work.
        second = client.check(INFERENCE, ACME, usage=5)
        assert second.allowed
        client.track_with_reservation(first.reservation, 5)
        client.track_with_reservation(second.reservation, 5)
        eventually(lambda: client.status().queued_events >= 2)
        emulator.restart(keep_state=True)
        eventually(lambda: client.status().ready)
        eventually(lambda: client.status().queued_events == 0)
        assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 10}}
        assert client.status().last_error is None
    assert emulator.audit()["balanced"] if emulator._running else True


def test_events_survive_a_capture_outage_and_are_billed_once(emulator):
    with make(streaming(emulator, event_buffer_period=0.05)) as client:
        fault = emulator.fail("status", on="capture", status=503)
        result = client.check(INFERENCE, ACME, usage=5)
        client.track_with_reservation(result.reservation, 5)
        eventually(lambda: fault.fired >= 1)
        assert emulator.state()["billed"] == {}
        fault.clear()
        eventually(lambda: client.status().queued_events == 0)
        # The response is cut off after the commit, so the batch is sent again; it is billed only once.
        emulator.fail("cut", on="capture", times=1)
        result = client.check(INFERENCE, ACME, usage=5)
        client.track_with_reservation(result.reservation, 5)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 10}}
    assert emulator.audit()["balanced"]
