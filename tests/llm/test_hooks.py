"""What the proxy does seldom, by calls of the callback's hooks as it makes them."""

from __future__ import annotations

import gc

import litellm
import pytest

from schematic_native import AsyncSchematic, AsyncSchematicConfig, Schematic, SchematicConfig
from schematic_native.integrations.litellm import HoldLogger
from tests.client.hold_worlds import billed, bills
from tests.conftest import API_KEY, eventually_async, streaming

fastapi = pytest.importorskip("fastapi")
pytestmark = pytest.mark.filterwarnings("ignore")
TOLD = 42
ANSWER = litellm.ModelResponse(
    choices=[{"message": {"role": "assistant", "content": "Two"}}],
    usage={"prompt_tokens": 12, "completion_tokens": 30, "total_tokens": TOLD},
)


class Logging:
    """Lives as long as a request of the proxy does."""


@pytest.fixture
def client(emulator):
    config = SchematicConfig(**streaming(emulator, event_buffer_period=0.05))
    with Schematic(API_KEY, config) as client:
        yield client


@pytest.fixture
def logger(client):
    return HoldLogger(client, "inference", company=lambda _, data: data.get("company"))


@pytest.fixture
def request_data():
    return {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Which numbers are prime?"}],
        "company": {"id": "acme"},
        "litellm_logging_obj": Logging(),
    }


async def begin(logger, data, call_type="acompletion"):
    await logger.async_pre_call_hook(None, None, data, call_type)


async def fail(logger, data):
    await logger.async_post_call_failure_hook(data, RuntimeError("withheld"), None)


async def test_an_answer_that_is_withheld_is_billed(logger, client, emulator, request_data):
    await begin(logger, request_data)
    await logger.async_post_call_success_deployment_hook(request_data, ANSWER, None)
    await fail(logger, request_data)
    await fail(logger, request_data)
    await eventually_async(lambda: billed(emulator) == TOLD)
    assert len(bills(emulator)) == 1
    assert client.status().open_holds == 0


async def test_of_several_answers_the_one_that_is_given_is_billed(logger, emulator, request_data):
    await begin(logger, request_data)
    for _ in range(2):
        await logger.async_post_call_success_deployment_hook(request_data, ANSWER, None)
    await logger.async_post_call_success_hook(request_data, None, ANSWER)
    await eventually_async(lambda: billed(emulator) == TOLD)
    assert len(bills(emulator)) == 1


async def test_a_request_that_the_proxy_forgets_holds_nothing(
    logger, client, emulator, request_data
):
    await begin(logger, request_data)
    assert client.status().open_holds == 1
    del request_data["litellm_logging_obj"]
    gc.collect()
    await eventually_async(lambda: client.status().open_holds == 0)
    assert billed(emulator) == 0


async def test_a_stream_that_is_not_held_for_passes(logger, client, request_data):
    async def chunks():
        yield ANSWER

    hook = logger.async_post_call_streaming_iterator_hook(None, chunks(), request_data)
    assert [chunk async for chunk in hook] == [ANSWER]
    assert client.status().open_holds == 0


@pytest.mark.parametrize("call_type", ["acompletion", "image_generation", "moderation"])
async def test_what_has_no_company_or_no_tokens_is_not_held_for(
    logger, client, request_data, call_type
):
    if call_type == "acompletion":
        del request_data["company"]
    await begin(logger, request_data, call_type)
    assert client.status().open_holds == 0
    await logger.async_post_call_success_hook(request_data, None, ANSWER)


async def test_who_is_denied_is_told_the_reason(logger, client, request_data):
    request_data["company"] = {"id": "none"}
    with pytest.raises(fastapi.HTTPException) as denied:
        await begin(logger, request_data)
    assert (denied.value.status_code, denied.value.detail) == (
        402,
        {"error": "lease_acquire_failed"},
    )
    assert client.status().open_holds == 0


async def test_the_name_of_a_hold_is_not_the_callers(logger, client, request_data):
    request_data["litellm_metadata"] = {"schematic_hold": "another", "kept": 1}
    request_data["metadata"] = {"schematic_hold": "another"}
    await begin(logger, request_data)
    assert request_data["metadata"] == {}
    assert request_data["litellm_metadata"]["kept"] == 1
    await fail(logger, request_data)
    assert client.status().open_holds == 0


def test_an_asynchronous_client_is_refused(emulator):
    client = AsyncSchematic(API_KEY, AsyncSchematicConfig(**streaming(emulator)))
    with pytest.raises(TypeError, match="client must be a Schematic"):
        HoldLogger(client, "inference", company=lambda *_: None)
