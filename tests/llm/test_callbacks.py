"""The callback for calls of the SDK that other code makes."""

from __future__ import annotations

import gc

import litellm
import pytest

from schematic_native import AsyncSchematic, AsyncSchematicConfig, CreditsDenied
from schematic_native.integrations.litellm import CallHoldLogger
from tests.client.hold_worlds import billed, bills
from tests.conftest import API_KEY, eventually, eventually_async, streaming
from tests.llm.provider import ANSWER, ASKED, PROMPT, WORDS

pytestmark = pytest.mark.filterwarnings("ignore")
TOLD = PROMPT + ANSWER


def company(call):
    name = call.get("user") or "acme"
    return None if name == "free" else {"id": name}


@pytest.fixture(autouse=True)
def logger(client, monkeypatch):
    logger = CallHoldLogger(client, "inference", company=company)
    for kind in ("callbacks", "success_callback", "failure_callback", "input_callback"):
        monkeypatch.setattr(litellm, kind, [logger] if kind == "callbacks" else [])
    for kind in ("_async_success_callback", "_async_failure_callback", "_async_input_callback"):
        monkeypatch.setattr(litellm, kind, [])
    return logger


async def is_settled(client, emulator, units):
    await eventually_async(lambda: billed(emulator) == units)
    await eventually_async(lambda: client.status().open_holds == 0)
    assert len(bills(emulator)) == 1


async def test_an_answer_is_billed(client, emulator, at):
    assert (await litellm.acompletion(**at("good"))).usage.total_tokens == TOLD
    await is_settled(client, emulator, TOLD)


async def test_a_stream_is_billed_by_its_usage(client, emulator, at):
    options = {"include_usage": True}
    stream = await litellm.acompletion(**at("good", stream=True, stream_options=options))
    assert len([chunk async for chunk in stream]) > WORDS
    await is_settled(client, emulator, TOLD)


async def test_a_company_without_credits_is_denied(client, emulator, provider, at):
    with pytest.raises(CreditsDenied):
        await litellm.acompletion(**at("good", user="none"))
    assert provider.asked == []
    assert billed(emulator) == 0
    assert client.status().open_holds == 0


async def test_an_attempt_that_fails_bills_nothing_and_its_fallback_once(
    client, emulator, provider, at
):
    models = [{"model_name": name, "litellm_params": at(name)} for name in ("bad", "good")]
    for each in models:
        del each["litellm_params"]["messages"]
    router = litellm.Router(models, fallbacks=[{"bad": ["good"]}], num_retries=1)
    assert (await router.acompletion(model="bad", messages=ASKED)).usage.total_tokens == TOLD
    assert provider.asked.count("bad") == 2
    await is_settled(client, emulator, TOLD)


@pytest.mark.parametrize("model", ["breaks", "slow"])
async def test_a_stream_that_breaks_off_or_is_left_holds_nothing_once_it_is_collected(
    client, emulator, provider, at, model
):
    async def read():
        stream = await litellm.acompletion(**at(model, stream=True))
        for _ in range(WORDS // 2 - 1):
            await stream.__anext__()
        assert client.status().open_holds == 1
        if model == "breaks":
            provider.go_on()
            with pytest.raises(Exception, match=r".*"):
                [_ async for _ in stream]
        else:
            await stream.aclose()

    await read()
    provider.go_on()
    await eventually_async(lambda: gc.collect() is None or client.status().open_holds == 0)
    assert billed(emulator) == 0


async def test_an_answer_out_of_the_cache_is_not_billed(client, emulator, monkeypatch, at):
    monkeypatch.setattr(litellm, "cache", litellm.Cache(type="local"))
    for _ in range(2):
        await litellm.acompletion(**at("good", caching=True))
    await is_settled(client, emulator, TOLD)


async def test_a_call_without_a_company_is_not_held_for(client, emulator, at):
    await litellm.acompletion(**at("good", user="free"))
    litellm.completion(**at("good", user="free"))
    await litellm.acompletion(**at("good"))
    await is_settled(client, emulator, TOLD)


@pytest.mark.parametrize("streams", [False, True])
def test_a_synchronous_call_is_billed_when_it_has_been_answered(client, emulator, at, streams):
    options = {"stream_options": {"include_usage": True}} if streams else {}
    answer = litellm.completion(**at("good", stream=streams, **options))
    if streams:
        list(answer)
    eventually(lambda: billed(emulator) == TOLD)
    assert len(bills(emulator)) == 1


def test_a_synchronous_call_of_a_company_without_credits_is_billed_all_the_same(emulator, at):
    litellm.completion(**at("good", user="none"))
    eventually(lambda: len(bills(emulator)) == 1)
    assert bills(emulator)[0]["body"]["quantity"] == TOLD


def test_an_asynchronous_client_is_refused(emulator):
    client = AsyncSchematic(API_KEY, AsyncSchematicConfig(**streaming(emulator)))
    with pytest.raises(TypeError, match="client must be a Schematic"):
        CallHoldLogger(client, "inference", company=company)
