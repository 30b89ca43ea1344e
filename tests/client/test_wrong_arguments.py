"""How the synchronous client refuses wrong arguments of each of its methods."""

from __future__ import annotations

import pytest

from schematic_native import CheckFlagOptions, CheckOptions, IdentifyOptions, TrackOptions
from schematic_native.emulator import Emulator
from tests.client.sync_clients import CREDIT, INFERENCE, make, posted
from tests.conftest import ACME, streaming


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
