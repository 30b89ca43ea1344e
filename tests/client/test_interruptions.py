"""A signal handler raises an exception at any line of a check, a settle or a shutdown."""

from __future__ import annotations

import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import redis
import redis.asyncio

from schematic_native import CreditLeaseConfig, LocalSlab, Schematic, SchematicConfig
from schematic_native.redis import SyncStore
from tests.conftest import ACME, API_KEY, PATIENCE, streaming
from tests.limits import give_shutdowns, give_stores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schematic_native import CheckResult
    from schematic_native.emulator import Emulator
    from tests.stores.servers import RedisServer

# A connection that was just taken from the pool when the signal came is garbage collected.
pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket")

INFERENCE = "inference"
RATE = 2
LEASE_KEY = "schematic:credit-lease:comp_acme:credit_inference"


# Places where Python and asyncio discard an exception, or only an OSError: finalizers, and the code
# that wakes the event loop of another thread.
DROPPING = {"__del__", "_write_to_self"}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, five seconds may be too short for a service that is there."""
    give_shutdowns(monkeypatch, PATIENCE)


class SoftTimeLimitError(TimeoutError):
    """What the handler raises; connections raise errors of its base class, too."""


class Interrupted(NamedTuple):
    """The outcome of a call that a signal interrupted."""

    where: str | None  # file and line; None: the call ended before that line
    result: Any


def interrupted(call: Callable[[], Any], line: int) -> Interrupted:
    """Make a call; a real signal arrives before its `line`-th line of Python, and its handler raises."""
    lines, where, is_final = 0, None, False

    def trace(frame: Any, event: str, _argument: object) -> Any:
        nonlocal lines, where, is_final
        if event == "line":
            lines += 1
            if lines == line:
                where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                is_final = not DROPPING.isdisjoint(
                    one.f_code.co_name for one, _ in traceback.walk_stack(frame)
                )
                sys.settrace(None)
                signal.raise_signal(signal.SIGUSR1)
        return trace if where is None else None

    result, heard = None, False
    dropped: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, dropped.append
    sys.settrace(trace)
    try:
        result = call()
    except SoftTimeLimitError:
        heard = True
    finally:
        sys.settrace(None)
        sys.unraisablehook = hook
    # Python itself discards what is raised in a finalizer or in the callback of a weak reference.
    assert heard or dropped or is_final or where is None, f"swallowed at {where}"
    return Interrupted(where, result)


def limit(*_: object) -> None:
    raise SoftTimeLimitError("the task has taken too long")


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, limit)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture(params=["memory", "redis", "redis.asyncio", "slabs"])
def client(
    request, emulator: Emulator, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Schematic]:
    give_stores(monkeypatch, PATIENCE)
    leases: dict[str, Any] = {"mode": "client"}
    if request.param == "redis":
        leases["redis_client"] = redis.Redis.from_url(redis_server.url)
    elif request.param != "memory":
        leases["redis_client"] = redis.asyncio.Redis.from_url(redis_server.url)
    if request.param == "slabs":
        leases["local_slab"] = LocalSlab(max_credits=200)
    fields = streaming(emulator, credit_leases=CreditLeaseConfig(**leases))
    with Schematic(API_KEY, SchematicConfig(**fields)) as client:
        yield client


def taken(client: Schematic, emulator: Emulator, redis_server: RedisServer) -> tuple[float, float]:
    """Shut the client down; return the credits that left the lease for good, and those billed."""
    slot = ("comp_acme", "credit_inference")
    held = 0.0 if client._store is not None else client._core.reserved_credits(*slot)
    kept = client._core.lease(*slot)
    client.shutdown()
    billed = emulator.state()["billed"].get("comp_acme", {}).get("inference_tokens", 0) * RATE
    if client._store is None:
        assert kept is not None
        return kept.granted - kept.remaining - held, billed
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as reader:
        row = reader.hgetall(LEASE_KEY)
        keys = reader.scan_iter("schematic:credit-reservation:*")
        rows = [reader.hgetall(key) for key in keys if reader.type(key) == "hash"]
    held = sum(float(row["creditsReserved"]) for row in rows)
    return float(row["grantedAmount"]) - float(row["localRemainingCredits"]) - held, billed


def is_threads_own(client: Schematic) -> bool:
    """Whether Redis is asked on the calling thread, where a signal may cut an exchange short."""
    return isinstance(client._store, SyncStore)


def check(client: Schematic) -> CheckResult:
    return client.check(INFERENCE, ACME, usage=10)


def test_an_interrupted_settle_never_both_bills_and_refunds_the_same_credits(
    client, emulator, redis_server
):
    check(client)
    line, lines = 0, 0
    while line == lines:
        line += 1
        held = check(client).reservation
        assert held is not None
        settled = interrupted(lambda held=held: client.track_with_reservation(held, 7, None), line)
        lines += settled.where is not None
        assert client.status().last_error is None, f"interrupted at {settled.where}"
    assert lines > 0 or client._store is None
    gone, billed = taken(client, emulator, redis_server)
    # What an interruption between a claim and its refund strands is returned with the lease.
    unused = (10 - 7) * RATE
    assert billed <= gone <= billed + (lines * unused if is_threads_own(client) else 0)


def test_an_interrupted_check_mints_no_credits_and_logs_no_failure_of_redis(
    client, emulator, redis_server
):
    check(client)
    line, lines = 0, 0
    while line == lines:
        line += 1
        checked = interrupted(lambda: check(client), line)
        lines += checked.where is not None
        assert client.status().last_error is None, f"interrupted at {checked.where}"
        following = check(client)
        assert following.allowed, f"after {checked.where}: {following.error}"
        client.track_with_reservation(following.reservation, 7)
    gone, billed = taken(client, emulator, redis_server)
    # A debit whose reservation was not recorded is returned with the lease.
    assert billed <= gone <= billed + lines * 10 * RATE


def test_a_shutdown_interrupted_at_any_line_is_finished_by_the_next_call(emulator):
    line, where = 0, ""
    while where is not None:
        line += 1
        client = Schematic(API_KEY, SchematicConfig(**streaming(emulator)))
        client.track_with_reservation(check(client).reservation, 1)
        where = interrupted(client.shutdown, line).where
        client.shutdown()
        billed = emulator.state()["billed"]["comp_acme"]["inference_tokens"]
        assert billed == line, f"interrupted at {where}"
    assert line > 2
    assert {lease["status"] for lease in emulator.state()["leases"].values()} == {"released"}
