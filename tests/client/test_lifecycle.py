"""The life of a synchronous client: import, loops, threads and forks, shutdown and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from tests.client.sync_clients import INFERENCE, make, posted
from tests.conftest import ACME, API_KEY, streaming
from tests.forks import in_fork
from tests.limits import within


def test_the_client_works_inside_a_running_loop(emulator):
    async def program() -> bool:
        client = make(streaming(emulator))
        try:
            return client.check(INFERENCE, ACME, usage=1).allowed
        finally:
            client.shutdown()

    assert asyncio.run(program())


def test_many_threads_share_one_client_and_one_lease(emulator):
    with make(streaming(emulator)) as client:
        start = threading.Barrier(16)
        results = []

        def work() -> None:
            start.wait()
            for _ in range(50):
                result = client.check(INFERENCE, ACME, usage=1)
                client.track_with_reservation(result.reservation, 1)
                results.append(result.allowed)

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 800
    assert len(emulator.state()["leases"]) == 1
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 800}}
    assert emulator.audit()["balanced"]


def test_shutdown_is_idempotent_safe_from_another_thread_and_final(emulator, caplog):
    client = make(streaming(emulator))
    client.initialize()
    client.initialize()
    client.check(INFERENCE, ACME, usage=1)
    threads = [threading.Thread(target=client.shutdown) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.shutdown()
    late = client.check(INFERENCE, ACME, usage=1)
    assert (late.allowed, late.reservation, late.reason) == (False, None, "lease_acquire_failed")
    client.track("too late")
    client.initialize()
    assert "shut down" in caplog.text
    assert [lease["status"] for lease in emulator.state()["leases"].values()] == ["released"]
    assert posted(emulator, "track") == []


def test_a_shutdown_stays_within_its_budget_while_the_server_is_frozen(emulator):
    for _ in within(6.5):
        client = make(streaming(emulator))
        client.check(INFERENCE, ACME, usage=1)
        client.track("e")
        fault = emulator.fail("freeze", on="any")
        client.shutdown()
        fault.clear()


def test_a_clients_lifecycle_leaves_no_resource_warning(emulator):
    program = f"""
        from schematic_native import Schematic, SchematicConfig, CreditLeaseConfig
        config = SchematicConfig(
            base_url={emulator.base_url!r}, event_capture_url={emulator.base_url!r},
            use_datastream=True, credit_leases=CreditLeaseConfig(),
        )
        with Schematic({API_KEY!r}, config) as client:
            result = client.check("inference", {{"id": "acme"}}, usage=1)
            client.track_with_reservation(result.reservation, 1)
        left = Schematic({API_KEY!r}, config)
        left.check("inference", {{"id": "acme"}}, usage=1)
        left.track("at exit")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # The client without a shutdown was ended at the interpreter's exit.
    assert [e["body"]["event"] for e in posted(emulator, "track")] == [
        "inference_tokens",
        "at exit",
    ]
    assert {lease["status"] for lease in emulator.state()["leases"].values()} == {"released"}


def test_importing_the_package_loads_no_network_library():
    program = """
        import sys
        import schematic_native, schematic_native.client
        loaded = {"httpx", "websockets", "redis", "asyncio", "ssl", "openfeature", "opentelemetry"} & set(sys.modules)
        assert not loaded, loaded
        config = schematic_native.SchematicConfig(offline=True)
        schematic_native.Schematic("key", config).check_flag("f")
        loaded = {"httpx", "websockets", "redis", "asyncio", "ssl"} & set(sys.modules)
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=250)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_uses_nothing_of_its_parent(emulator):
    with make(streaming(emulator)) as client:
        parent = client.check(INFERENCE, ACME, usage=5)
        client.track("before the fork")

        def child() -> list[object]:
            before = client.status()
            result = client.check(INFERENCE, ACME, usage=5)
            client.track_with_reservation(result.reservation, 5)
            client.shutdown()
            return [before.leases, before.open_holds, before.queued_events, result.reservation.id]

        leases, holds, queued, reservation_id = in_fork(child)
        assert (leases, holds, queued) == (0, 0, 0)
        assert reservation_id != parent.reservation.id
        assert client.status().open_holds == 1
        client.track_with_reservation(parent.reservation, 5)
        assert client.check(INFERENCE, ACME, usage=5).allowed
    names = [event["body"]["event"] for event in posted(emulator, "track")]
    assert sorted(names) == ["before the fork", "inference_tokens", "inference_tokens"]
    assert emulator.audit()["balanced"]


def test_a_client_that_was_never_used_leaves_nothing_behind(emulator):
    threads = set(threading.enumerate())
    client = make(streaming(emulator))
    client.shutdown()
    del client
    gc.collect()
    assert set(threading.enumerate()) <= threads
