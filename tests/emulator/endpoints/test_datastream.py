"""The DataStream of the emulator: what it sends, and when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from schematic_native.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.emulator.conftest import Wire

COMPANY, USER = "rulesengine.Company", "rulesengine.User"


class Stream:
    """A DataStream client by hand."""

    def __init__(self, emulator: Emulator, key: str | None = None) -> None:
        self.socket: ClientConnection = connect(
            emulator.base_url.replace("http", "ws") + "/datastream",
            additional_headers={"X-Schematic-Api-Key": key or emulator.api_key},
            proxy=None,
            open_timeout=60,
        )

    def ask(
        self, entity_type: str, keys: dict[str, str] | None = None, action: str = "start"
    ) -> None:
        data = {"action": action, "entity_type": entity_type}
        self.socket.send(json.dumps({"data": {**data, **({"keys": keys} if keys else {})}}))

    def next(self, timeout: float = 60) -> dict[str, Any]:
        return json.loads(self.socket.recv(timeout=timeout))

    def follow(self, company: str) -> dict[str, Any]:
        self.ask(COMPANY, {"id": company})
        return self.next()["data"]


@pytest.fixture
def stream(emulator: Emulator) -> Iterator[Stream]:
    """A connected client."""
    client = Stream(emulator)
    with client.socket:
        yield client


def test_the_flags_come_whole(stream: Stream) -> None:
    stream.ask("rulesengine.Flags")
    message = stream.next()
    assert (message["entity_type"], message["message_type"]) == ("rulesengine.Flags", "full")
    assert [flag["key"] for flag in message["data"]] == ["inference", "exports", "beta"]


def test_a_request_without_an_action_is_a_start(stream: Stream) -> None:
    stream.socket.send('{"data": {"entity_type": "rulesengine.Flags"}}')
    assert stream.next()["message_type"] == "full"


def test_a_company_comes_as_seeded_with_its_balance_of_now(stream: Stream, wire: Wire) -> None:
    wire.lease(40, "comp_few")
    stream.ask(COMPANY, {"ID": "FEW"})
    message = stream.next()
    assert (message["message_type"], message["entity_id"]) == ("full", "comp_few")
    company = message["data"]
    assert company["credit_balances"] == {"credit_inference": 10}
    assert company["entitlements"][0]["credit_remaining"] == 10
    assert company["plan_ids"] == ["plan_pro"]


def test_a_user_comes_by_any_of_its_keys(stream: Stream) -> None:
    stream.ask(USER, {"email": "ada@example.com"})
    message = stream.next()
    assert (message["entity_type"], message["entity_id"]) == (USER, "user_ada")


def test_unknown_keys_are_an_error_that_names_them(stream: Stream) -> None:
    stream.ask(COMPANY, {"id": "nobody"})
    message = stream.next()
    assert message["message_type"] == "error"
    assert message["data"]["keys"] == {"id": "nobody"}
    assert message["data"]["entity_type"] == COMPANY
    assert "not found" in message["data"]["error"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"data": 7}',
        '{"data": {"action": "sing", "entity_type": "rulesengine.Flags"}}',
        '{"data": {"action": "start", "entity_type": "rulesengine.Planet"}}',
        '{"data": {"action": "start", "entity_type": "rulesengine.User", "keys": {"id": 7}}}',
    ],
)
def test_a_bad_request_is_an_error_and_the_socket_lives(stream: Stream, text: str) -> None:
    stream.socket.send(text)
    assert stream.next()["message_type"] == "error"
    stream.ask("rulesengine.Flags")
    assert stream.next()["message_type"] == "full"


def test_a_wrong_api_key_is_401_at_the_handshake(emulator: Emulator) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        Stream(emulator, key="wrong")
    assert refusal.value.response.status_code == 401


def test_a_lease_moves_the_balance_of_followers(stream: Stream, wire: Wire) -> None:
    stream.follow("few")
    wire.lease(40, "comp_few")
    message = stream.next()
    assert (message["message_type"], message["entity_id"]) == ("partial", "comp_few")
    assert message["data"]["credit_balances"] == {"credit_inference": 10}
    assert message["data"]["credit_lease_balance"] == {
        "credit_inference": {"remaining": 10, "reserved": 40}
    }


def test_a_hot_loop_of_events_is_one_push(stream: Stream, wire: Wire) -> None:
    stream.follow("acme")
    wire.batch(*[wire.event(1)] * 100)
    data = stream.next()["data"]
    assert data["credit_balances"] == {"credit_inference": 1_000_000_000 - 200}
    assert [(m["event_subtype"], m["value"]) for m in data["metrics"]] == [
        ("inference_tokens", 100)
    ]
    # The next message is the answer to the next question: nothing else was pushed in between.
    stream.ask("rulesengine.Flags")
    assert stream.next()["entity_type"] == "rulesengine.Flags"


def test_an_expiry_is_pushed(stream: Stream, wire: Wire) -> None:
    wire.lease(40, "comp_few")
    stream.follow("few")
    wire.emulator.advance(301)
    assert stream.next()["data"]["credit_balances"] == {"credit_inference": 50}


def test_a_stopped_company_is_no_longer_pushed(stream: Stream, wire: Wire) -> None:
    stream.follow("few")
    stream.ask(COMPANY, {"id": "few"}, "stop")
    stream.follow("acme")
    wire.lease(40, "comp_few")
    wire.lease(40, "comp_acme")
    assert stream.next()["entity_id"] == "comp_acme"


def test_a_changed_entity_is_pushed_whole(stream: Stream, emulator: Emulator) -> None:
    company = stream.follow("few")
    emulator.set_company({**company, "plan_ids": ["plan_free"]})
    message = stream.next()
    assert (message["message_type"], message["data"]["plan_ids"]) == ("full", ["plan_free"])
    emulator.set_balance("comp_few", "credit_inference", 7.5)
    assert stream.next()["data"]["credit_balances"] == {"credit_inference": 7.5}
    emulator.delete_company("comp_few")
    assert (stream.next()["message_type"], emulator.state()["companies"]["comp_few"]["keys"]) == (
        "delete",
        {},
    )


def test_a_changed_flag_is_pushed_to_who_follows_flags(stream: Stream, emulator: Emulator) -> None:
    stream.ask("rulesengine.Flags")
    flag = stream.next()["data"][2]
    emulator.set_flag({**flag, "default_value": True})
    message = stream.next()
    assert (message["entity_type"], message["message_type"]) == ("rulesengine.Flag", "full")
    assert message["data"]["default_value"] is True
    emulator.delete_flag(flag["id"])
    assert (stream.next()["message_type"], message["entity_id"]) == ("delete", "flag_beta")


def test_an_identify_is_pushed_to_who_follows_the_user(stream: Stream, wire: Wire) -> None:
    stream.ask(USER, {"id": "grace"})
    stream.next()
    body = {"keys": {"id": "grace", "badge": "7"}, "traits": {"trait_beta": True}}
    wire.batch({"api_key": wire.emulator.api_key, "type": "identify", "body": body})
    message = stream.next()
    assert (message["message_type"], message["entity_id"]) == ("partial", "user_grace")
    assert message["data"]["keys"]["badge"] == "7"
    assert message["data"]["traits"][0]["value"] == "true"


def test_any_text_can_be_sent(stream: Stream, emulator: Emulator) -> None:
    stream.follow("few")
    assert emulator.send_raw("{not json") == 1
    assert stream.socket.recv(timeout=60) == "{not json"


def test_a_dropped_socket_breaks_without_a_goodbye(stream: Stream, emulator: Emulator) -> None:
    stream.follow("few")
    assert emulator.drop_sockets() == 1
    with pytest.raises(ConnectionClosed) as closed:
        stream.next()
    assert closed.value.rcvd is None


def test_a_binary_frame_ends_its_own_connection_only(stream: Stream, emulator: Emulator) -> None:
    other = Stream(emulator)
    with other.socket:
        other.socket.send(b"\x00")
        with pytest.raises(ConnectionClosed):
            other.next()
    assert stream.follow("few")["id"] == "comp_few"


def stop_while_a_client_is_connected(emulator: Emulator) -> None:
    emulator.start()
    client = Stream(emulator)
    with client.socket:
        client.ask("rulesengine.Flags")
        client.next()
        emulator.stop()


def test_an_emulator_that_stops_says_nothing_about_its_clients(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop_while_a_client_is_connected(Emulator(process=False))
    assert caplog.records == []


def test_an_emulator_in_its_own_process_is_as_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    stop_while_a_client_is_connected(Emulator())
    assert capfd.readouterr().err == ""
