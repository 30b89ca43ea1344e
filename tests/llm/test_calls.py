"""`held` around functions of LiteLLM's SDK and Router."""

from __future__ import annotations

import asyncio
import gc

import litellm
import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditsDenied,
    Schematic,
    SchematicConfig,
)
from schematic_native.integrations.litellm import held
from tests.client.hold_worlds import billed, bills
from tests.conftest import API_KEY, eventually, eventually_async, streaming
from tests.llm.provider import ANSWER, ASKED, PROMPT, WORDS

pytestmark = pytest.mark.filterwarnings("ignore")

TOLD = PROMPT + ANSWER
# One word is one token, and the prompt is counted here.
SEEN = litellm.token_counter(model="gpt-3.5-turbo", text=ASKED[0]["content"])


def company(*_, user="acme", **__):
    return {"id": user}


@pytest.fixture
def complete(client):
    return held(client, "inference", company=company)(litellm.completion)


@pytest.fixture(params=["async client", "sync client"])
async def either(request, emulator):
    fields = streaming(emulator, event_buffer_period=0.05)
    if request.param == "sync client":
        client = Schematic(API_KEY, SchematicConfig(**fields))
        yield client
        await asyncio.to_thread(client.shutdown)
        return
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
        yield client


@pytest.fixture
def acomplete(either):
    return held(either, "inference", company=company)(litellm.acompletion)


def is_settled(client, emulator, units):
    eventually(lambda: billed(emulator) == units)
    assert client.status().open_holds == 0
    assert len(bills(emulator)) == bool(units)


def test_the_answer_of_a_mock_is_billed_by_its_usage(complete, client, emulator):
    answer = complete(model="gpt-4o", messages=ASKED, mock_response="Those of two divisors")
    assert answer.choices[0].message.content == "Those of two divisors"
    is_settled(client, emulator, answer.usage.total_tokens)


def test_arguments_by_position_are_read(complete, client, emulator):
    answer = complete("gpt-4o", ASKED, mock_response="Those of two divisors")
    is_settled(client, emulator, answer.usage.total_tokens)


def test_what_the_provider_tells_is_billed(complete, client, emulator, at):
    assert complete(**at("good")).usage.total_tokens == TOLD
    is_settled(client, emulator, TOLD)


def test_a_stream_is_billed_by_its_usage_which_the_caller_does_not_see(
    complete, client, emulator, at
):
    chunks = list(complete(**at("good", stream=True)))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "word " * WORDS
    assert not any(getattr(chunk, "usage", None) for chunk in chunks)
    is_settled(client, emulator, TOLD)


def test_a_caller_who_asks_for_the_usage_sees_it(complete, client, emulator, at):
    chunks = complete(**at("good", stream=True, stream_options={"include_usage": True}))
    assert [chunk.usage.total_tokens for chunk in chunks if getattr(chunk, "usage", None)] == [TOLD]
    is_settled(client, emulator, TOLD)


def test_a_company_without_credits_is_denied_before_the_provider_is_asked(
    complete, client, emulator, provider, at
):
    with pytest.raises(CreditsDenied):
        complete(**at("good", user="none"))
    assert provider.asked == []
    is_settled(client, emulator, 0)


def test_a_call_that_fails_bills_nothing(complete, client, emulator, at):
    with pytest.raises(litellm.InternalServerError):
        complete(**at("bad"))
    is_settled(client, emulator, 0)


def test_a_retry_that_succeeds_is_billed_once(complete, client, emulator, provider, at):
    fallback = at("good") | {"model": "openai/good"}
    answer = complete(**at("bad"), num_retries=1, fallbacks=[fallback])
    assert answer.usage.total_tokens == TOLD
    assert provider.asked[-1] == "good"
    is_settled(client, emulator, TOLD)


@pytest.mark.parametrize("streams", [False, True])
def test_a_fallback_of_the_router_is_billed_once(client, emulator, provider, at, streams):
    names = ("bad", "good")
    models = [
        {"model_name": name, "litellm_params": at(name) | {"messages": None}} for name in names
    ]
    for each in models:
        del each["litellm_params"]["messages"]
    router = litellm.Router(models, fallbacks=[{"bad": ["good"]}], num_retries=1)
    complete = held(client, "inference", company=company)(router.completion)
    answer = complete(model="bad", messages=ASKED, stream=streams)
    if streams:
        list(answer)
    assert set(provider.asked) == {"bad", "good"}
    is_settled(client, emulator, TOLD)


def test_a_stream_that_breaks_off_is_billed_by_what_was_seen(
    complete, client, emulator, provider, at
):
    stream = complete(**at("breaks", stream=True))
    # What has not been read when a connection breaks is lost.
    for _ in range(WORDS // 2 - 1):
        next(stream)
    provider.go_on()
    with pytest.raises(Exception, match=r".*"):
        list(stream)
    units = SEEN + WORDS // 2
    eventually(lambda: billed(emulator) > 0)
    assert abs(billed(emulator) - units) <= 1
    assert client.status().open_holds == 0


@pytest.mark.parametrize("leave", ["close", "with", "drop"])
def test_a_stream_that_is_left_is_billed_by_what_was_seen(
    complete, client, emulator, provider, at, leave
):
    stream = complete(**at("slow", stream=True))
    for _ in range(4):
        next(stream)
    if leave == "close":
        stream.close()
        stream.close()
    elif leave == "with":
        with stream:
            pass
    else:
        del stream
        gc.collect()
    provider.go_on()
    eventually(lambda: billed(emulator) > 0)
    assert abs(billed(emulator) - (SEEN + 4)) <= 1
    assert len(bills(emulator)) == 1
    assert client.status().open_holds == 0


def test_a_stream_that_is_left_can_be_read_on_to_its_usage(client, emulator, provider, at):
    complete = held(client, "inference", company=company, drain_for=30)(litellm.completion)
    stream = complete(**at("slow", stream=True))
    next(stream)
    stream.close()
    assert billed(emulator) == 0
    provider.go_on()
    is_settled(client, emulator, TOLD)
    assert list(stream) == []


def test_reading_on_has_a_limit(client, emulator, provider, at):
    complete = held(client, "inference", company=company, drain_for=0.2)(litellm.completion)
    stream = complete(**at("slow", stream=True))
    next(stream)
    stream.close()
    eventually(lambda: billed(emulator) > 0)
    assert SEEN < billed(emulator) <= SEEN + WORDS // 2 + 1
    provider.go_on()


def test_an_answer_out_of_the_cache_is_not_billed(complete, client, emulator, monkeypatch, at):
    monkeypatch.setattr(litellm, "cache", litellm.Cache(type="local"))
    first = complete(**at("good", caching=True))
    eventually(lambda: billed(emulator) == TOLD)
    again = complete(**at("good", caching=True))
    assert again.choices[0].message.content == first.choices[0].message.content
    is_settled(client, emulator, TOLD)


def test_a_long_answer_has_more_held_as_it_comes(client, emulator, at):
    complete = held(client, "inference", company=company, usage=2)(litellm.completion)
    stream = complete(**at("good", stream=True))
    assert stream.hold.held == 2
    list(stream)
    assert stream.hold.held > WORDS
    eventually(lambda: billed(emulator) == TOLD)
    assert client.status().open_holds == 0


def test_what_is_held_at_first_is_the_prompt_and_the_longest_answer_up_to_a_limit(client, at):
    def held_for(limit, **arguments):
        metered = held(client, "inference", company=company, most=limit)
        with metered(litellm.completion)(**at("good", stream=True, **arguments)) as stream:
            return stream.hold.held

    assert held_for(9999, max_tokens=100) == SEEN + 100
    assert held_for(9999, max_completion_tokens=100, n=2) == SEEN + 200
    assert held_for(9999) == SEEN + 1024
    assert held_for(50) == 50


def test_embeddings_are_held_for_by_their_prompt_alone(client, emulator):
    embed = held(client, "inference", company=company)(litellm.embedding)
    answer = embed(model="text-embedding-3-small", input=["to be"], mock_response=[0.1, 0.2])
    is_settled(client, emulator, answer.usage.total_tokens)


def test_the_responses_api_is_billed_by_its_usage(client, emulator):
    respond = held(client, "inference", company=company)(litellm.responses)
    answer = respond(model="gpt-4o", input="Which numbers are prime?", mock_response="Two")
    is_settled(client, emulator, answer.usage.total_tokens)


def test_a_function_that_waits_needs_a_client_that_waits(emulator):
    client = AsyncSchematic(API_KEY, AsyncSchematicConfig(**streaming(emulator)))
    with pytest.raises(TypeError, match="needs a Schematic"):
        held(client, "inference", company=company)(litellm.completion)


# Asynchronous


async def settled(emulator, units):
    await eventually_async(lambda: billed(emulator) == units)
    assert len(bills(emulator)) == 1


async def test_an_asynchronous_answer_is_billed(acomplete, emulator, at):
    assert (await acomplete(**at("good"))).usage.total_tokens == TOLD
    await settled(emulator, TOLD)


async def test_an_asynchronous_stream_is_billed(acomplete, emulator, at):
    chunks = [chunk async for chunk in await acomplete(**at("good", stream=True))]
    assert not any(getattr(chunk, "usage", None) for chunk in chunks)
    await settled(emulator, TOLD)


async def test_an_asynchronous_company_without_credits_is_denied(acomplete, emulator, provider, at):
    with pytest.raises(CreditsDenied):
        await acomplete(**at("good", user="none"))
    with pytest.raises(litellm.InternalServerError):
        await acomplete(**at("bad"))
    assert provider.asked == ["bad"]
    assert billed(emulator) == 0


async def test_an_asynchronous_stream_that_is_left_is_billed_by_what_was_seen(
    acomplete, emulator, provider, at
):
    stream = await acomplete(**at("slow", stream=True))
    for _ in range(4):
        await stream.__anext__()
    await stream.aclose()
    provider.go_on()
    await eventually_async(lambda: billed(emulator) > 0)
    assert abs(billed(emulator) - (SEEN + 4)) <= 1


@pytest.mark.parametrize("drain_for", [0, 30])
async def test_a_task_that_is_cancelled_in_mid_stream_is_billed(emulator, provider, at, drain_for):
    fields = streaming(emulator, event_buffer_period=0.05)
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
        metered = held(client, "inference", company=company, drain_for=drain_for)
        complete = metered(litellm.acompletion)
        seen = []

        async def read():
            stream = await complete(**at("slow", stream=True))
            while True:
                seen.append(await stream.__anext__())

        task = asyncio.ensure_future(read())
        await eventually_async(lambda: len(seen) == WORDS // 2 or task.done())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        provider.go_on()
        await eventually_async(lambda: billed(emulator) > 0)
        expected = TOLD if drain_for else SEEN + WORDS // 2
        assert abs(billed(emulator) - expected) <= (0 if drain_for else 1)
        assert client.status().open_holds == 0


@pytest.mark.parametrize("is_held", [False, True])
async def test_a_task_that_is_cancelled_before_its_answer_holds_and_bills_nothing(
    acomplete, either, emulator, is_held
):
    waiting = {"model": "gpt-4o", "messages": ASKED, "mock_response": "Two", "mock_delay": 60}
    task = asyncio.ensure_future(acomplete(**waiting))
    await asyncio.sleep(0)
    if is_held:
        await eventually_async(lambda: either.status().open_holds == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually_async(lambda: either.status().open_holds == 0)
    assert billed(emulator) == 0
