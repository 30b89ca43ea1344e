"""Requests of a Django project: held, denied, streamed and cut off."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pytest

from tests.client.hold_worlds import billed
from tests.conftest import API_KEY, PATIENCE, eventually
from tests.ports import free_port

pytest.importorskip("django")

APP = "tests.integrations.django_app"
SERVERS = {
    "asgi": f"uvicorn --log-level warning --port {{port}} {APP}:asgi",
    "wsgi": f"gunicorn --log-level error --threads 4 -b 127.0.0.1:{{port}} {APP}:wsgi",
}


NO_GUNICORN = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs a fork")


@pytest.fixture(scope="module", params=["asgi", pytest.param("wsgi", marks=NO_GUNICORN)])
def server(request):
    from schematic_native.emulator import Emulator  # noqa: PLC0415 - of this module's own

    with Emulator(process=False) as emulator:
        port = free_port()
        command = SERVERS[request.param].format(port=port).split()
        env = os.environ | {"SCHEMATIC_URL": emulator.base_url, "SCHEMATIC_KEY": API_KEY}
        with (
            subprocess.Popen([sys.executable, "-m", *command], env=env) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as browser,
        ):
            try:
                eventually(lambda: _answers(browser))
                yield request.param, browser, emulator
            finally:
                process.terminate()
                process.wait(PATIENCE)


def _answers(browser):
    try:
        return browser.get("/holds").status_code == 200
    except httpx.HTTPError:
        return False


def open_holds(browser):
    return browser.get("/holds").json()["open"]


@pytest.mark.parametrize("kind", ["", "_async"])
def test_requests_hold_credits_and_are_billed(server, kind):
    _, browser, emulator = server
    before = billed(emulator)
    assert browser.get(f"/plain{kind}/acme").json() == {"held": 100}
    eventually(lambda: billed(emulator) == before + 7)
    denied = browser.get(f"/plain{kind}/none")
    assert (denied.status_code, denied.json()) == (402, {"error": "lease_acquire_failed"})
    assert browser.get(f"/broken{kind}/acme").status_code == 500
    eventually(lambda: billed(emulator) == before + 10)
    assert open_holds(browser) == 0


@pytest.mark.parametrize("kind", ["", "_async"])
def test_a_streamed_response_is_billed_to_its_end(server, kind):
    _, browser, emulator = server
    before = billed(emulator)
    assert browser.get(f"/stream{kind}/acme").text == "01234"
    eventually(lambda: billed(emulator) == before + 5)
    assert open_holds(browser) == 0


def test_a_browser_that_disconnects_mid_stream_leaves_no_hold(server):
    name, browser, emulator = server
    # Django reads a stream of the other kind to its end before it sends anything.
    kind = "_async" if name == "asgi" else ""
    with browser.stream("GET", f"/endless{kind}/acme") as answer:
        assert answer.status_code == 200
        chunks = answer.iter_raw()  # kept, as the connection is closed with it
        next(chunks)
        assert open_holds(browser) > 0
    before = billed(emulator)
    eventually(lambda: open_holds(browser) == 0)
    eventually(lambda: billed(emulator) > before)
