"""The synchronous client on the emulated service, from the check to the bill."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from schematic_native import (
    CheckFlagOptions,
    CheckOptions,
    CreditLeaseConfig,
    EventBodyIdentifyCompany,
    EventQuantities,
    EventUsage,
    IdentifyOptions,
    TrackOptions,
    TrackWithReservationOptions,
)
from tests.client.sync_clients import CREDIT, INFERENCE, make, posted
from tests.conftest import ACME, eventually, plain, streaming


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
