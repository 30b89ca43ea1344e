"""How a client ends, with and without a shutdown: in time, and with nothing left behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from tests.callers import Caller, both_clients
from tests.client.open_blocks import OPEN_BLOCKS
from tests.conftest import ACME, API_KEY, eventually, streaming
from tests.servers import Answer, HttpServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.emulator import Emulator

INFERENCE = "inference"
# Seconds: the budget of a shutdown, plus what a busy machine may add. A missing limit would cost 60 s.
BUDGET, SLACK = 5.0, 25.0


def make(emulator: Emulator, **fields: object) -> Schematic:
    return Schematic(API_KEY, SchematicConfig(**streaming(emulator, **fields)))


def make_async(emulator: Emulator, **fields: object) -> AsyncSchematic:
    return AsyncSchematic(API_KEY, AsyncSchematicConfig(**streaming(emulator, **fields)))


def tracked(emulator: Emulator) -> list[str]:
    return [event["body"]["event"] for event in emulator.events() if event["type"] == "track"]


def lease_statuses(emulator: Emulator) -> set[str]:
    return {lease["status"] for lease in emulator.state()["leases"].values()}


OPEN_FILES = Path("/proc/self/fd")
counting_sockets = pytest.mark.skipif(not OPEN_FILES.exists(), reason="Linux tells open files")


def sockets() -> set[str]:
    """The sockets of this process."""
    found = set()
    for name in OPEN_FILES.iterdir():
        try:
            target = str(name.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


@counting_sockets
def test_a_clients_lifecycle_leaves_no_thread_and_no_socket(emulator):
    emulator.state()  # opens the emulator's own control connection
    threads, before = set(threading.enumerate()), sockets()
    for _ in range(3):
        with make(emulator) as client:
            assert client.check(INFERENCE, ACME, usage=1).allowed
    # A shutdown waits a moment for its thread, and on a busy machine no longer.
    eventually(lambda: set(threading.enumerate()) <= threads)
    # The emulator runs in this process as well, and closes its end a moment later.
    eventually(lambda: sockets() <= before)


@counting_sockets
async def test_a_clients_lifecycle_leaves_no_task_and_no_socket(emulator):
    await asyncio.to_thread(emulator.state)
    tasks, before = asyncio.all_tasks(), sockets()
    for _ in range(3):
        async with make_async(emulator) as client:
            assert (await client.check(INFERENCE, ACME, usage=1)).allowed
    assert asyncio.all_tasks() == tasks
    await asyncio.to_thread(eventually, lambda: sockets() <= before)


async def test_concurrent_and_repeated_asynchronous_shutdowns_are_one(emulator):
    client = make_async(emulator)
    await client.check(INFERENCE, ACME, usage=1)
    await client.track("last")
    await asyncio.gather(client.shutdown(), client.shutdown(), client.shutdown())
    await client.shutdown()
    assert tracked(emulator) == ["last"]
    assert lease_statuses(emulator) == {"released"}
    assert emulator.state()["requests"]["release"] == 1


def test_a_shutdown_while_another_thread_is_in_one_waits_for_no_longer_than_the_budget(emulator):
    client = make(emulator)
    client.check(INFERENCE, ACME, usage=1)
    client.track("last")
    threads = [threading.Thread(target=client.shutdown) for _ in range(8)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BUDGET + SLACK)
    assert not any(thread.is_alive() for thread in threads)
    assert time.monotonic() - start < BUDGET + SLACK
    assert tracked(emulator) == ["last"]


def test_a_shutdown_while_checks_wait_ends_them(emulator):
    client = make(emulator)
    client.check_flag(INFERENCE, ACME)
    answers = []

    def wait() -> None:
        answers.append(client.check(INFERENCE, ACME, usage=1, timeout=30))

    with emulator.fail("freeze", on="acquire"):
        threads = [threading.Thread(target=wait) for _ in range(8)]
        for thread in threads:
            thread.start()
        eventually(lambda: emulator.state()["requests"].get("acquire"))
        client.shutdown()
        for thread in threads:
            thread.join(BUDGET + SLACK)
        assert not any(thread.is_alive() for thread in threads)
    assert [answer.allowed for answer in answers] == [False] * 8


async def test_a_synchronous_client_ends_inside_a_running_loop(emulator):
    with make(emulator) as client:
        result = client.check(INFERENCE, ACME, usage=2)
        client.track_with_reservation(result.reservation, 2)
    assert await asyncio.to_thread(tracked, emulator) == ["inference_tokens"]
    assert await asyncio.to_thread(lease_statuses, emulator) == {"released"}


def test_a_start_that_failed_ends_in_time():
    with HttpServer(otherwise=Answer(freeze=True)) as server:
        config = SchematicConfig(
            base_url=server.url,
            event_capture_url=server.url,
            use_datastream=True,
            timeout=0.2,
            credit_leases=CreditLeaseConfig(mode="client"),
        )
        client = Schematic(API_KEY, config)
        client.initialize()
        assert client.check("f", ACME, usage=1).allowed is False
        client.track("never delivered")
        start = time.monotonic()
        client.shutdown()
        client.shutdown()
        assert time.monotonic() - start < BUDGET + SLACK


def test_a_check_that_can_start_no_thread_any_more_is_decided_by_the_mode(emulator, monkeypatch):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    client = make(emulator)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not client.check(INFERENCE, ACME, usage=1).allowed
        assert "create new thread" in (client.status().last_error or "")
    assert client.check(INFERENCE, ACME, usage=1).allowed
    client.shutdown()


async def test_an_asynchronous_shutdown_stays_within_its_budget_while_the_server_is_frozen(
    emulator,
):
    client = make_async(emulator)
    await client.check(INFERENCE, ACME, usage=1)
    await client.track("e")
    fault = await asyncio.to_thread(emulator.fail, "freeze", "any")
    start = time.monotonic()
    await client.shutdown()
    assert time.monotonic() - start < BUDGET + SLACK
    await asyncio.to_thread(fault.clear)


def test_a_client_that_raised_inside_with_is_ended_all_the_same(emulator):
    def work() -> None:
        with make(emulator) as client:
            client.check(INFERENCE, ACME, usage=1)
            client.track("before")
            raise KeyError("of the user's")

    with pytest.raises(KeyError, match="of the user's"):
        work()
    assert tracked(emulator) == ["before"]
    assert lease_statuses(emulator) == {"released"}


@both_clients
def test_what_memory_answers_after_a_shutdown_queues_no_event(emulator, kind):
    person = Caller(kind, streaming(emulator))
    with person:
        assert person.do("check_flag", INFERENCE, ACME) is True
        emulator.set_company(
            {"id": "comp_two", "account_id": "a", "environment_id": "e", "keys": {"slug": "two"}}
        )
        person.do("check_flag", INFERENCE, {"slug": "two"})
        person.do("shutdown")
        assert person.client.status().queued_events == 0
        assert person.do("check_flag", INFERENCE, ACME) is True
        assert person.do("check_flag_with_entitlement", INFERENCE, ACME).value is True
        assert person.do("check", INFERENCE, ACME).allowed is True
        assert len(person.do("check_flags", None, ACME)) == 3
        both = {"id": "acme", "slug": "two"}
        conflict = person.do("check_flag_with_entitlement", INFERENCE, both)
        assert conflict.reason == "key conflict"
        assert person.client.status().queued_events == 0


# The interpreter's exit


def run(program: str, *arguments: str, timeout: float = 250) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(program)]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )


CLIENT = """
    import sys, threading, asyncio, logging
    from schematic_native import (
        AsyncSchematic, AsyncSchematicConfig, CreditLeaseConfig, Schematic, SchematicConfig
    )
    fields = dict(
        base_url=sys.argv[1], event_capture_url=sys.argv[1], use_datastream=True,
        event_buffer_period=60.0, credit_leases=CreditLeaseConfig(mode="client"),
    )
    # Below the level of errors, asyncio's debug mode reports callbacks that a busy machine made slow.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    key, acme = "sch_dev_emulator", {"id": "acme"}
"""

ENDINGS = {
    "the end of the file": """
        client = Schematic(key, SchematicConfig(**fields))
        result = client.check("inference", acme, usage=4)
        client.track_with_reservation(result.reservation, 3)
    """,
    "sys.exit": """
        client = Schematic(key, SchematicConfig(**fields))
        result = client.check("inference", acme, usage=4)
        client.track_with_reservation(result.reservation, 3)
        sys.exit(0)
    """,
    "a thread that still works": """
        client = Schematic(key, SchematicConfig(**fields))
        checked = threading.Event()
        def work():
            result = client.check("inference", acme, usage=4)
            checked.set()
            client.track_with_reservation(result.reservation, 3)
        threading.Thread(target=work).start()
        checked.wait()  # after this, a client that has not started could not start its thread
    """,
    "threads that work on when the main thread has ended": """
        client = Schematic(key, SchematicConfig(**fields))
        result = client.check("inference", acme, usage=4)
        main = threading.main_thread()
        def work():
            main.join()
            client.track_with_reservation(result.reservation, 3)
        threading.Thread(target=work).start()
    """,
    "a host name that is looked up at the very end": """
        url = sys.argv[1].replace("127.0.0.1", "localhost")
        client = Schematic(key, SchematicConfig(base_url=url, event_capture_url=url))
        client.track("inference_tokens", acme, quantity=3)
    """,
    "a user's own exit handler": """
        import atexit
        client = Schematic(key, SchematicConfig(**fields))
        result = client.check("inference", acme, usage=4)
        atexit.register(client.shutdown)
        client.track_with_reservation(result.reservation, 3)
    """,
    **OPEN_BLOCKS,
    "a program of tasks": """
        async def main():
            async with AsyncSchematic(key, AsyncSchematicConfig(**fields)) as client:
                result = await client.check("inference", acme, usage=4)
                await client.track_with_reservation(result.reservation, 3)
        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_a_program_that_exits_has_billed_and_released_and_prints_nothing(emulator, ending):
    done = run(textwrap.dedent(CLIENT) + textwrap.dedent(ending), emulator.base_url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    state = emulator.state()
    assert state["billed"] == {"comp_acme": {"inference_tokens": 3}}
    assert lease_statuses(emulator) <= {"released"}
    assert state["anomalies"] == {}


USING = """
        client = AsyncSchematic(key, AsyncSchematicConfig(**fields))
        result = await client.check("inference", acme, usage=4)
        await client.track_with_reservation(result.reservation, 3)
"""
UNFINISHED = {
    "an asynchronous client that is still there": f"""
    async def main():
        global client
        {USING}
    asyncio.run(main())
    """,
    "an asynchronous client that is gone with its loop": f"""
    async def main():
        {USING}
    asyncio.run(main())
    """,
    "an asynchronous client that is gone before its loop": f"""
    async def use():
        {USING}
    async def main():
        await use()
        while "waiting for its end":
            await asyncio.sleep(0.01)
            if not session._open:
                break
    asyncio.run(main())
    """,
    "a block of an asynchronous client that is still open": """
    async def main():
        global client, hold
        client = AsyncSchematic(key, AsyncSchematicConfig(**fields))
        hold = await client.hold("inference", acme, usage=4).__aenter__()
        hold.use(3)
    asyncio.run(main())
    """,
    "a loop that stands still": f"""
    async def main():
        {USING}
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    """,
    "a loop on a thread": f"""
    async def main():
        global client
        {USING}
        used.set()
        await asyncio.sleep(3600)
    used = threading.Event()
    threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
    used.wait()
    """,
    "a synchronous client that is gone": """
    def use():
        client = Schematic(key, SchematicConfig(**fields))
        result = client.check("inference", acme, usage=4)
        client.track_with_reservation(result.reservation, 3)
    use()
    """,
}


@pytest.mark.parametrize("ending", UNFINISHED.values(), ids=UNFINISHED)
def test_a_client_without_a_shutdown_delivers_and_is_named_in_a_warning(emulator, ending):
    start = (
        textwrap.dedent(CLIENT) + "\nfrom schematic_native.client import session\nclient = None\n"
    )
    program = start + textwrap.dedent(ending)
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", program, emulator.base_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    kind = "AsyncSchematic" if "AsyncSchematic(" in ending else "Schematic"
    warnings = [line for line in done.stderr.splitlines() if "ResourceWarning: " in line]
    named = [line for line in warnings if f": {kind} of {emulator.base_url} was " in line]
    assert len(named) == 1, done.stderr
    assert ("call await shutdown()" in named[0]) == (kind == "AsyncSchematic")
    # The warnings of a loop that the program left open, and the traceback of the client's creation.
    known = ("unclosed event loop", "unclosed transport", "Enable tracemalloc")
    others = [line for line in warnings if not any(part in line for part in (*known, *named))]
    assert others == []
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 3}}
    assert lease_statuses(emulator) <= {"released"}


# By signal: how the process ends, and whether its client delivers events and releases leases.
BY_SIGNAL = {
    "Ctrl-C": (signal.SIGINT, "", True),
    "SIGTERM with a handler that exits": (
        signal.SIGTERM,
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))",
        True,
    ),
    "SIGTERM with a handler that shuts down": (
        signal.SIGTERM,
        "signal.signal(signal.SIGTERM, lambda *_: (client.shutdown(), os._exit(0)))",
        True,
    ),
    "SIGTERM without a handler": (signal.SIGTERM, "", False),
    "kill -9": (signal.SIGKILL, "", False),
}


@pytest.mark.parametrize(("number", "handler", "delivers"), BY_SIGNAL.values(), ids=BY_SIGNAL)
def test_how_a_process_that_gets_a_signal_ends(emulator, number, handler, delivers):
    program = textwrap.dedent(CLIENT) + textwrap.dedent(f"""
        import os, signal, threading
        # A shell that runs the tests in the background makes them ignore this signal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        client = Schematic(key, SchematicConfig(**fields))
        {handler}
        result = client.check("inference", acme, usage=4)
        client.track_with_reservation(result.reservation, 3)
        print("ready", flush=True)
        # Not signal.pause(): a signal that comes just before it would be handled after it alone.
        while True:
            threading.Event().wait(0.05)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program, emulator.base_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.wait(60)
    billed = {"comp_acme": {"inference_tokens": 3}} if delivers else {}
    assert emulator.state()["billed"] == billed
    assert lease_statuses(emulator) == {"released" if delivers else "active"}


def test_a_program_ends_in_time_with_a_frozen_server(emulator):
    program = textwrap.dedent(CLIENT) + textwrap.dedent("""
        client = Schematic(key, SchematicConfig(**fields))
        result = client.check("inference", acme, usage=4)
        client.track_with_reservation(result.reservation, 3)
        print("ready", flush=True)
        sys.stdin.read()
    """)
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", program, emulator.base_url]
    pipes: dict[str, Callable | int] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        with emulator.fail("freeze", on="any"):
            start = time.monotonic()
            _, said = process.communicate("", timeout=250)
            assert time.monotonic() - start < BUDGET + SLACK
    assert process.returncode == 0
    # It prints one line for each kind of undelivered work, and nothing else.
    assert "2 events could not be delivered in time" in said
    assert "Traceback" not in said
    assert "Warning" not in said
