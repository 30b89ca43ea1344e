"""Requests of a Flask app: held, denied, streamed and cut off."""

from __future__ import annotations

import subprocess
import sys

import flask
import httpx
import pytest

from schematic_native import Schematic, SchematicConfig
from schematic_native.integrations.flask import held
from tests.client.hold_worlds import billed
from tests.conftest import API_KEY, PATIENCE, eventually, streaming
from tests.integrations.servers import wsgi


@pytest.fixture
def client(emulator):
    config = SchematicConfig(**streaming(emulator, event_buffer_period=0.05))
    with Schematic(API_KEY, config) as client:
        yield client


@pytest.fixture
def browser(client):
    app = flask.Flask("example")
    holding = held(client, "inference", company=lambda who: {"id": who}, usage=100)

    @app.post("/plain/<who>")
    @holding
    def plain(who, hold):
        hold.use(7)
        return {"held": hold.held}

    @app.post("/stream/<who>")
    @holding
    def stream(who, hold):
        def chunks():
            for number in range(5):
                hold.use(1)
                yield str(number)

        return flask.Response(chunks())

    @app.post("/endless/<who>")
    @holding
    def endless(who, hold):
        def chunks():
            while True:
                hold.use(1)
                yield "x" * 100_000

        return flask.Response(chunks())

    @app.post("/broken/<who>")
    @holding
    def broken(who, hold):
        hold.use(3)
        raise ValueError("the work has failed")

    with wsgi(app) as url, httpx.Client(base_url=url, timeout=PATIENCE) as browser:
        yield browser


def test_a_request_holds_credits_and_is_billed(browser, client, emulator):
    assert browser.post("/plain/acme").json() == {"held": 100}
    eventually(lambda: billed(emulator) == 7)
    assert client.status().open_holds == 0


def test_a_denied_request_gets_402_and_the_reason(browser, emulator):
    answer = browser.post("/plain/none")
    assert (answer.status_code, answer.json()) == (402, {"error": "lease_acquire_failed"})
    assert billed(emulator) == 0


def test_a_streamed_response_is_billed_to_its_end(browser, client, emulator):
    assert browser.post("/stream/acme").text == "01234"
    eventually(lambda: billed(emulator) == 5)
    assert client.status().open_holds == 0


def test_a_browser_that_disconnects_mid_stream_leaves_no_hold(browser, client, emulator):
    with browser.stream("POST", "/endless/acme") as answer:
        chunks = answer.iter_raw()  # kept, as the connection is closed with it
        next(chunks)
        assert client.status().open_holds >= 1
    eventually(lambda: client.status().open_holds == 0)
    eventually(lambda: billed(emulator) > 0)


def test_what_was_used_before_an_error_is_billed(browser, client, emulator):
    assert browser.post("/broken/acme").status_code == 500
    eventually(lambda: billed(emulator) == 3)
    assert client.status().open_holds == 0


def test_the_package_loads_no_framework():
    program = (
        "import sys, schematic_native; "
        "print([m for m in ('celery', 'django', 'flask', 'starlette', 'fastapi') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
