"""Tasks of a Celery worker: billed when its pool ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.client.hold_worlds import billed, bills
from tests.conftest import API_KEY, eventually

celery = pytest.importorskip("celery")


@pytest.fixture
def broker(redis_server):
    return redis_server.url


@pytest.fixture
def app(broker):
    app = celery.Celery("caller", broker=broker, backend=broker)
    yield app
    app.close()


@pytest.fixture
def worker(broker, emulator):
    """A worker with a pool of processes."""
    env = os.environ | {
        "SCHEMATIC_URL": emulator.base_url,
        "SCHEMATIC_KEY": API_KEY,
        "CELERY_BROKER": broker,
    }
    command = ["celery", "-A", "tests.integrations.celery_app:app", "worker"]
    command += ["--concurrency", "2", "--loglevel", "ERROR", "--without-gossip"]
    with subprocess.Popen([sys.executable, "-m", *command], env=env) as process:
        yield process
        process.terminate()
        process.wait(60)


@pytest.mark.skipif(sys.platform == "win32", reason="Celery has no pool of processes there")
def test_tasks_are_billed_when_the_pool_ends(worker, app, emulator):
    held = [app.send_task("summarise", ("acme", units)) for units in (7, 8, 9)]
    assert [each.get(timeout=60) for each in held] == [100, 100, 100]
    # Delivered again, as after the loss of a worker.
    app.send_task("summarise", ("acme", 7), task_id=held[0].id).get(timeout=60)
    denied = app.send_task("summarise", ("none", 1))
    with pytest.raises(Exception, match="denied"):
        denied.get(timeout=60)
    retried = app.send_task("fail")
    with pytest.raises(Exception, match=r".*"):
        retried.get(timeout=60)
    worker.terminate()
    worker.wait(60)
    eventually(lambda: billed(emulator) == 7 + 8 + 9 + 2 + 2)
    keys = [event["idempotency_key"] for event in bills(emulator)]
    assert keys.count(f"hold:inference_tokens:{held[0].id}") == 2
    assert emulator.audit()["balanced"]
