"""A provider of language models on loopback, which speaks chat completions as OpenAI does."""

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


class Provider:
    """Answers by the name of the model: `good`, `slow` in mid-stream until `go_on`, `bad`, `breaks`."""

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

    async def _chunks(self, model: str, tells: bool) -> AsyncIterator[str]:
        for number in range(WORDS):
            if number == WORDS // 2:
                if model == "breaks":
                    raise ConnectionError("the provider has gone")
                if model == "slow":
                    await self._going_on.wait()
            yield _event(model, [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}])
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


@contextlib.contextmanager
def serving() -> Iterator[tuple[Provider, str]]:
    """Serve a provider; gives it and its URL."""
    provider = Provider()
    app = Starlette(routes=[Route("/v1/chat/completions", provider.complete, methods=["POST"])])
    with asgi(app) as url:
        yield provider, f"{url}/v1"
