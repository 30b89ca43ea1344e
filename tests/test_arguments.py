"""What callers pass in: read by one rule, whichever client and whatever is in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from schematic_native import CheckOptions
from tests.callers import Caller, both_clients
from tests.conftest import ACME, plain, streaming

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator

INFERENCE, CREDIT = "inference", "credit_inference"

warm_or_cold = pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])


def caller(kind: str, emulator: Emulator, *, warm: bool = True, **fields: object) -> Caller:
    """A client that has, or has not yet, a flag, a company and a lease in memory."""
    person = Caller(kind, streaming(emulator, **fields))
    if warm:
        assert person.do("check", INFERENCE, ACME, usage=1).reservation is not None
    return person


@both_clients
@warm_or_cold
@pytest.mark.parametrize("by_options", [True, False])
def test_an_empty_event_subtype_is_none_so_the_entitlements_event_is_billed(
    emulator, kind, warm, by_options
):
    said = {"usage": 3, "event_subtype": ""}
    with caller(kind, emulator, warm=warm) as person:
        if by_options:
            result = person.do("check", INFERENCE, ACME, None, CheckOptions(**said))
        else:
            result = person.do("check", INFERENCE, ACME, **said)
        assert result.reservation is not None
        assert result.reservation.event_subtype == "inference_tokens"
        person.do("track_with_reservation", result.reservation, 3)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 3}}


@both_clients
@pytest.mark.parametrize("state", ["offline", "shut down", "online"])
@pytest.mark.parametrize(
    ("method", "arguments", "names"),
    [
        ("track", (5,), "event"),
        ("track", ("e", "acme"), "company"),
        ("track", ("e", None, {"id": 5}), "user"),
        ("track", ("e", None, None, 5), "traits"),
        ("track", ("e", None, None, {"a": object()}), "traits"),
        ("identify", (5,), "keys"),
        ("identify", (None,), "keys"),
        ("identify", ({"id": "ada"}, None, 5), "name"),
        ("identify", ({"id": "ada"}, None, None, 5), "traits"),
    ],
)
def test_an_event_is_checked_before_it_is_dropped(emulator, kind, state, method, arguments, names):
    with Caller(kind, plain(emulator, offline=state == "offline")) as person:
        if state == "shut down":
            person.do("shutdown")
        with pytest.raises(TypeError, match=names):
            person.do(method, *arguments)
        assert person.client.status().queued_events == 0
