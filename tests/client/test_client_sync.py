"""The synchronous client as a whole, on the emulated service: checks, settles, failures, lifecycle."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from datetime import datetime, timezone

import httpx
import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckFlagOptions,
    CheckFlagResult,
    CheckOptions,
    CreditLeaseConfig,
    EventBodyIdentifyCompany,
    EventQuantities,
    EventUsage,
    IdentifyOptions,
    LocalCache,
    Schematic,
    SchematicConfig,
    TrackOptions,
    TrackWithReservationOptions,
)
from schematic_native.emulator import Emulator
from tests.conftest import ACME, API_KEY, eventually, plain, streaming
from tests.limits import within
from tests.ports import free_port
from tests.servers import Answer, HttpServer, data

INFERENCE = "inference"
CREDIT = "credit_inference"


def make(fields: dict[str, object]) -> Schematic:
    return Schematic(API_KEY, SchematicConfig(**fields))


def at(url: str, **fields: object) -> SchematicConfig:
    return SchematicConfig(base_url=url, event_capture_url=url, **fields)


def posted(emulator: Emulator, kind: str) -> list[dict]:
    return [event for event in emulator.events() if event["type"] == kind]


# From the check to the bill, on the emulated service


def test_a_check_holds_credits_a_settle_bills_them_and_shutdown_gives_the_rest_back(emulator):
    with make(streaming(emulator)) as client:
        result = client.check(INFERENCE, ACME, {"id": "ada"}, usage=10)
        assert result.allowed
        assert result.reservation is not None
        assert (result.reservation.mode, result.reservation.credits_reserved) == ("client", 20.0)
        assert client.status().open_holds == 1
        options = TrackWithReservationOptions(traits={"model": "large"})
        client.track_with_reservation(result.reservation, 3.2, options)
        assert client.status().open_holds == 0
    state = emulator.state()
    (lease,) = state["leases"].values()
    assert (lease["tracked"], lease["status"]) == (8.0, "released")
    assert state["billed"] == {"comp_acme": {"inference_tokens": 4}}
    assert emulator.audit()["balanced"]
    (event,) = posted(emulator, "track")
    assert event["idempotency_key"] == f"lease-reservation:{result.reservation.id}"
    assert event["body"]["traits"] == {"model": "large"}
    assert event["body"]["lease_id"] == result.reservation.lease_id
    (check,) = posted(emulator, "flag_check")
    assert (check["body"]["flag_key"], check["body"]["value"]) == (INFERENCE, True)


def test_a_check_without_enough_credits_is_denied_by_its_mode(emulator):
    with make(streaming(emulator)) as client:
        closed = client.check(INFERENCE, {"id": "none"}, usage=10)
        opened = client.check(INFERENCE, {"id": "none"}, usage=10, on_acquire_failure="fail-open")
    assert (closed.allowed, closed.reason, closed.error) == (
        False,
        "lease_acquire_failed",
        "lease_acquire_failed",
    )
    assert opened.reservation is None
    assert opened.error == "lease_acquire_failed"
    assert opened.reason.endswith("(lease_acquire_failed_fail_open)")


def test_a_keyword_wins_over_the_options_and_options_alone_will_do(emulator):
    with make(streaming(emulator)) as client:
        options = CheckOptions(usage=5, event_subtype="other_event")
        by_options = client.check(INFERENCE, ACME, None, options)
        by_keyword = client.check(INFERENCE, ACME, None, options, usage=7)
    assert by_options.reservation is not None
    assert by_keyword.reservation is not None
    assert by_options.reservation.quantity_reserved == 5
    assert by_options.reservation.event_subtype == "other_event"
    assert by_keyword.reservation.quantity_reserved == 7
    assert by_keyword.reservation.event_subtype == "other_event"


@pytest.mark.parametrize(
    "usage", [float("nan"), float("inf"), -1, True, pytest.param(10**400, id="huge")]
)
@pytest.mark.parametrize("mode", ["client", "server"])
def test_an_invalid_usage_is_decided_by_the_failure_mode_and_reaches_no_store(
    emulator, usage, mode
):
    fields = streaming(emulator, credit_leases=CreditLeaseConfig(mode=mode))
    with make(fields) as client:
        closed = client.check(INFERENCE, ACME, usage=usage)
        opened = client.check(INFERENCE, ACME, usage=usage, on_acquire_failure="fail-open")
    assert (closed.allowed, closed.reason, closed.error) == (
        False,
        "invalid_usage",
        "invalid_usage",
    )
    assert (opened.allowed, opened.reason) == (True, "invalid_usage_fail_open")
    assert emulator.state()["leases"] == {}


def test_a_check_without_usage_is_a_plain_check_without_a_hold(emulator):
    with make(streaming(emulator)) as client:
        for usage in (None, 0):
            result = client.check(INFERENCE, ACME, usage=usage)
            assert (result.allowed, result.reservation) == (True, None)
            assert result.entitlement is not None
    assert emulator.state()["leases"] == {}


def test_plain_checks_are_answered_from_the_stream(emulator):
    with make(streaming(emulator)) as client:
        assert client.check_flag(INFERENCE, ACME) is True
        assert client.check_flag(INFERENCE.upper(), {"ID": "ACME"}) is True
        with emulator.fail("refuse", on="check"):
            answers = client.check_flags(None, ACME)
            some = client.check_flags(["Inference", "nope"], ACME)
    assert {answer.flag: answer.value for answer in answers}[INFERENCE] is True
    assert len(answers) == 3
    assert [answer.value for answer in some] == [True, False]
    assert len(posted(emulator, "flag_check")) >= 6


def test_a_company_that_the_stream_does_not_know_is_asked_for_over_rest(emulator):
    with make(streaming(emulator)) as client:
        answer = client.check_flag_with_entitlement(INFERENCE, {"id": "stranger"})
    assert answer.value is False
    assert answer.error is None


def test_a_check_counts_the_usage_that_its_preflight_options_announce(emulator):
    with make(streaming(emulator)) as client:
        few = {"id": "few"}
        assert client.check_flag(INFERENCE, few) is True
        for options in (
            CheckFlagOptions(usage=26),
            CheckFlagOptions(event_usage=EventUsage("inference_tokens", 25.5)),
            CheckFlagOptions(credit_cost={CREDIT: 51}),
        ):
            assert client.check_flag(INFERENCE, few, None, options) is False
        assert client.check_flag(INFERENCE, few, None, CheckFlagOptions(usage=25)) is True
        quantities = EventQuantities("inference_tokens", {"input_tokens": 1})
        assert client.check_flag(
            INFERENCE, few, None, CheckFlagOptions(event_quantities=quantities)
        )


def test_a_balance_is_the_sum_of_the_servers_and_the_leases_credits(emulator):
    with make(streaming(emulator)) as client:
        client.check_flag(INFERENCE, ACME)
        result = client.check(INFERENCE, ACME, usage=10)
        held = client.get_credit_balance(ACME, CREDIT)
        eventually(lambda: client.get_credit_balance(ACME, CREDIT).remaining == 1_000_000_000 - 20)
        assert held.reserved == 20
        client.track_with_reservation(result.reservation, 10)
        settled = client.get_credit_balance(ACME, CREDIT)
        assert (settled.reserved, settled.settled) == (0, 20)


def test_a_balance_is_asked_for_over_rest_without_a_stream(emulator):
    with make(plain(emulator)) as client:
        balance = client.get_credit_balance(ACME, CREDIT)
        assert (balance.remaining, balance.reserved) == (1_000_000_000, 0)
        with pytest.raises(Exception, match="no balance"):
            client.get_credit_balance(ACME, "no_such_credit")


def test_events_carry_the_arguments_of_their_calls(emulator):
    sent_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    with make(plain(emulator)) as client:
        client.identify({"id": "ada"}, {"keys": ACME, "name": "Acme"}, "Ada", {"age": 36})
        client.identify({"id": "bob"}, EventBodyIdentifyCompany(ACME, traits={"size": 3}))
        options = TrackOptions(idempotency_key="once", sent_at=sent_at, trusted_client_clock=True)
        client.track("login", ACME, {"id": "ada"}, {"from": "home"}, 2, options)
    first, second = posted(emulator, "identify")
    assert first["body"] == {
        "keys": {"id": "ada"},
        "company": {"keys": ACME, "name": "Acme"},
        "name": "Ada",
        "traits": {"age": 36},
    }
    assert second["body"]["company"] == {"keys": ACME, "traits": {"size": 3}}
    (event,) = posted(emulator, "track")
    assert event["body"] == {
        "event": "login",
        "company": ACME,
        "user": {"id": "ada"},
        "traits": {"from": "home"},
        "quantity": 2,
    }
    assert event["idempotency_key"] == "once"
    assert event["sent_at"].startswith("2026-01-02T03:04:05")
    assert event["trusted_client_clock"] is True


def test_prewarm_acquires_the_lease_before_the_first_check(emulator):
    with make(streaming(emulator)) as client:
        client.prewarm(ACME, [CREDIT])
        assert client.status().leases == 1
        with emulator.fail("refuse", on="acquire"):
            assert client.check(INFERENCE, ACME, usage=1).allowed


def test_identify_with_prewarm_acquires_in_the_background(emulator):
    with make(streaming(emulator)) as client:
        client.identify({"id": "ada"}, {"keys": ACME}, options=IdentifyOptions(prewarm=[CREDIT]))
        eventually(lambda: client.status().leases == 1)
        assert len(posted(emulator, "identify")) == 1


def test_server_mode_holds_and_settles_on_the_server(emulator):
    with make(plain(emulator, credit_leases=CreditLeaseConfig(mode="server"))) as client:
        result = client.check(INFERENCE, ACME, usage=9.5)
        assert result.reservation is not None
        assert (result.reservation.mode, result.reservation.credits_reserved) == ("server", 20.0)
        client.track_with_reservation(result.reservation, 4)
        poor = client.check(INFERENCE, {"id": "none"}, usage=10, on_acquire_failure="fail-open")
    assert (poor.allowed, poor.reason) == (False, "Insufficient credits")
    (event,) = posted(emulator, "track")
    assert event["body"]["reservation_id"] == result.reservation.id
    assert "lease_id" not in event["body"]
    assert emulator.state()["billed"]["comp_acme"] == {"inference_tokens": 4}
    assert emulator.audit()["balanced"]
    assert posted(emulator, "flag_check") == []


def test_auto_mode_is_client_while_the_stream_runs_and_server_otherwise(emulator):
    auto = CreditLeaseConfig()
    with make(streaming(emulator, credit_leases=auto)) as client:
        result = client.check(INFERENCE, ACME, usage=1)
        assert result.reservation is not None
        assert result.reservation.mode == "client"
    with (
        emulator.fail("refuse", on="datastream"),
        make(streaming(emulator, credit_leases=auto)) as client,
    ):
        result = client.check(INFERENCE, ACME, usage=1)
        assert result.reservation is not None
        assert result.reservation.mode == "server"


# Failures


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


@pytest.mark.parametrize(
    ("call", "error", "names"),
    [
        (lambda c: c.check(5, ACME, usage=1), TypeError, "flag_key"),
        (lambda c: c.check(INFERENCE, "acme", usage=1), TypeError, "company"),
        (lambda c: c.check(INFERENCE, {"id": 1}, usage=1), TypeError, "company"),
        (lambda c: c.check(INFERENCE, ACME, ["u"], usage=1), TypeError, "user"),
        (lambda c: c.check(INFERENCE, ACME, usage="many"), TypeError, "usage"),
        (lambda c: c.check(INFERENCE, ACME, usage=1, event_subtype=5), TypeError, "event_subtype"),
        (
            lambda c: c.check(INFERENCE, ACME, usage=1, on_acquire_failure="open"),
            ValueError,
            "on_acquire_failure",
        ),
        (lambda c: c.check(INFERENCE, ACME, usage=1, timeout="1"), TypeError, "timeout"),
        (lambda c: c.check(INFERENCE, ACME, usage=1, timeout=-1), ValueError, "timeout"),
        (lambda c: c.check(INFERENCE, ACME, usage=1, default_value=5), TypeError, "default_value"),
        (lambda c: c.check(INFERENCE, ACME, None, {"usage": 1}), TypeError, "options"),
        (lambda c: c.check(INFERENCE, ACME, None, CheckOptions(usage="x")), TypeError, "usage"),
        (lambda c: c.check(INFERENCE, ACME, wrong=1), TypeError, "wrong"),
        (lambda c: c.check_flag(None, ACME), TypeError, "flag_key"),
        (lambda c: c.check_flag("", ACME, None, CheckFlagOptions()), ValueError, "flag_key"),
        (lambda c: c.check_flag(INFERENCE, {1: "a"}), TypeError, "company"),
        (lambda c: c.check_flag(INFERENCE, ACME, None, CheckOptions()), TypeError, "options"),
        (
            lambda c: c.check_flag(INFERENCE, ACME, None, CheckFlagOptions(usage=-1)),
            ValueError,
            "usage",
        ),
        (
            lambda c: c.check_flag(INFERENCE, ACME, None, CheckFlagOptions(usage=True)),
            TypeError,
            "usage",
        ),
        (
            lambda c: c.check_flag(INFERENCE, ACME, None, CheckFlagOptions(event_usage=("a", 1))),
            TypeError,
            "event_usage",
        ),
        (
            lambda c: c.check_flag(INFERENCE, ACME, None, CheckFlagOptions(credit_cost={"a": "b"})),
            TypeError,
            "credit_cost",
        ),
        (lambda c: c.check_flags("inference", ACME), TypeError, "flag_keys"),
        (lambda c: c.check_flags([1], ACME), TypeError, r"flag_keys\[0\]"),
        (lambda c: c.track(5), TypeError, "event"),
        (lambda c: c.track("e", "acme"), TypeError, "company"),
        (lambda c: c.track("e", traits=[1]), TypeError, "traits"),
        (lambda c: c.track("e", traits={"a": object()}), TypeError, "traits"),
        (lambda c: c.track("e", quantity="2"), TypeError, "quantity"),
        (lambda c: c.track("e", quantity=True), TypeError, "quantity"),
        (lambda c: c.track("e", quantity=2**63), ValueError, "quantity"),
        (lambda c: c.track("e", options=TrackOptions(sent_at="now")), TypeError, "sent_at"),
        (
            lambda c: c.track("e", options=TrackOptions(idempotency_key=5)),
            TypeError,
            "idempotency_key",
        ),
        (lambda c: c.track("e", options=TrackOptions(backfill="no")), TypeError, "backfill"),
        (lambda c: c.track("e", options=IdentifyOptions()), TypeError, "options"),
        (lambda c: c.identify("ada"), TypeError, "keys"),
        (lambda c: c.identify({"id": "a"}, {"keys": {}}), ValueError, "company.keys"),
        (lambda c: c.identify({"id": "a"}, {"kees": {}}), ValueError, "kees"),
        (lambda c: c.identify({"id": "a"}, "acme"), (TypeError, ValueError), "company"),
        (lambda c: c.identify({"id": "a"}, name=5), TypeError, "name"),
        (
            lambda c: c.identify({"id": "a"}, options=IdentifyOptions(prewarm="x")),
            TypeError,
            "prewarm",
        ),
        (lambda c: c.track_with_reservation("r", 1), TypeError, "reservation"),
        (lambda c: c.prewarm({}, [CREDIT]), ValueError, "company"),
        (lambda c: c.prewarm(ACME, CREDIT), TypeError, "credit_type_ids"),
        (lambda c: c.get_credit_balance(ACME, 5), TypeError, "credit_type_id"),
        (lambda c: c.set_flag_default("f", "yes"), TypeError, "value must be a bool"),
        (lambda c: c.set_flag_default({}, True), TypeError, "flag_key must be a str"),
        (lambda c: c.set_flag_defaults({"f": 1}), TypeError, "values"),
    ],
)
def test_a_wrong_argument_is_refused_by_name_before_anything_happens(
    shared_client, call, error, names
):
    emulator, client = shared_client
    before = len(emulator.state()["leases"]), client.status().open_holds
    with pytest.raises(error, match=names):
        call(client)
    assert (len(emulator.state()["leases"]), client.status().open_holds) == before


@pytest.fixture(scope="module")
def shared_client():
    with Emulator() as emulator, make(streaming(emulator)) as client:
        client.check_flag(INFERENCE, ACME)
        yield emulator, client


def test_a_settle_without_a_reservation_or_a_valid_quantity_is_logged_and_bills_nothing(
    emulator, caplog
):
    with make(streaming(emulator)) as client:
        client.track_with_reservation(None, 1)
        assert "report usage that was not reserved with track()" in caplog.text
        result = client.check(INFERENCE, ACME, usage=1)
        for quantity in (-1, float("nan"), float("inf")):
            client.track_with_reservation(result.reservation, quantity)
        assert client.status().open_holds == 1
    assert (
        len([record for record in caplog.records if "track_with_reservation" in record.message])
        == 4
    )
    assert posted(emulator, "track") == []


# Lifecycle


def test_the_client_works_inside_a_running_loop(emulator):
    async def program() -> bool:
        client = make(streaming(emulator))
        try:
            return client.check(INFERENCE, ACME, usage=1).allowed
        finally:
            client.shutdown()

    assert asyncio.run(program())


def test_many_threads_share_one_client_and_one_lease(emulator):
    with make(streaming(emulator)) as client:
        start = threading.Barrier(16)
        results = []

        def work() -> None:
            start.wait()
            for _ in range(50):
                result = client.check(INFERENCE, ACME, usage=1)
                client.track_with_reservation(result.reservation, 1)
                results.append(result.allowed)

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 800
    assert len(emulator.state()["leases"]) == 1
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 800}}
    assert emulator.audit()["balanced"]


def test_shutdown_is_idempotent_safe_from_another_thread_and_final(emulator, caplog):
    client = make(streaming(emulator))
    client.initialize()
    client.initialize()
    client.check(INFERENCE, ACME, usage=1)
    threads = [threading.Thread(target=client.shutdown) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.shutdown()
    late = client.check(INFERENCE, ACME, usage=1)
    assert (late.allowed, late.reservation, late.reason) == (False, None, "lease_acquire_failed")
    client.track("too late")
    client.initialize()
    assert "shut down" in caplog.text
    assert [lease["status"] for lease in emulator.state()["leases"].values()] == ["released"]
    assert posted(emulator, "track") == []


def test_a_shutdown_stays_within_its_budget_while_the_server_is_frozen(emulator):
    for _ in within(6.5):
        client = make(streaming(emulator))
        client.check(INFERENCE, ACME, usage=1)
        client.track("e")
        fault = emulator.fail("freeze", on="any")
        client.shutdown()
        fault.clear()


def test_a_clients_lifecycle_leaves_no_resource_warning(emulator):
    program = f"""
        from schematic_native import Schematic, SchematicConfig, CreditLeaseConfig
        config = SchematicConfig(
            base_url={emulator.base_url!r}, event_capture_url={emulator.base_url!r},
            use_datastream=True, credit_leases=CreditLeaseConfig(),
        )
        with Schematic({API_KEY!r}, config) as client:
            result = client.check("inference", {{"id": "acme"}}, usage=1)
            client.track_with_reservation(result.reservation, 1)
        left = Schematic({API_KEY!r}, config)
        left.check("inference", {{"id": "acme"}}, usage=1)
        left.track("at exit")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # The client without a shutdown was ended at the interpreter's exit.
    assert [e["body"]["event"] for e in posted(emulator, "track")] == [
        "inference_tokens",
        "at exit",
    ]
    assert {lease["status"] for lease in emulator.state()["leases"].values()} == {"released"}


def test_importing_the_package_loads_no_network_library():
    program = """
        import sys
        import schematic_native, schematic_native.client
        loaded = {"httpx", "websockets", "redis", "asyncio", "ssl", "openfeature", "opentelemetry"} & set(sys.modules)
        assert not loaded, loaded
        config = schematic_native.SchematicConfig(offline=True)
        schematic_native.Schematic("key", config).check_flag("f")
        loaded = {"httpx", "websockets", "redis", "asyncio", "ssl"} & set(sys.modules)
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=250)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_uses_nothing_of_its_parent(emulator):
    with make(streaming(emulator)) as client:
        parent = client.check(INFERENCE, ACME, usage=5)
        client.track("before the fork")

        def child(pipe) -> None:
            before = client.status()
            result = client.check(INFERENCE, ACME, usage=5)
            client.track_with_reservation(result.reservation, 5)
            client.shutdown()
            pipe.send(
                (before.leases, before.open_holds, before.queued_events, result.reservation.id)
            )

        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
        process.start()
        assert ours.poll(30)
        leases, holds, queued, reservation_id = ours.recv()
        process.join(30)
        assert process.exitcode == 0
        assert (leases, holds, queued) == (0, 0, 0)
        assert reservation_id != parent.reservation.id
        assert client.status().open_holds == 1
        client.track_with_reservation(parent.reservation, 5)
        assert client.check(INFERENCE, ACME, usage=5).allowed
    names = [event["body"]["event"] for event in posted(emulator, "track")]
    assert sorted(names) == ["before the fork", "inference_tokens", "inference_tokens"]
    assert emulator.audit()["balanced"]


# Without a stream


def test_rest_answers_are_cached_by_flag_company_and_user():
    answer = data(flag="f", value=True, reason="ok")
    with (
        HttpServer(otherwise=Answer(body=answer)) as server,
        Schematic(API_KEY, at(server.url)) as client,
    ):
        for _ in range(3):
            assert client.check_flag("f", {"id": "a", "slug": "b"})
            assert client.check_flag("F", {"slug": "b", "id": "a"})
        assert len(server.requests) == 1
        client.check_flag("f", {"id": "b"})
        client.check_flag("f", {"id": "a", "slug": "b"}, {"id": "u"})
        assert len(server.requests) == 3
        for _ in range(2):
            client.check_flag("f", {"id": "a", "slug": "b"}, None, CheckFlagOptions(usage=1))
        assert len(server.requests) == 5


def test_a_cached_answer_expires():
    now = [0.0]
    cache = LocalCache(2, 5000, clock=lambda: now[0])
    answers = {name: CheckFlagResult(flag=name, value=True, reason="") for name in "abc"}
    for name in "ab":
        cache.set(name, answers[name])
    assert cache.get("a") == answers["a"]
    cache.set("c", answers["c"])
    assert cache.get("b") is None
    now[0] = 5.0
    assert cache.get("a") is None


def test_a_users_cache_is_used_and_may_fail(caplog):
    class Broken:
        def get(self, key):
            raise OSError("get is broken")

        def set(self, key, val, ttl_override=None):
            raise OSError("set is broken")

    answer = data(flag="f", value=True, reason="ok")
    with HttpServer(otherwise=Answer(body=answer)) as server:
        config = at(server.url, cache_providers=[Broken(), LocalCache()])
        with Schematic(API_KEY, config) as client:
            assert client.check_flag("f")
            assert client.check_flag("f")
        assert len(server.requests) == 1
    assert "get is broken" in caplog.text
    assert "set is broken" in caplog.text


class WitnessCache(LocalCache):
    """A cache that records the threads that it is called on."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[threading.Thread] = set()

    def get(self, key):
        self.threads.add(threading.current_thread())
        return super().get(key)

    def set(self, key, val, ttl_override=None):
        self.threads.add(threading.current_thread())
        super().set(key, val, ttl_override)


ALL = data(flag="f", value=True, flags=[{"flag": "f", "value": True}, {"flag": "G", "value": True}])


def test_a_users_cache_is_called_on_the_callers_thread():
    cache = WitnessCache()
    with HttpServer(otherwise=Answer(body=ALL)) as server:
        with Schematic(API_KEY, at(server.url, cache_providers=[cache])) as client:
            client.check_flag("f")
            client.check("f", {"id": "a"})
            client.check_flags(["f"], {"id": "b"})
            for company in (None, {"id": "a"}, {"id": "b"}):
                client.check_flag("f", company)
        assert len(server.requests) == 3
    assert cache.threads == {threading.current_thread()}


def test_answers_of_a_check_of_several_flags_are_cached_too():
    with (
        HttpServer(otherwise=Answer(body=ALL)) as server,
        Schematic(API_KEY, at(server.url)) as client,
    ):
        for keys in (["f", "g"], ["G"], ["f"]):
            answers = client.check_flags(keys, ACME)
            assert [answer.value for answer in answers] == [True] * len(keys)
        assert client.check_flag("g", ACME)
        assert len(server.requests) == 1
        # If one flag is not cached, all of them are requested.
        assert [answer.value for answer in client.check_flags(["f", "h"], ACME)] == [True, False]
        client.check_flags(["f", "g"], {"id": "other"})
        assert len(server.requests) == 3
        # Only the API knows which flags there are.
        client.check_flags(None, ACME)
        assert len(server.requests) == 4


def test_an_empty_list_of_flag_keys_means_all_flags(emulator):
    for fields in (plain(emulator), streaming(emulator)):
        with make(fields) as client:
            assert len(client.check_flags([], ACME)) == len(client.check_flags(None, ACME)) == 3


def test_requests_go_through_the_users_own_synchronous_httpx_client():
    answer = data(flag="f", value=True, reason="ok")
    with HttpServer(otherwise=Answer(body=answer)) as server, httpx.Client(trust_env=False) as own:
        with Schematic(API_KEY, at(server.url, httpx_client=own)) as client:
            assert client.check_flag("f")
        assert not own.is_closed


def test_a_hold_without_an_event_to_settle_it_is_released_at_once():
    hold = {
        "id": "r1",
        "company_id": "co",
        "credit_type_id": "ct",
        "credits_reserved": 2,
        "quantity_reserved": 1,
        "consumption_rate": 2,
        "expires_at": "2030-01-01T00:00:00Z",
    }
    answer = Answer(body=data(flag="f", value=True, reason="ok", reservation=hold))
    with HttpServer(otherwise=answer) as server:
        config = at(
            server.url, credit_leases=CreditLeaseConfig(mode="server", default_reservation_ttl=4000)
        )
        with Schematic(API_KEY, config) as client:
            closed = client.check("f", ACME, usage=1)
            opened = client.check("f", ACME, usage=1, on_acquire_failure="fail-open")
            eventually(lambda: len(server.requests) == 4)
        releases = [r.path for r in server.requests if r.path.endswith("/release")]
        asked = [r.body for r in server.requests if r.path.endswith("check-and-reserve")]
    assert releases == ["/billing/credits/reservations/r1/release"] * 2
    assert (closed.allowed, closed.reason) == (False, "missing_event_subtype")
    assert (opened.allowed, opened.reservation, opened.error) == (
        True,
        None,
        "missing_event_subtype",
    )
    expires_at = datetime.fromisoformat(asked[0]["expires_at"].replace("Z", "+00:00")).timestamp()
    assert 3500 < expires_at - time.time() <= 3540
    assert asked[0]["quantity"] == 1
    assert asked[0]["preflight"] == {"usage": 1}


def test_offline_does_no_io_and_answers_the_defaults():
    threads = threading.active_count()
    config = SchematicConfig(
        offline=True, flag_defaults={"On": True}, credit_leases=CreditLeaseConfig()
    )
    with Schematic(API_KEY, config) as client:
        assert client.check_flag("ON") is True
        assert client.check_flag("off") is False
        client.set_flag_default("off", True)
        client.set_flag_defaults({"Third": True})
        assert [client.check_flag(key) for key in ("OFF", "third")] == [True, True]
        result = client.check("on", ACME, usage=5)
        assert (result.allowed, result.reservation) == (True, None)
        assert {answer.flag: answer.value for answer in client.check_flags()} == {
            "On": True,
            "off": True,
            "Third": True,
        }
        client.track("e")
        client.identify({"id": "a"})
        client.prewarm(ACME, [CREDIT])
        assert threading.active_count() == threads
        assert client.status().queued_events == 0


def test_a_default_function_is_called_on_the_callers_thread(dead_url):
    seen = []

    def default() -> bool:
        seen.append(threading.current_thread())
        return True

    with Schematic(API_KEY, at(dead_url, timeout=0.3)) as client:
        assert client.check_flag("f", None, None, CheckFlagOptions(default_value=default))
        assert client.check("f", default_value=default).allowed
    assert seen == [threading.current_thread()] * 2


def test_keys_that_match_two_companies_answer_the_default_as_a_conflict(emulator):
    with make(streaming(emulator)) as client:
        client.check_flag(INFERENCE, ACME)
        emulator.set_company(
            {"id": "comp_two", "account_id": "a", "environment_id": "e", "keys": {"slug": "two"}}
        )
        client.check_flag(INFERENCE, {"slug": "two"})
        both = {"id": "acme", "slug": "two"}
        answer = client.check_flag_with_entitlement(
            INFERENCE, both, None, CheckFlagOptions(default_value=True)
        )
        assert (answer.value, answer.reason) == (True, "key conflict")


def test_a_client_that_was_never_used_leaves_nothing_behind(emulator):
    threads = threading.active_count()
    client = make(streaming(emulator))
    client.shutdown()
    del client
    gc.collect()
    assert threading.active_count() == threads
    assert os.getpid()


# Holds on the server that could not be requested


def fields_of(emulator: Emulator, mode: str) -> dict[str, object]:
    return plain(emulator, credit_leases=CreditLeaseConfig(mode=mode))


def assert_failed_on_the_server(client: Schematic) -> None:
    closed = client.check(INFERENCE, ACME, usage=1, default_value=True, timeout=0.05)
    asked = {"usage": 1, "on_acquire_failure": "fail-open", "timeout": 0.05}
    opened = client.check(INFERENCE, ACME, **asked, default_value=True)
    denied = client.check(INFERENCE, ACME, **asked, default_value=False)
    assert (closed.allowed, closed.reason) == (False, "server_reservation_failed")
    assert [opened.allowed, denied.allowed] == [True, False]
    for result in (opened, denied):
        assert result.reason == "server_reservation_failed_fail_open"
        assert (result.error, result.reservation) == ("server_reservation_failed", None)


@pytest.mark.parametrize("mode", ["server", "auto"])
def test_after_a_shutdown_a_server_hold_fails_and_fail_open_returns_the_default(emulator, mode):
    client = make(fields_of(emulator, mode))
    client.check_flag(INFERENCE, ACME)
    client.shutdown()
    assert_failed_on_the_server(client)


@pytest.mark.parametrize("mode", ["server", "auto"])
def test_when_the_io_thread_is_late_a_server_hold_fails(emulator, mode):
    over = threading.Event()
    with make(fields_of(emulator, mode)) as client:
        client.check_flag(INFERENCE, ACME)
        client._session.thread._loop.call_soon_threadsafe(over.wait)
        assert_failed_on_the_server(client)
        over.set()


async def test_after_an_asynchronous_shutdown_a_server_hold_fails(emulator):
    fields = fields_of(emulator, "server")
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
        pass
    asked = {"usage": 1, "on_acquire_failure": "fail-open", "default_value": False}
    result = await client.check(INFERENCE, ACME, **asked)
    assert (result.allowed, result.error) == (False, "server_reservation_failed")
