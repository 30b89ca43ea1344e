"""How the tokens of responses and streams are counted, by the shape of the answer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from schematic_native import Schematic, SchematicConfig
from schematic_native.integrations import TokenCount, units_of
from tests.client.hold_worlds import billed
from tests.conftest import ACME, API_KEY, eventually, streaming

anthropic = pytest.importorskip("anthropic.types")
openai = pytest.importorskip("openai.types")
chat = pytest.importorskip("openai.types.chat")
responses = pytest.importorskip("openai.types.responses")

USAGE = {"prompt_tokens": 12, "completion_tokens": 30, "total_tokens": 42}
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "to be"},
            "logprobs": None,
        }
    ],
    "usage": USAGE,
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt",
    "output": [],
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 42,
    },
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "to be"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 2,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 7,
        "output_tokens": 30,
    },
}
EMBEDDINGS = {
    "object": "list",
    "model": "embed",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 42, "total_tokens": 42},
}


def chunk(text, usage=None):
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt",
        "choices": choices,
        "usage": usage,
    }


CHUNKS = [chunk("to "), chunk("be"), chunk(None, USAGE)]
REPEATED = [
    chunk("to ", {"prompt_tokens": 12, "completion_tokens": 10, "total_tokens": 22}),
    chunk("be", USAGE),
    chunk(None, USAGE),
]
TEXT = {"type": "text_delta", "text": "to be"}
EVENTS = [
    {
        "type": "message_start",
        "message": MESSAGE | {"usage": MESSAGE["usage"] | {"output_tokens": 1}},
    },
    {"type": "content_block_delta", "index": 0, "delta": TEXT},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 30, "input_tokens": 2},
    },
    {"type": "message_stop"},
]
ENDED = [
    {"type": "response.created", "sequence_number": 0, "response": RESPONSE | {"usage": None}},
    {
        "type": "response.output_text.delta",
        "sequence_number": 1,
        "item_id": "item",
        "output_index": 0,
        "content_index": 0,
        "delta": "to be",
        "logprobs": [],
    },
    {"type": "response.completed", "sequence_number": 2, "response": RESPONSE},
]
KINDS = {
    "message_start": "RawMessageStartEvent",
    "content_block_delta": "RawContentBlockDeltaEvent",
    "message_delta": "RawMessageDeltaEvent",
    "message_stop": "RawMessageStopEvent",
    "response.created": "ResponseCreatedEvent",
    "response.output_text.delta": "ResponseTextDeltaEvent",
    "response.completed": "ResponseCompletedEvent",
}


def as_object(value):
    """The same as the library's own object."""
    kind = value.get("type")
    if kind == "message":
        return anthropic.Message.model_validate(value)
    if kind is not None:
        home = responses if kind.startswith("response.") else anthropic
        return getattr(home, KINDS[kind]).model_validate(value)
    model = {
        "chat.completion": chat.ChatCompletion,
        "chat.completion.chunk": chat.ChatCompletionChunk,
        "response": responses.Response,
        "list": openai.CreateEmbeddingResponse,
    }[value["object"]]
    return model.model_validate(value)


@pytest.fixture(params=["dict", "object"])
def shaped(request):
    return dict if request.param == "dict" else as_object


@pytest.mark.parametrize(
    "whole", [COMPLETION, RESPONSE, MESSAGE, EMBEDDINGS], ids=lambda each: each["model"]
)
def test_a_whole_response_tells_its_tokens(whole, shaped):
    assert units_of(shaped(whole)) == 42


@pytest.mark.parametrize(
    "stream", [CHUNKS, EVENTS, ENDED], ids=["openai", "anthropic", "responses"]
)
def test_the_chunks_of_a_stream_sum_up_to_its_tokens(stream, shaped):
    assert sum(units_of(shaped(each)) for each in stream) == 42
    count = TokenCount()
    assert sum(count(shaped(each)) for each in stream) == 42
    assert (count.prompt, count.answer, count.is_final) == (12, 30, True)


def test_totals_that_are_repeated_are_counted_once(shaped):
    count = TokenCount()
    assert [count(shaped(each)) for each in REPEATED] == [22, 20, 0]


def test_a_prompt_that_is_told_with_the_answer_is_counted():
    empty = EVENTS[0] | {"message": {"usage": {"input_tokens": 0, "output_tokens": 0}}}
    told = EVENTS[2] | {"usage": {"input_tokens": 12, "output_tokens": 30}}
    count = TokenCount()
    assert [count(empty), count.is_final, count(told), count.is_final] == [0, False, 42, True]


@pytest.mark.parametrize("whole", [COMPLETION, RESPONSE], ids=["openai", "responses"])
def test_a_whole_response_without_usage_is_an_error(whole, shaped):
    with pytest.raises(ValueError, match="carries no usage"):
        units_of(shaped(whole | {"usage": None}))


@pytest.mark.parametrize("other", [None, "text", 7, {}, {"choices": None}, object(), [CHUNKS]])
def test_what_is_no_response_is_a_type_error_that_shows_it(other):
    with pytest.raises(TypeError, match="expected a response of OpenAI"):
        units_of(other)


@pytest.mark.parametrize("usage", [{}, {"type": "duration", "seconds": 3}])
def test_a_usage_without_tokens_is_an_error(usage):
    with pytest.raises(ValueError, match="tells no tokens"):
        units_of({"text": "spoken", "usage": usage})


@pytest.mark.parametrize("tokens", [-1, 1.5, "42", True])
def test_tokens_that_are_no_count_are_an_error(tokens):
    with pytest.raises(ValueError, match="total_tokens must be a number of tokens"):
        units_of(COMPLETION | {"usage": {"total_tokens": tokens}})


def test_a_long_response_is_not_shown_whole():
    with pytest.raises(ValueError, match=r"\.\.\.$"):
        units_of(COMPLETION | {"usage": None, "id": "x" * 1000})


def test_a_stream_is_held_for_and_billed_by_its_usage(emulator):
    config = SchematicConfig(**streaming(emulator, event_buffer_period=0.05))
    with Schematic(API_KEY, config) as client:
        with client.hold("inference", ACME, usage=100) as hold:
            assert len(list(hold.stream(map(as_object, EVENTS), TokenCount()))) == 4
        eventually(lambda: billed(emulator) == 42)


def test_no_library_is_loaded():
    program = (
        "import sys, schematic_native.integrations; "
        "print([m for m in ('anthropic', 'litellm', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
