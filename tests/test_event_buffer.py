"""`client.event_buffer`: programs push to it, flush it, and replace its `push` in their tests."""

from __future__ import annotations

import gc
import weakref
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock, patch

import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    IdentifyOptions,
    Schematic,
    SchematicConfig,
    TrackOptions,
)
from tests.callers import Caller, both_clients
from tests.conftest import ACME, plain, streaming

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator

ADA = {"id": "ada"}
SENT_AT = datetime(2026, 5, 21, 12, tzinfo=timezone.utc)


def call(person: Caller, method: str, *arguments: object) -> None:
    """Call a method of the event buffer, awaited by the asynchronous client."""
    called = getattr(person.client.event_buffer, method)(*arguments)
    if called is not None:
        person.wait(called)


def track_event(**fields: Any) -> SimpleNamespace:
    body = {"event": "pushed", "company": ACME, "user": None, "traits": None, "quantity": 2}
    return SimpleNamespace(event_type="track", body=SimpleNamespace(**{**body, **fields}))


@both_clients
def test_what_is_pushed_is_sent(emulator: Emulator, kind: str) -> None:
    types = pytest.importorskip("schematic.types")
    with Caller(kind, plain(emulator, event_buffer_period=60.0)) as person:
        track = types.EventBodyTrack(event="pushed", company=ACME, user=ADA, quantity=3)
        call(
            person,
            "push",
            types.CreateEventRequestBody(
                event_type="track", body=track, idempotency_key="once", sent_at=SENT_AT
            ),
        )
        company = types.EventBodyIdentifyCompany(keys=ACME, name="Acme")
        identify = types.EventBodyIdentify(keys=ADA, company=company, traits={"age": 7})
        call(person, "push", types.CreateEventRequestBody(event_type="identify", body=identify))
        call(person, "push", track_event())
        call(person, "flush")
        # Two requests may arrive in either order.
        identified, first, other = sorted(
            emulator.events(), key=lambda each: (each["type"], "user" not in each["body"])
        )
    assert first["body"] == {"event": "pushed", "company": ACME, "user": ADA, "quantity": 3}
    assert first["idempotency_key"] == "once"
    assert datetime.fromisoformat(first["sent_at"].replace("Z", "+00:00")) == SENT_AT
    assert identified["body"] == {
        "keys": ADA, "company": {"keys": ACME, "name": "Acme"}, "traits": {"age": 7},
    }  # fmt: skip
    assert other["body"] == {"event": "pushed", "company": ACME, "quantity": 2}


@both_clients
def test_flush_and_stop_deliver_what_is_queued_and_the_client_goes_on(
    emulator: Emulator, kind: str
) -> None:
    with Caller(kind, plain(emulator, event_buffer_period=60.0)) as person:
        call(person, "flush")  # there is nothing
        for number, method in enumerate(("flush", "stop", "flush"), 1):
            person.do("track", "opened", ACME)
            call(person, method)
            assert len(emulator.events()) == number
        person.do("shutdown")
        call(person, "flush")
    assert len(emulator.events()) == 3


@both_clients
def test_a_test_that_replaces_push_receives_the_events(emulator: Emulator, kind: str) -> None:
    with Caller(kind, plain(emulator)) as person:
        with patch.object(person.client.event_buffer, "push") as push:
            options = TrackOptions(idempotency_key="key", sent_at=SENT_AT, backfill=True)
            person.do("track", "opened", ACME, ADA, {"plan": ["pro"]}, 5, options)
            person.do("identify", ADA, {"keys": ACME, "name": "Acme"}, "Ada", {"age": 7},
                      IdentifyOptions(idempotency_key="who"))  # fmt: skip
        tracked, identified = (each.args[0] for each in push.call_args_list)
        person.do("track", "sent", ACME)
    assert (tracked.event_type, tracked.idempotency_key) == ("track", "key")
    assert (tracked.sent_at, tracked.backfill) == (SENT_AT, True)
    assert tracked.trusted_client_clock is None
    body = tracked.body
    assert (body.event, body.company, body.user, body.quantity) == ("opened", ACME, ADA, 5)
    assert body.traits == {"plan": ["pro"]}
    assert (identified.event_type, identified.idempotency_key) == ("identify", "who")
    assert (identified.body.keys, identified.body.name) == (ADA, "Ada")
    assert (identified.body.company.keys, identified.body.company.name) == (ACME, "Acme")
    assert identified.body.traits == {"age": 7}
    assert [each["body"]["event"] for each in emulator.events()] == ["sent"]


def test_without_the_published_package_the_events_have_the_same_attributes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("schematic_native.service.management.is_installed", lambda: False)
    client = Schematic("key", SchematicConfig())
    client.event_buffer.push = push = MagicMock()  # type: ignore[method-assign]
    client.track("opened", ACME)
    client.identify(ADA, {"keys": ACME}, options=IdentifyOptions(idempotency_key="who"))
    tracked, identified = (each.args[0] for each in push.call_args_list)
    assert isinstance(tracked, SimpleNamespace)
    assert (tracked.event_type, tracked.body.company, tracked.body.user) == ("track", ACME, None)
    assert (identified.idempotency_key, identified.sent_at) == ("who", None)
    assert (identified.body.keys, identified.body.company.keys) == (ADA, ACME)


@both_clients
def test_the_events_are_the_published_models_where_they_are_installed(kind: str) -> None:
    types = pytest.importorskip("schematic.types")
    with Caller(kind, {}) as person:
        person.client.event_buffer = buffer = MagicMock()
        person.do("track", "opened", ACME)
        assert person.client.event_buffer is buffer
        (event,) = buffer.push.call_args.args
    assert event == types.CreateEventRequestBody(
        event_type="track", body=types.EventBodyTrack(event="opened", company=ACME)
    )


@both_clients
def test_a_push_can_be_watched_and_still_send(emulator: Emulator, kind: str) -> None:
    with Caller(kind, plain(emulator)) as person:
        buffer = person.client.event_buffer
        with patch.object(buffer, "push", wraps=buffer.push) as push:
            person.do("track", "opened", ACME)
        push.assert_called_once()
    assert [each["body"]["event"] for each in emulator.events()] == ["opened"]


@both_clients
def test_a_replaced_push_that_fails_is_logged(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        Caller(kind, {}) as person,
        patch.object(person.client.event_buffer, "push", side_effect=OSError("full")),
    ):
        person.do("track", "opened", ACME)
    (said,) = caplog.records
    assert (said.levelname, said.getMessage()) == ("ERROR", "event_buffer.push: OSError: full")


@both_clients
def test_settles_and_flag_checks_do_not_pass_through_push(emulator: Emulator, kind: str) -> None:
    with Caller(kind, streaming(emulator)) as person:
        person.do("initialize")
        with patch.object(person.client.event_buffer, "push") as push:
            held = person.do("check", "inference", ACME, usage=5)
            person.do("track_with_reservation", held.reservation, 5)
        push.assert_not_called()
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 5}}
    assert emulator.audit()["balanced"]


@both_clients
def test_nothing_is_pushed_offline(kind: str) -> None:
    with Caller(kind, {"offline": True}) as person:
        call(person, "push", track_event())
        call(person, "flush")
        with patch.object(person.client.event_buffer, "push") as push:
            person.do("track", "opened", ACME)
        push.assert_not_called()


@both_clients
@pytest.mark.parametrize(
    ("event", "error", "said"),
    [
        (track_event(reservation_id="res_1"), ValueError, "track_with_reservation"),
        (track_event(lease_id="lease_1"), ValueError, "track_with_reservation"),
        (SimpleNamespace(event_type="flag_check", body=None), ValueError, "'flag_check'"),
        ({"event_type": "track"}, TypeError, "event_type and body"),
        (track_event(quantity=1.5), ValueError, "quantity"),
    ],
)
def test_what_cannot_be_pushed_is_refused(
    kind: str, event: Any, error: type[Exception], said: str
) -> None:
    with Caller(kind, {}) as person:
        with pytest.raises(error, match=said):
            call(person, "push", event)
        assert person.client.status().queued_events == 0


def test_an_object_without_push_is_no_event_buffer() -> None:
    client = Schematic("", SchematicConfig(offline=True))
    with pytest.raises(TypeError, match="event_buffer must have push"):
        client.event_buffer = object()  # type: ignore[assignment]


def test_an_unknown_attribute_says_what_there_is() -> None:
    client = Schematic("", SchematicConfig(offline=True))
    with pytest.raises(AttributeError, match=r"'events'.*client\.status\(\)"):
        _ = client.event_buffer.events  # type: ignore[attr-defined]


def test_it_does_not_keep_the_client_alive() -> None:
    client = Schematic("", SchematicConfig(offline=True))
    buffer, dropped = client.event_buffer, weakref.ref(client)
    gc.disable()
    try:
        del client
        assert dropped() is None
    finally:
        gc.enable()
    with pytest.raises(ReferenceError, match="gone"):
        buffer.push(track_event())


def test_a_buffer_that_outlives_its_client_can_be_stopped() -> None:
    buffer = Schematic("", SchematicConfig(offline=True)).event_buffer
    gc.collect()
    buffer.flush()
    buffer.stop()
    with pytest.raises(ReferenceError, match="gone"):
        buffer.push(track_event())


async def test_an_asynchronous_buffer_that_outlives_its_client_can_be_stopped() -> None:
    buffer = AsyncSchematic("", AsyncSchematicConfig(offline=True)).event_buffer
    gc.collect()
    await buffer.flush()
    await buffer.stop()
    with pytest.raises(ReferenceError, match="gone"):
        await buffer.push(track_event())


def test_it_is_the_same_object_each_time() -> None:
    client = Schematic("", SchematicConfig(offline=True))
    assert client.event_buffer is client.event_buffer


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("_enqueue_event", "client.event_buffer.push"),
        ("event_capture_client", "event_capture_url"),
        ("_datastream_client", "client.status()"),
        ("_lease_manager", "client.status()"),
        ("_companies", "client.companies"),
        ("_events", "client.events"),
    ],
)
def test_an_internal_attribute_of_the_published_client_says_what_to_use(
    name: str, said: str
) -> None:
    client = Schematic("", SchematicConfig(offline=True))
    with pytest.raises(AttributeError) as raised:
        getattr(client, name)
    assert f"'Schematic' object has no attribute {name!r}" in str(raised.value)
    assert said in str(raised.value)


def test_the_period_can_be_read() -> None:
    config = SchematicConfig(offline=True, event_buffer_period=0.5)
    assert Schematic("", config).event_buffer_period == 0.5
