"""A provider of language models on loopback, which speaks as OpenAI and Anthropic do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from tests.integrations.servers import asgi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

PROMPT, ANSWER = 11, 100
USAGE = {"prompt_tokens": PROMPT, "completion_tokens": ANSWER, "total_tokens": PROMPT + ANSWER}
WORDS = 20
ASKED = [{"role": "user", "content": "Which numbers are prime?"}]


class Provider:
    """Answers by the name of the model: `good`, `bad`; `slow` and `breaks` wait in mid-stream until `go_on`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.ended: list[str] = []
        self._going_on = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def go_on(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._going_on.set)

    async def complete(self, request: Request) -> Any:
        self._loop = asyncio.get_running_loop()
        asked = await request.json()
        model = asked["model"]
        self.asked.append(model)
        if model == "bad":
            return JSONResponse({"error": {"message": "out of order"}}, 500)
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "word " * WORDS}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return JSONResponse(_body("chat.completion", model, [choice], USAGE))
        tells = (asked.get("stream_options") or {}).get("include_usage")
        return StreamingResponse(self._chunks(model, tells), media_type="text/event-stream")

    async def respond(self, request: Request) -> Any:
        """Answer as the Responses API does."""
        asked = await request.json()
        self.asked.append(asked["model"])
        if not asked.get("stream"):
            return JSONResponse(_RESPONSE)
        begun = _RESPONSE | {"status": "in_progress", "usage": None}
        delta = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "word "}
        events = [
            {"type": "response.created", "response": begun},
            *({"type": "response.output_text.delta", **delta} for _ in range(WORDS)),
            {"type": "response.completed", "response": _RESPONSE},
        ]
        return _as_events(events)

    async def write(self, request: Request) -> Any:
        """Answer as Anthropic's messages do."""
        asked = await request.json()
        self.asked.append(asked["model"])
        if not asked.get("stream"):
            return JSONResponse(_MESSAGE)
        begun = _MESSAGE | {"content": [], "usage": _MESSAGE["usage"] | {"output_tokens": 1}}
        delta = {"type": "text_delta", "text": "word "}
        block = {"type": "text", "text": ""}
        stopped = {"stop_reason": "end_turn", "stop_sequence": None}
        events = [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": block},
            *({"type": "content_block_delta", "index": 0, "delta": delta} for _ in range(WORDS)),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stopped, "usage": {"output_tokens": ANSWER}},
            {"type": "message_stop"},
        ]
        return _as_events(events)

    async def _chunks(self, model: str, tells: bool) -> AsyncIterator[str]:
        for number in range(WORDS):
            if number == WORDS // 2:
                if model in {"slow", "breaks"}:
                    await self._going_on.wait()
                if model == "breaks":
                    raise ConnectionError("the provider has gone")
            yield _event(
                model, [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]
            )
        yield _event(model, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if tells:
            yield _event(model, [], USAGE)
        self.ended.append(model)
        yield "data: [DONE]\n\n"


def _body(kind: str, model: str, choices: list[Any], usage: Any = None) -> dict[str, Any]:
    body = {"id": "chatcmpl-1", "object": kind, "created": 1, "model": model, "choices": choices}
    return body if usage is None else body | {"usage": usage}


def _event(model: str, choices: list[Any], usage: Any = None) -> str:
    return f"data: {json.dumps(_body('chat.completion.chunk', model, choices, usage))}\n\n"


_TEXT = "word " * WORDS
_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": _TEXT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    # As Anthropic tells it: what the cache had is told apart.
    "usage": {
        "input_tokens": PROMPT - 5,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 3,
        "output_tokens": ANSWER,
    },
}
_PART = {"type": "output_text", "text": _TEXT, "annotations": []}
_RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "good",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [_PART],
        }
    ],
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": PROMPT,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": ANSWER,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": PROMPT + ANSWER,
    },
}


def _as_events(events: list[dict[str, Any]]) -> StreamingResponse:
    numbered = (each | {"sequence_number": number} for number, each in enumerate(events))
    lines = [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in numbered]
    return StreamingResponse(iter(lines), media_type="text/event-stream")


@contextlib.contextmanager
def serving() -> Iterator[tuple[Provider, str]]:
    """Serve a provider; gives it and its URL."""
    provider = Provider()
    endpoints = {
        "/v1/chat/completions": provider.complete,
        "/v1/messages": provider.write,
        "/v1/responses": provider.respond,
    }
    app = Starlette(
        routes=[Route(path, each, methods=["POST"]) for path, each in endpoints.items()]
    )
    with asgi(app) as url:
        yield provider, f"{url}/v1"
