"""`Emulator` itself: processes, threads, kills, restarts and the journal."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from schematic_native.emulator import Emulator, EmulatorError, SeedError
from tests.emulator.conftest import Wire
from tests.emulator.endpoints.test_datastream import Stream
from tests.forks import in_fork
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_process_starts_answers_and_ends() -> None:
    with Emulator() as emulator:
        pid = emulator.pid
        assert pid is not None
        assert pid != os.getpid()
        client = Wire(emulator)
        with client.http:
            client.track(3)
        assert emulator.state()["events"] == 1
        port = emulator.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(EmulatorError, match="not running"):
        emulator.state()


def test_two_emulators_run_side_by_side() -> None:
    with Emulator(process=False) as one, Emulator(process=False) as two:
        assert one.port != two.port
        one.advance(100)
        assert one.state()["now"] - two.state()["now"] > 90


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for process in (True, False):
            with pytest.raises(EmulatorError, match="in use"):
                Emulator(port=port, process=process).start()


def test_a_bad_seed_is_told_before_anything_starts() -> None:
    with pytest.raises(SeedError, match="api_key"):
        Emulator(seed={})


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com"])  # noqa: S104
def test_only_loopback_hosts_are_allowed_unless_told_otherwise(host: str) -> None:
    with pytest.raises(ValueError, match="allow_remote"):
        Emulator(host=host)


def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, signal\n"
        "from schematic_native.emulator import Emulator\n"
        "emulator = Emulator().start()\n"
        "print(emulator.pid, emulator.port, flush=True)\n"
        "signal.pause()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        _pid, port = map(int, parent.stdout.readline().split())
        with socket.create_connection(("127.0.0.1", port)) as connection:
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            connection.settimeout(60)
            try:
                assert connection.recv(1) == b""  # The child has gone, and its sockets with it.
            except ConnectionResetError:
                return


@pytest.mark.parametrize("process", [True, False])
def test_a_restart_without_state_starts_from_the_seed_on_the_same_port(process: bool) -> None:
    with Emulator(port=free_port(), process=process) as emulator:
        client = Wire(emulator)
        with client.http:
            client.lease(40)
            emulator.restart()
            assert client.balance() == 1_000_000_000
            client.lease(40)


def test_a_kill_and_a_restart_keep_every_credit() -> None:
    with Emulator(port=free_port(), journal=True) as emulator:
        client = Wire(emulator)
        with client.http:
            lease = client.lease(1000)
            client.extend(lease, 500, idempotency_key="extend")
            short = client.lease(30, "comp_few", seconds=20)
            reservation = client.reserve(5).json()["data"]["reservation"]["id"]
            client.track(7, "a", lease_id=lease)
            client.track(5, "b", company={"id": "few"}, lease_id=short)
            emulator.advance(25)
            client.track(2, "c", reservation_id=reservation)
            emulator.set_balance("comp_none", "credit_inference", 12.5)
            before, events = emulator.state(), emulator.events()
            emulator.kill()
            with pytest.raises(httpx.ConnectError):
                client.check("beta")
            emulator.restart(keep_state=True)
            after = emulator.state()
            not_kept = {"now": 0, "requests": {}}
            assert {**after, **not_kept} == {**before, **not_kept}
            assert 0 <= after["now"] - before["now"] < 30
            assert emulator.events() == events
            assert emulator.audit()["balanced"]
            # What was answered before is answered the same, and billed no second time.
            assert (
                client.extend(lease, 500, idempotency_key="extend").json()["data"]["granted_amount"]
                == 1500
            )
            assert client.reserve(5).json()["data"]["reservation"]["id"] == reservation
            client.track(7, "a", lease_id=lease)
            assert emulator.state()["billed"] == before["billed"]
            assert emulator.state()["leases"][lease]["tracked"] == 14


def test_a_half_written_line_of_a_killed_process_is_cut_off(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with Emulator(process=False, journal=journal) as emulator:
        client = Wire(emulator)
        with client.http:
            client.track(3)
    with journal.open("ab") as file:
        file.write(b'{"do":"capture","at":1,"bo')
    for _ in range(2):
        with Emulator(process=False, journal=journal) as emulator:
            assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 3}}


def test_a_batch_with_line_breaks_survives_the_journal(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with Emulator(process=False, journal=journal) as emulator:
        client = Wire(emulator)
        with client.http:
            body = json.dumps({"events": [client.event(3)]}, indent=1)
            assert client.http.post("/batch", content=body).status_code == 200
    with Emulator(process=False, journal=journal) as emulator:
        assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 3}}


def test_a_refused_command_replays_as_refused(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with Emulator(process=False, journal=journal) as emulator:
        client = Wire(emulator)
        with client.http:
            assert client.acquire(51, "comp_few").status_code == 402
            client.lease(50, "comp_few")
        before = emulator.state()["leases"]
    with Emulator(process=False, journal=journal) as emulator:
        assert emulator.state()["leases"] == before


@pytest.mark.parametrize("content", [b"hello\n", b"[1]\n", b'{"format": 9}\n'])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "notes"
    file.write_bytes(content)
    with pytest.raises(EmulatorError, match="not a journal"):
        Emulator(journal=file).start()
    assert file.read_bytes() == content


def test_a_journal_of_another_seed_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with Emulator(seed={"api_key": "a"}, process=False, journal=journal):
        pass
    with pytest.raises(EmulatorError, match="another seed"):
        Emulator(seed={"api_key": "b"}, process=False, journal=journal).start()


def test_two_emulators_never_share_a_journal(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with Emulator(process=False, journal=journal), pytest.raises(EmulatorError, match="in use"):
        Emulator(journal=journal).start()


def test_a_restarted_emulator_pushes_what_moves(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    for _ in range(2):
        with Emulator(process=False, journal=journal) as emulator:
            client, stream = Wire(emulator), Stream(emulator)
            with client.http, stream.socket:
                stream.follow("acme")
                client.track(1)
                assert "credit_balances" in stream.next()["data"]


def test_state_is_kept_only_with_a_journal() -> None:
    with Emulator(process=False) as emulator, pytest.raises(EmulatorError, match="journal"):
        emulator.restart(keep_state=True)


def test_a_thread_is_not_killed() -> None:
    with Emulator(process=False) as emulator, pytest.raises(EmulatorError, match="process"):
        emulator.kill()


def test_a_frozen_clock_stands_until_advanced() -> None:
    with Emulator(process=False) as emulator:
        assert emulator.freeze_clock(4e9) == 4e9
        assert emulator.state()["now"] == 4e9
        assert emulator.advance(1.5) == 4e9 + 1.5
        assert emulator.resume_clock() >= 4e9 + 1.5


@pytest.mark.parametrize("seconds", [-1, "long", None])
def test_a_clock_only_advances(seconds: object) -> None:
    with Emulator(process=False) as emulator, pytest.raises(EmulatorError, match="seconds"):
        emulator.advance(seconds)  # type: ignore[arg-type]


def test_a_bad_entity_is_refused_by_its_field() -> None:
    with Emulator(process=False) as emulator:
        with pytest.raises(EmulatorError, match=r"company\.account_id: missing"):
            emulator.set_company({"id": "comp_x"})
        with pytest.raises(EmulatorError, match="company not found: comp_x"):
            emulator.delete_company("comp_x")
        with pytest.raises(EmulatorError, match="company not found: comp_x"):
            emulator.set_balance("comp_x", "credit_inference", 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.advance(10**400), "seconds must be a finite number"),
        (lambda e: e.advance(1e308), "seconds must not move the clock beyond the year 9998"),
        (lambda e: e.freeze_clock(10**400), "freeze must be a finite number"),
        (lambda e: e.freeze_clock(1e300), "freeze must not move the clock beyond the year 9998"),
        (lambda e: e.set_balance("comp_acme", "credit_inference", 10**400), "amount must be a"),
        (lambda e: e.delete_company(""), "company_id must be a str that is not empty"),
        (lambda e: e.delete_flag(""), "flag_id must be a str that is not empty"),
        (lambda e: e.delete_user(5), "user_id must be a str that is not empty"),
        (lambda e: e.delete_company("a/b?c"), r"company not found: a/b\?c"),
    ],
)
def test_what_cannot_be_done_is_said_and_the_emulator_goes_on(
    call: Callable[[Emulator], object], message: str
) -> None:
    with Emulator(process=False) as emulator:
        before = emulator.state()["now"]
        with pytest.raises(EmulatorError, match=message):
            call(emulator)
        assert emulator.state()["now"] - before < 3600


@pytest.mark.parametrize("port", [-1, 65536, 10**400])
def test_a_port_that_cannot_be_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="port must be from 0 to 65535"):
        Emulator(port=port)


@pytest.mark.parametrize("port", ["80", 1.5, True, None])
def test_a_port_that_is_no_number_is_refused(port: object) -> None:
    with pytest.raises(TypeError, match="port must be an int"):
        Emulator(port=port)  # type: ignore[arg-type]


def test_a_reset_forgets_everything_but_the_seed() -> None:
    with Emulator(process=False) as emulator:
        fresh = {**emulator.state(), "now": None, "requests": None}
        client = Wire(emulator)
        with client.http:
            client.lease(40)
            client.track(3, "key")
            client.reserve(5)
            client.http.get("/nothing")
        emulator.fail("delay", on="check")
        emulator.delete_flag("flag_beta")
        emulator.set_balance("comp_few", "credit_inference", 3)
        emulator.advance(10_000)
        emulator.reset()
        assert {**emulator.state(), "now": None, "requests": None} == fresh
        assert emulator.faults() == []
        assert emulator.events() == []
        assert emulator.audit()["balanced"]
        assert abs(emulator.state()["now"] - time.time()) < 5000
        with Wire(emulator).http as http:
            assert http.post("/flags/beta/check", json={}).status_code == 200


def test_a_reset_may_bring_another_seed_and_its_key() -> None:
    seed = {
        "api_key": "sch_other",
        "companies": [
            {"id": "c", "account_id": "a", "environment_id": "e", "credit_balances": {"coins": 5}}
        ],
    }
    with Emulator(process=False) as emulator:
        emulator.reset(seed)
        assert emulator.api_key == "sch_other"
        assert set(emulator.state()["companies"]) == {"c"}
        emulator.set_balance("c", "coins", 1)
        emulator.reset()
        assert emulator.state()["companies"]["c"]["balances"] == {"coins": 5}
        with pytest.raises(SeedError, match="flags"):
            emulator.reset({"api_key": "x", "flags": 3})
        assert emulator.api_key == "sch_other"


def test_a_reset_is_journaled_with_its_seed() -> None:
    with Emulator(port=free_port(), journal=True) as emulator:
        emulator.set_balance("comp_few", "credit_inference", 3)
        emulator.reset()
        emulator.set_balance("comp_none", "credit_inference", 7)
        emulator.kill()
        emulator.restart(keep_state=True)
        companies = emulator.state()["companies"]
        assert companies["comp_few"]["balances"] == {"credit_inference": 50}
        assert companies["comp_none"]["balances"] == {"credit_inference": 7}
        emulator.reset({"api_key": "sch_other", "users": []})
        emulator.kill()
        emulator.restart(keep_state=True)
        assert emulator.state()["companies"] == {}
        emulator.restart()
        assert emulator.state()["companies"] == {}
        assert emulator.api_key == "sch_other"


def test_a_reset_of_the_clock_is_journaled() -> None:
    with Emulator(port=free_port(), journal=True) as emulator:
        emulator.advance(1_000_000)
        emulator.reset()
        before = emulator.state()["now"]
        emulator.kill()
        emulator.restart(keep_state=True)
        assert emulator.state()["now"] - before < 500_000


def test_clients_are_sent_what_a_reset_has_changed(emulator: Emulator) -> None:
    stream = Stream(emulator)
    with stream.socket:
        stream.ask("rulesengine.Flags")
        flags = stream.next()["data"]
        stream.follow("acme")
        stream.ask("rulesengine.User", {"id": "ada"})
        [user] = [stream.next()["data"]]
        emulator.delete_flag("flag_beta")
        assert stream.next()["message_type"] == "delete"
        emulator.reset({"api_key": emulator.api_key, "flags": flags, "users": [user]})
        received = {
            message["entity_type"]: message for message in (stream.next() for _ in range(3))
        }
    assert {name: message["message_type"] for name, message in received.items()} == {
        "rulesengine.Flags": "full",
        "rulesengine.Company": "delete",
        "rulesengine.User": "full",
    }
    assert received["rulesengine.Flags"]["data"] == flags


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_talk_into_its_parents_connection() -> None:
    with Emulator() as emulator:
        emulator.state()
        assert in_fork(lambda: emulator.audit()["balanced"]) is True
        assert emulator.audit()["balanced"]
