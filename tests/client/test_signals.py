"""A signal handler may call any public method at any line of another call: nothing hangs or is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, streaming
from tests.limits import give_shutdowns

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.emulator import Emulator

INFERENCE = "inference"
# Seconds after which an interrupted call counts as hanging.
LIMIT = 20.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, five seconds may be too short for a service that is there."""
    give_shutdowns(monkeypatch, PATIENCE)


class Interruption:
    """Calls `action` once, at one line of a call's Python code, as a signal handler would."""

    def __init__(self, call: Callable[[], object], line: int, action: Callable[[], object]) -> None:
        self._call, self._line, self._action = call, line, action
        self._lines = 0
        self.where: str | None = None

    def is_over(self) -> bool:
        """Make the call on a new thread; return whether it has ended in time."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        thread.join(LIMIT)
        return not thread.is_alive()

    def _run(self) -> None:
        sys.settrace(self._trace)
        try:
            self._call()
        finally:
            sys.settrace(None)

    def _trace(self, frame: Any, event: str, _argument: object) -> Any:
        if event == "line" and self.where is None:
            self._lines += 1
            if self._lines == self._line:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                sys.settrace(None)
                self._action()
        return self._trace if self.where is None else None


def make(emulator: Emulator, store: object = None) -> Schematic:
    leases = CreditLeaseConfig(mode="client", redis_client=store)
    client = Schematic(API_KEY, SchematicConfig(**streaming(emulator, credit_leases=leases)))
    client.initialize()
    return client


CALLS: dict[str, Callable[[Schematic], object]] = {
    "shutdown": Schematic.shutdown,
    "status": Schematic.status,
    "track": lambda client: client.track("pages", ACME),
    "check": lambda client: client.check(INFERENCE, ACME, usage=1, timeout=1.0),
    "check_flag": lambda client: client.check_flag(INFERENCE, {"id": "nobody"}),
}


PAIRS = [
    *(("shutdown", action) for action in ("shutdown", "status", "track")),
    *(("check_flag", action) for action in ("status", "track")),
    *((call, "shutdown") for call in ("status", "track", "check", "check_flag")),
]


@pytest.mark.parametrize(("call", "action"), PAIRS)
def test_a_handler_that_interrupts_a_call_at_any_line_hangs_neither(emulator, call, action):
    line, where, settled = 1, "", 0
    while where is not None:
        client = make(emulator)
        held = client.check(INFERENCE, ACME, usage=1).reservation
        client.track_with_reservation(held, 1)
        settled += 1
        interruption = Interruption(
            lambda client=client: CALLS[call](client),
            line,
            lambda client=client: CALLS[action](client),
        )
        assert interruption.is_over(), f"{action} at {interruption.where} of {call} hangs"
        client.shutdown()
        where = interruption.where
        line += 1
    billed = emulator.state()["billed"]["comp_acme"]["inference_tokens"]
    assert billed == settled
    assert line > 2


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
@pytest.mark.parametrize("call", ["check", "settle"])
def test_a_shutdown_at_any_line_of_a_call_with_redis_ends_and_bills_what_was_settled(
    emulator, redis_server, kind, call
):
    line, where, settled = 1, "", 0
    while where is not None:
        client = make(emulator, kind.from_url(redis_server.url))
        held = client.check(INFERENCE, ACME, usage=1).reservation
        settle = partial(client.track_with_reservation, held, 1)
        if call == "check":
            settle()
        check = partial(client.check, INFERENCE, ACME, usage=1, timeout=1.0)
        interruption = Interruption(check if call == "check" else settle, line, client.shutdown)
        assert interruption.is_over(), f"shutdown at {interruption.where} of {call} hangs"
        client.shutdown()
        where = interruption.where
        billed = emulator.state()["billed"].get("comp_acme", {}).get("inference_tokens", 0)
        # A settle that had not begun when the client was shut down is refused and logged.
        assert billed - settled in ({1} if call == "check" or where is None else {0, 1})
        settled = billed
        # With a synchronous Redis client a call runs several hundred lines on the calling thread, with an
        # asyncio client only a few.
        line += 3 if kind is redis.Redis else 1
    assert line > 2


PROGRAM = """
import os, signal, sys, threading, time
from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig

url, how = sys.argv[1:]
# A shell that runs the tests in the background makes them ignore this signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
client = Schematic("sch_dev_emulator", SchematicConfig(
    base_url=url, event_capture_url=url, use_datastream=True,
    credit_leases=CreditLeaseConfig(mode="client"),
))
client.initialize()
for _ in range(20):
    held = client.check("inference", {"id": "acme"}, usage=10).reservation
    client.track_with_reservation(held, 10)

def handler(*_):
    client.shutdown()
    sys.exit(0)

if how == "handler":
    signal.signal(signal.SIGTERM, handler)

# A signal that comes in the instant before a wait does not interrupt it, but the next of these does.
def interrupt_waits():
    while True:
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGURG)

signal.signal(signal.SIGURG, lambda *_: None)
threading.Thread(target=interrupt_waits, daemon=True).start()
try:
    print("ready", flush=True)
    client.shutdown()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    if how == "again":
        client.shutdown()
"""


@pytest.mark.parametrize("how", ["again", "handler", "exit"])
def test_queued_events_are_delivered_although_the_shutdown_was_interrupted(emulator, how):
    """Delivery hangs until the signal; then a second call, a handler or the exit hook completes it."""
    fault = emulator.fail("freeze", on="capture")
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, emulator.base_url, how],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    eventually(lambda: fault.fired or child.poll() is not None)
    assert child.poll() is None
    os.kill(child.pid, signal.SIGTERM if how == "handler" else signal.SIGINT)
    if how != "handler":
        assert child.stdout.readline() == "interrupted\n"
    fault.clear()
    child.communicate(timeout=LIMIT)
    assert child.returncode == 0
    state = emulator.state()
    assert state["billed"] == {"comp_acme": {"inference_tokens": 200}}
    assert {lease["status"] for lease in state["leases"].values()} == {"released"}
