"""Requests of a Starlette app: held, denied, streamed and cut off."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from schematic_native import AsyncHold, AsyncSchematic, AsyncSchematicConfig, Schematic
from schematic_native.integrations.starlette import HoldMiddleware, hold_for, lifespan
from tests.client.hold_worlds import billed
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, streaming
from tests.integrations.servers import asgi

INFERENCE = "inference"


def company(request):
    return {"id": request.headers["x-company"]}


@pytest.fixture
def client(emulator):
    return AsyncSchematic(
        API_KEY, AsyncSchematicConfig(**streaming(emulator, event_buffer_period=0.05))
    )


@pytest.fixture
def app(client):  # noqa: C901 - a function for each endpoint
    app = FastAPI(lifespan=lifespan(client))
    app.add_middleware(HoldMiddleware)
    held = hold_for(client, INFERENCE, company=company, usage=100)
    Held = Annotated[AsyncHold, Depends(held)]  # noqa: N806 - a type

    async def plain_answer(hold: AsyncHold):
        hold.use(7)
        return {"held": hold.held}

    async def stream(hold: AsyncHold):
        async def chunks():
            for number in range(5):
                yield str(number)

        return StreamingResponse(hold.stream(chunks(), len))

    async def endless(hold: AsyncHold):
        async def chunks():
            while True:
                hold.use(1)
                yield "x" * 10_000
                await asyncio.sleep(0)

        return StreamingResponse(chunks())

    async def dropped(hold: AsyncHold):
        hold.stream(iter("abc"), len)
        return {}

    async def broken(hold: AsyncHold):
        hold.use(3)
        raise ValueError("the work has failed")

    for endpoint in (plain_answer, stream, endless, dropped, broken):
        endpoint.__annotations__["hold"] = Held
        app.post(f"/{endpoint.__name__}")(endpoint)
    return app


@pytest.fixture
def browser(app):
    with (
        asgi(app) as url,
        httpx.Client(base_url=url, headers={"x-company": "acme"}, timeout=PATIENCE) as browser,
    ):
        yield browser


def test_a_request_holds_credits_and_is_billed(browser, client, emulator):
    assert browser.post("/plain_answer").json() == {"held": 100}
    eventually(lambda: billed(emulator) == 7)
    assert client.status().open_holds == 0


def test_a_denied_request_gets_402_and_the_reason(browser, emulator):
    answer = browser.post("/plain_answer", headers={"x-company": "none"})
    assert (answer.status_code, answer.json()) == (402, {"detail": "lease_acquire_failed"})
    assert billed(emulator) == 0


def test_a_streamed_response_is_billed_to_its_end(browser, client, emulator):
    assert browser.post("/stream").text == "01234"
    eventually(lambda: billed(emulator) == 5)
    assert client.status().open_holds == 0


def test_a_browser_that_disconnects_mid_stream_leaves_no_hold(browser, client, emulator):
    with browser.stream("POST", "/endless") as answer:
        chunks = answer.iter_raw()  # kept, as the connection is closed with it
        next(chunks)
        assert client.status().open_holds >= 1
    eventually(lambda: client.status().open_holds == 0)
    eventually(lambda: billed(emulator) > 0)


def test_a_stream_that_is_never_entered_leaves_no_hold(browser, client):
    assert browser.post("/dropped").json() == {}
    eventually(lambda: client.status().open_holds == 0)


@pytest.mark.filterwarnings("ignore")
def test_what_was_used_before_an_error_is_billed(browser, client, emulator):
    assert browser.post("/broken").status_code == 500
    eventually(lambda: billed(emulator) == 3)
    assert client.status().open_holds == 0


def test_a_missing_middleware_and_a_synchronous_client_are_refused(client):
    held = hold_for(client, INFERENCE, company=company, usage=100)
    with pytest.raises(TypeError, match="AsyncSchematic"):
        hold_for(Schematic(API_KEY), INFERENCE, company=company, usage=100)
    with pytest.raises(RuntimeError, match="HoldMiddleware"):
        asyncio.run(held(_Request()))


class _Request:
    scope = MappingProxyType({})


def test_starlette_calls_it_with_the_request(client, emulator):
    held = hold_for(client, INFERENCE, company=ACME, usage=lambda request: 10)

    async def answer(request):
        hold = await held(request)
        hold.use(4)
        return PlainTextResponse(str(hold.held))

    app = Starlette(routes=[Route("/", answer)], lifespan=lifespan(client))
    app.add_middleware(HoldMiddleware)
    with asgi(app) as url:
        assert httpx.get(url, timeout=PATIENCE).text == "10"
    assert billed(emulator) == 4
