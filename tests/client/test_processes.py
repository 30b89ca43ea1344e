"""A forked child uses nothing of its parent, and any process may settle a reservation."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis

from schematic_native import (
    CreditLeaseConfig,
    LocalCache,
    LocalSlab,
    Reservation,
    Schematic,
    SchematicConfig,
)
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, streaming
from tests.forks import in_fork
from tests.leases.users import steady
from tests.limits import give_stores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from schematic_native.emulator import Emulator

__all__ = ["steady"]

INFERENCE = "inference"
# CPython warns about a fork in a process with threads, which is what these tests do.
forking = pytest.mark.filterwarnings("ignore:.*use of fork\\(\\):DeprecationWarning")


@pytest.fixture
def emulator(emulator_process: Emulator) -> Emulator:
    """An emulator in a process of its own, so that no forked child has a copy of its sockets."""
    return emulator_process


def make(emulator: Emulator, **fields: object) -> Schematic:
    return Schematic(API_KEY, SchematicConfig(**streaming(emulator, **fields)))


def tracks(emulator: Emulator) -> list[dict[str, Any]]:
    return [event for event in emulator.events() if event["type"] == "track"]


@forking
def test_a_child_starts_with_nothing_and_the_parent_continues(emulator):
    with make(emulator) as client:
        held = client.check(INFERENCE, ACME, usage=5)
        client.track("of the parent")

        def child() -> dict[str, object]:
            before = client.status()
            result = client.check(INFERENCE, ACME, usage=5)
            client.track_with_reservation(result.reservation, 5)
            client.shutdown()
            return {
                "before": [before.leases, before.open_holds, before.queued_events],
                "connected": before.connected,
                "reservation": result.reservation.id,
                "lease": result.reservation.lease_id,
            }

        told = in_fork(child)
        assert told["before"] == [0, 0, 0]
        assert told["connected"] is False
        assert told["reservation"] != held.reservation.id
        # The parent's socket still works: the child has neither written to it nor closed it.
        assert client.status().connected
        assert client.check(INFERENCE, ACME, usage=5).allowed
        client.track_with_reservation(held.reservation, 5)
    names = sorted(event["body"]["event"] for event in tracks(emulator))
    assert names == ["inference_tokens", "inference_tokens", "of the parent"]
    assert emulator.audit()["balanced"]


@forking
def test_a_hold_that_a_child_enters_is_settled_by_the_child(emulator):
    with make(emulator) as client:
        client.track_with_reservation(client.check(INFERENCE, ACME, usage=1).reservation, 1)
        hold = client.hold(INFERENCE, ACME, usage=5)

        def child() -> int:
            with hold:
                hold.use(3)
            left = client.status().open_holds
            client.shutdown()
            return left

        assert in_fork(child) == 0
    assert sorted(event["body"]["quantity"] for event in tracks(emulator)) == [1, 3]
    assert emulator.audit()["balanced"]


@forking
def test_a_child_and_its_parent_never_spend_the_same_credits(emulator):
    with make(emulator) as client:
        # The parent's lease is nearly used up, so a child that spent from it would overdraw it.
        held = client.check(INFERENCE, ACME, usage=4500)

        def child() -> bool:
            result = client.check(INFERENCE, ACME, usage=4500)
            client.track_with_reservation(result.reservation, 4500)
            client.shutdown()
            return result.allowed

        assert in_fork(child)
        client.track_with_reservation(held.reservation, 4500)
    state = emulator.state()
    assert state["anomalies"] == {}
    assert state["billed"] == {"comp_acme": {"inference_tokens": 9000}}


@forking
def test_a_child_that_exits_without_a_call_sends_no_event_of_its_parent(emulator):
    client = make(emulator, event_buffer_period=60.0)
    client.check(INFERENCE, ACME, usage=5)
    client.track("queued at the fork", {"id": "acme"})
    assert in_fork(lambda: client.status().queued_events) == 0
    assert tracks(emulator) == []
    assert [lease["status"] for lease in emulator.state()["leases"].values()] == ["active"]
    client.shutdown()
    assert [event["body"]["event"] for event in tracks(emulator)] == ["queued at the fork"]


@forking
def test_a_shutdown_in_the_child_leaves_the_parents_lease_and_socket_alone(emulator):
    with make(emulator) as client:
        client.check(INFERENCE, ACME, usage=5)
        assert in_fork(client.shutdown) is None
        assert client.status().connected
        assert [lease["status"] for lease in emulator.state()["leases"].values()] == ["active"]
        assert "release" not in emulator.state()["requests"]


@forking
def test_parent_and_child_give_their_events_different_keys(emulator):
    client = Schematic("sch_dev_emulator", SchematicConfig(**streaming(emulator)))
    client.track("pages", {"id": "acme"})

    def child() -> bool:
        client.track("pages", {"id": "acme"})
        client.shutdown()
        return True

    assert in_fork(child)
    client.track("pages", {"id": "acme"})
    client.shutdown()
    keys = [event["idempotency_key"] for event in tracks(emulator)]
    assert len(set(keys)) == len(keys) == 3


@forking
def test_a_cache_keeps_its_size_and_time_across_a_fork(emulator):
    cache = LocalCache(max_size=2, ttl=10)
    with make(emulator, cache_providers=[cache]) as client:
        answer = client.check_flag_with_entitlement(INFERENCE, ACME)

        def child() -> list[bool]:
            assert client.check_flag(INFERENCE, ACME)
            [own] = client._caches
            for key in ("a", "b", "c"):
                own.set(key, answer, ttl_override=60_000)
            own.set("c", answer)
            return [own is not cache, *(own.get(key) is not None for key in ("a", "b"))]

        assert in_fork(child) == [True, False, True]


@forking
def test_a_fork_while_other_threads_use_the_client_does_not_deadlock_the_child(emulator):
    with make(emulator) as client:
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                result = client.check(INFERENCE, ACME, usage=1)
                client.track_with_reservation(result.reservation, 1)
                over.wait(0.0005)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                assert in_fork(lambda: client.check(INFERENCE, ACME, usage=1).allowed)
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert emulator.audit()["balanced"]


# Sub-interpreters

IMPORT_TWICE = """
import sys

import schematic_native

try:
    import _interpreters

    failure = _interpreters.exec(_interpreters.create("legacy"), "import schematic_native")
    print("" if failure is None else failure.formatted)
except ImportError:
    import _xxsubinterpreters

    try:
        _xxsubinterpreters.run_string(_xxsubinterpreters.create(), "import schematic_native")
    except _xxsubinterpreters.RunFailedError as error:
        print(error)
"""


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="its own check comes first")
def test_a_second_interpreter_is_refused_in_words():
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_TWICE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=True)
    assert "ImportError" in done.stdout
    assert "schematic_native works in one interpreter of a process" in done.stdout
    assert done.stderr == ""


# multiprocessing


def settle_elsewhere(pipe: Connection, url: str) -> None:
    """Settle a reservation, received as a dictionary, in a process of any start method."""
    fields = {"base_url": url, "event_capture_url": url, "use_datastream": True}
    config = SchematicConfig(**fields, credit_leases=CreditLeaseConfig(mode="client"))
    with Schematic(API_KEY, config) as client:
        client.track_with_reservation(Reservation.from_dict(json.loads(pipe.recv())), 7)
    pipe.send("settled")


@forking
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_reservation_is_settled_in_another_process(emulator, method):
    context = multiprocessing.get_context(method)
    with make(emulator) as client:
        result = client.check(INFERENCE, ACME, usage=10)
        ours, theirs = context.Pipe()
        process = context.Process(
            target=settle_elsewhere, args=(theirs, emulator.base_url), daemon=True
        )
        process.start()
        ours.send(json.dumps(result.reservation.to_dict()))
        assert ours.poll(PATIENCE)
        assert ours.recv() == "settled"
        process.join(PATIENCE)
        assert process.exitcode == 0
        (event,) = tracks(emulator)
        assert event["idempotency_key"] == f"lease-reservation:{result.reservation.id}"
        assert event["body"]["lease_id"] == result.reservation.lease_id
        (lease,) = emulator.state()["leases"].values()
        assert (lease["tracked"], lease["status"]) == (14.0, "active")
        # The reservation is settled here as well, and still billed once.
        client.track_with_reservation(result.reservation, 7)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 7}}
    assert emulator.audit()["balanced"]


@forking
def test_forked_workers_bill_what_they_used(emulator):
    with make(emulator) as client:
        client.check(INFERENCE, ACME, usage=1)

        def child() -> int:
            units = use(client)
            client.shutdown()
            return units

        assert [in_fork(child) for _ in range(3)] == [50, 50, 50]
        use(client)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 200}}
    assert emulator.state()["anomalies"] == {}
    assert emulator.audit()["balanced"]


@forking
def test_what_a_forked_child_billed_of_its_parents_slab_is_not_served_again(
    emulator, redis_server, steady, monkeypatch
):
    give_stores(monkeypatch, PATIENCE)
    ttl = 60.0
    leases = CreditLeaseConfig(
        mode="client",
        redis_client=redis.Redis.from_url(redis_server.url),
        local_slab=LocalSlab(min_credits=100, max_credits=1000, lifetime=3600.0),
        default_reservation_ttl=ttl,
        sweep_interval=0.02,
    )
    with make(emulator, credit_leases=leases) as client:

        def has_slab() -> bool:
            result = client.check(INFERENCE, ACME, usage=1)
            client.track_with_reservation(result.reservation, 1)
            return client.status().leases == 1

        eventually(has_slab)
        results = [client.check(INFERENCE, ACME, usage=8) for _ in range(5)]

        def child() -> None:
            for result in results:
                client.track_with_reservation(result.reservation, 5)
            client.shutdown()

        in_fork(child)
        steady.ahead = ttl
        eventually(lambda: client.status().open_holds == 0)
    billed = emulator.state()["billed"]["comp_acme"]["inference_tokens"]
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as reader:
        lease = reader.hgetall("schematic:credit-lease:comp_acme:credit_inference")
    assert float(lease["localRemainingCredits"]) == float(lease["grantedAmount"]) - 2 * billed
    assert emulator.audit()["balanced"]


def use(client: Schematic) -> int:
    for _ in range(10):
        result = client.check(INFERENCE, ACME, usage=8)
        client.track_with_reservation(result.reservation, 5)
    return 50


# Servers that fork


RAW_FORK = """
    import ctypes, faulthandler, os, sys, threading
    from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig

    url = sys.argv[1]
    config = SchematicConfig(
        base_url=url, event_capture_url=url, use_datastream=True, event_buffer_period=60.0,
        credit_leases=CreditLeaseConfig(mode="client"),
    )
    client = Schematic("sch_dev_emulator", config)
    held = client.check("inference", {"id": "acme"}, usage=5)
    client.track("queued at the fork", {"id": "acme"})
    # While this thread forks, no other may ask for the interpreter: the child would find its lock taken. So the
    # client's own thread waits for a byte meanwhile, and gives the interpreter away for that and for nothing else.
    sys.setswitchinterval(60)
    reading, writing = os.pipe()
    is_waiting = threading.Event()

    async def wait_for_byte():
        is_waiting.set()
        os.read(reading, 1)

    waiting = client._session.thread.begin(wait_for_byte)
    is_waiting.wait()
    # The C library's fork, which runs none of Python's hooks.
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        faulthandler.dump_traceback_later(100, exit=True)  # so that a child that hangs says where
        exec(sys.argv[2])
        client.shutdown()
        os._exit(0)
    os.write(writing, b"x")
    waiting.wait(None)
    assert os.waitpid(pid, 0)[1] == 0
    assert client.status().open_holds == 1
    client.track_with_reservation(held.reservation, 3)
    client.shutdown()
"""


CHECKED = """
result = client.check("inference", {"id": "acme"}, usage=5)
client.track_with_reservation(result.reservation, 5)
"""
HELD = """
with client.hold("inference", {"id": "acme"}, usage=5) as hold:
    hold.use(5)
"""


@pytest.mark.parametrize("work", [CHECKED, HELD], ids=["check", "hold"])
def test_a_child_of_a_server_that_skips_the_fork_hooks_uses_nothing_of_its_parent(emulator, work):
    command = [sys.executable, "-c", textwrap.dedent(RAW_FORK), emulator.base_url, work]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    events = [(event["body"]["event"], event["body"].get("quantity")) for event in tracks(emulator)]
    assert sorted(events) == [
        ("inference_tokens", 3),
        ("inference_tokens", 5),
        ("queued at the fork", None),
    ]
    assert emulator.state()["anomalies"] == {}
    assert emulator.audit()["balanced"]


def test_gunicorn_workers_of_a_preloaded_application_bill_what_they_used(emulator, tmp_path):
    served = 40
    with serving(emulator, tmp_path) as url:

        def get() -> dict[str, Any]:
            answer: dict[str, Any] = httpx.get(url, timeout=PATIENCE, trust_env=False).json()
            return answer

        answers = [get()]
        # While one worker stands still, the other has to answer.
        with standing_still(answers[0]["process"]):
            answers.append(get())
        browsers = [
            threading.Thread(target=lambda: answers.append(get())) for _ in range(served - 2)
        ]
        for thread in browsers:
            thread.start()
        for thread in browsers:
            thread.join()
    assert len(answers) == served
    assert all(answer["allowed"] for answer in answers)
    assert len({answer["process"] for answer in answers}) == 2
    state = emulator.state()
    assert state["billed"] == {"comp_acme": {"inference_tokens": sum(a["used"] for a in answers)}}
    assert state["anomalies"] == {}
    assert len(tracks(emulator)) == served
    # Either worker leaves the lease to the other.
    assert {lease["status"] for lease in state["leases"].values()} == {"active"}
    assert emulator.audit()["balanced"]


@contextlib.contextmanager
def standing_still(process: int) -> Iterator[None]:
    """Stop a process until the end of the block."""
    os.kill(process, signal.SIGSTOP)
    try:
        eventually(lambda: state_of(process).startswith("T"))
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def state_of(process: int) -> str:
    """Tell what a process that may be another's child is doing: T if it was stopped."""
    stat = Path(f"/proc/{process}/stat")
    if stat.exists():
        return stat.read_text().rpartition(") ")[2]
    words = ["ps", "-o", "state=", "-p", str(process)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def serving(emulator: Emulator, folder: Path) -> Iterator[str]:
    """Run gunicorn with two workers and a preloaded application until the end of the block."""
    socket_path = folder / "port"
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2"]
    command += ["--worker-class", "gthread", "--threads", "4", "--bind", "127.0.0.1:0"]
    command += ["--control-socket", str(socket_path), "tests.wsgi:application"]
    environment = os.environ | {"SCHEMATIC_URL": emulator.base_url}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        found: list[str] = []

        def listening() -> bool:
            text = (folder / "log").read_text()
            found[:] = re.findall(r"Listening at: (http://[0-9.:]+)", text)
            return bool(found) and text.count("Booting worker") == 2

        eventually(listening)
        yield found[0]
    finally:
        server.terminate()
        server.wait(PATIENCE)
    assert "Traceback" not in (folder / "log").read_text()
