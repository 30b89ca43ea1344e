"""What tracking through the provider sends and settles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("openfeature", reason="pip install --group test")

from openfeature.evaluation_context import EvaluationContext
from openfeature.track import TrackingEventDetails

from openfeature import api
from tests.conftest import eventually
from tests.openfeature.evaluations import NOBODY

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator
    from schematic_native.openfeature import SchematicProvider


def tracked(emulator: Emulator, provider: SchematicProvider, number: int = 1) -> Any:
    def of_programs() -> list[Any]:
        return [event for event in emulator.events() if event["type"] == "track"]

    eventually(lambda: len(of_programs()) >= number)
    return [event["body"] for event in of_programs()]


@pytest.mark.parametrize("name", ["", None])
def test_tracking_without_a_name_is_an_error(client, name, provider) -> None:
    with pytest.raises((TypeError, ValueError), match="tracking_event_name"):
        client.track(name)
    assert provider.client.status().queued_events == 0


@pytest.mark.parametrize(
    ("details", "quantity", "traits"),
    [
        (None, 1, None),
        (TrackingEventDetails(), 1, None),
        (TrackingEventDetails(2.1, {"page": "home"}), 3, {"page": "home"}),
        (TrackingEventDetails(7), 7, None),
        (TrackingEventDetails(0), 0, None),
    ],
)
def test_an_event_is_tracked_with_quantity_and_traits(
    client, provider, emulator: Emulator, details, quantity, traits
) -> None:
    client.track("the-event", EvaluationContext("u", {"company.id": "acme"}), details)
    api.shutdown()
    [body] = tracked(emulator, provider)
    assert body["event"] == "the-event"
    assert body["quantity"] == quantity
    assert body.get("traits") == traits
    assert (body["company"], body["user"]) == ({"id": "acme"}, {"id": "u"})


@pytest.mark.parametrize("form", ["object", "dict"])
def test_a_reservation_in_the_attributes_is_settled(
    client, provider, emulator: Emulator, form
) -> None:
    held = provider.client.check("inference", {"id": "acme"}, usage=100).reservation
    assert held is not None
    given = held if form == "object" else held.to_dict()
    details = TrackingEventDetails(41.5, {"reservation": given, "model": "small"})
    client.track("inference_tokens", NOBODY, details)
    assert provider.client.status().open_holds == 0
    api.shutdown()
    eventually(lambda: emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 42}})
    assert [body["traits"] for body in tracked(emulator, provider)] == [{"model": "small"}]
    assert emulator.audit()["balanced"]


@pytest.mark.parametrize(
    ("name", "value", "reservation"),
    [
        ("inference_tokens", None, "held"),  # without the quantity that was used
        ("another_event", 5, "held"),
        ("inference_tokens", 5, {"id": "res_1"}),
        ("inference_tokens", 5, "res_1"),
    ],
)
def test_an_invalid_settlement_settles_nothing(client, provider, name, value, reservation) -> None:
    held = provider.client.check("inference", {"id": "acme"}, usage=100).reservation
    attributes = {"reservation": held if reservation == "held" else reservation}
    with pytest.raises((TypeError, ValueError)):
        client.track(name, NOBODY, TrackingEventDetails(value, attributes))
    assert provider.client.status().open_holds == 1
    provider.client.track_with_reservation(held, 0)
