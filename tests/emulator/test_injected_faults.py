"""Injected faults: what each kind does to a request, and which requests it meets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from schematic_native.emulator import EmulatorError
from schematic_native.emulator.injected_faults import Fault
from tests.emulator.endpoints.test_datastream import Stream

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator
    from tests.emulator.conftest import Wire


def test_a_refused_connection_is_refused_by_the_system(wire: Wire, emulator: Emulator) -> None:
    wire.track(1)
    # A new connection: whether one that was open is cut before it is used again is a matter of luck.
    with emulator.fail("refuse"), pytest.raises(httpx.ConnectError, match="refused"):
        httpx.get(emulator.base_url, trust_env=False)
    wire.track(1)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 2}}


def test_an_open_socket_is_cut_when_connections_are_refused(emulator: Emulator) -> None:
    stream = Stream(emulator)
    with stream.socket, emulator.fail("refuse"):
        with pytest.raises(ConnectionClosed):
            stream.next()
        with pytest.raises(OSError, match="refused"):
            Stream(emulator)
    again = Stream(emulator)
    with again.socket:
        assert again.follow("few")["id"] == "comp_few"


@pytest.mark.parametrize("status", [402, 500, 503, 429])
def test_a_status_is_answered_and_nothing_moves(wire: Wire, status: int) -> None:
    wire.emulator.fail("status", on="acquire", times=2, status=status, retry_after=1.5)
    for _ in range(2):
        answer = wire.acquire(10)
        assert (answer.status_code, answer.headers["retry-after"]) == (status, "1.5")
        assert set(answer.json()) == {"error"}
    assert wire.balance() == 1_000_000_000
    assert wire.acquire(10).status_code == 200


@pytest.mark.parametrize("place", ["acquire", "extend", "release", "check", "capture"])
def test_a_fault_meets_only_the_place_that_it_names(wire: Wire, place: str) -> None:
    lease = wire.lease(10)
    wire.emulator.fail("status", on=place, status=500)
    statuses = {
        "extend": wire.extend(lease, 1).status_code,
        "release": wire.release(lease).status_code,
        "acquire": wire.acquire(10).status_code,
        "check": wire.check("beta").status_code,
        "capture": wire.batch(wire.event()).status_code,
    }
    assert [name for name, status in statuses.items() if status == 500] == [place]


def test_a_cut_answer_hides_a_ledger_that_moved(wire: Wire) -> None:
    fault = wire.emulator.fail("cut", on="acquire", times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        wire.acquire(40, "comp_few")
    assert (fault.fired, wire.balance("comp_few")) == (1, 10)
    lease = wire.lease(40, "comp_few")
    assert wire.emulator.state()["leases"][lease]["granted"] == 40
    assert wire.balance("comp_few") == 10


def test_a_cut_batch_is_billed_once_however_often_it_is_sent(wire: Wire) -> None:
    wire.emulator.fail("cut", on="capture", times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        wire.track(5, "key")
    wire.track(5, "key")
    assert wire.emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 5}}


def test_a_dropped_request_moves_nothing(wire: Wire) -> None:
    wire.emulator.fail("drop", on="acquire", times=1)
    # The connection ends, or is reset if the server had not read all of the request.
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        wire.acquire(40)
    assert wire.balance() == 1_000_000_000


def test_a_frozen_request_is_never_answered(wire: Wire) -> None:
    wire.emulator.fail("freeze", on="check")
    with pytest.raises(httpx.ReadTimeout):
        wire.http.post("/flags/beta/check", json={}, timeout=0.2)
    wire.emulator.heal()
    assert wire.check("beta").status_code == 200


def test_a_delay_holds_an_answer_back(wire: Wire) -> None:
    wire.emulator.fail("delay", on="check", times=1, seconds=30)
    with pytest.raises(httpx.ReadTimeout):
        wire.http.post("/flags/beta/check", json={}, timeout=0.2)
    wire.emulator.fail("delay", on="check", times=1, seconds=0.01)
    assert wire.check("beta").status_code == 200


def test_a_delay_and_a_status_add_up(wire: Wire) -> None:
    slow = wire.emulator.fail("delay", on="check", seconds=0.01)
    wire.emulator.fail("status", on="check", status=500)
    assert wire.check("beta").status_code == 500
    assert slow.fired == 1


def test_a_cleared_fault_leaves_the_others(wire: Wire) -> None:
    first = wire.emulator.fail("status", on="check", status=500)
    wire.emulator.fail("status", on="check", status=502)
    assert wire.check("beta").status_code == 500
    first.clear()
    assert wire.check("beta").status_code == 502
    wire.emulator.heal()
    assert wire.check("beta").status_code == 200


def test_a_handshake_can_be_refused(emulator: Emulator) -> None:
    emulator.fail("status", on="datastream", times=1, status=503)
    with pytest.raises(InvalidHandshake):
        Stream(emulator)
    emulator.fail("drop", on="datastream", times=1)
    with pytest.raises((InvalidHandshake, OSError, EOFError)):
        Stream(emulator)
    stream = Stream(emulator)
    with stream.socket:
        assert stream.follow("few")["id"] == "comp_few"


def test_a_drop_cuts_the_sockets_that_are_open(emulator: Emulator) -> None:
    stream = Stream(emulator)
    with stream.socket:
        stream.follow("few")
        emulator.fail("drop", on="datastream", times=1)
        with pytest.raises(ConnectionClosed):
            stream.next()


def test_a_frozen_socket_stays_open_and_silent(emulator: Emulator) -> None:
    emulator.fail("freeze", on="datastream", times=1)
    stream = Stream(emulator)
    with stream.socket:
        stream.ask("rulesengine.Flags")
        with pytest.raises(TimeoutError):
            stream.next(timeout=0.2)
        emulator.heal()
        with pytest.raises(ConnectionClosed):
            stream.next()


def test_a_seeded_fault_strikes_the_same_requests_each_time() -> None:
    runs = []
    for _ in range(2):
        fault = Fault(1, "drop", probability=0.5, seed=7)
        runs.append([fault.fires("check") for _ in range(64)])
    assert runs[0] == runs[1]
    assert 10 < sum(runs[0]) < 54


def test_the_admin_api_is_never_struck(wire: Wire) -> None:
    wire.emulator.fail("status", on="any", status=500)
    assert wire.emulator.state()["events"] == 0
    assert wire.check("beta").status_code == 500


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kind": "explode"}, "kind"),
        ({"kind": "drop", "on": "lunch"}, "on"),
        ({"kind": "drop", "times": 0}, "times"),
        ({"kind": "refuse", "times": 1}, "times"),
        ({"kind": "drop", "probability": 2}, "probability"),
        ({"kind": "status", "status": 200}, "status"),
        ({"kind": "delay", "seconds": -1}, "seconds"),
        ({"kind": "status", "retry_after": -1}, "retry_after"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_name(
    emulator: Emulator, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(EmulatorError, match=f"{named}: expected"):
        emulator.fail(**arguments)
    assert emulator.faults() == []
