"""Tokens that answers of language models say they have used.

Reads what OpenAI, Anthropic and LiteLLM return, objects or dicts, whole or in chunks, by the names
of their fields. It must import none of those libraries, and must never guess: what tells no tokens
counts as 0 in a stream, and is an error as a whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

# Values of `object` and `type` of what comes as one piece, and so has to tell its usage.
_WHOLE = frozenset({"chat.completion", "response", "message", "list"})
# The last events of a stream of the Responses API: they carry the whole response.
_RESPONSE_ENDED = frozenset({"response.completed", "response.incomplete", "response.failed"})
# What Anthropic counts as input: what was read from a cache or written to it is told apart.
_INPUT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def units_of(response: object) -> int:
    """Return the tokens, prompt and answer, that a response or a chunk of a stream tells.

    Chunks sum up to the tokens of their stream: of Anthropic's events `message_start` tells the
    prompt's and `message_delta` the answer's; of OpenAI's chunks only the last tells any (chat
    completions: with `stream_options={"include_usage": True}`). Where a provider repeats its totals
    from chunk to chunk, count with `TokenCount`.

    Args:
        response: of chat completions, legacy completions, embeddings, the Responses API or
            Anthropic's messages; whole or a chunk; an object of `openai`, `anthropic` or
            `litellm`, or the same as a dict.

    Raises:
        ValueError: a whole response without usage, or a usage without tokens.
        TypeError: it is none of those.

    """
    told = _read(response)
    return 0 if told is None else told.own


class TokenCount:
    """Counts the tokens of one stream, also where chunks repeat totals or correct them upwards.

    It is a function of the chunk, as `hold.stream(chunks, TokenCount())` wants it. `prompt` and
    `answer` are what was told so far; `is_final` tells whether the stream has told its totals.
    """

    def __init__(self) -> None:
        self.prompt = 0
        self.answer = 0
        self.is_final = False
        self._counted = 0

    def __call__(self, chunk: object) -> int:
        """Return the tokens that this chunk tells beyond those before it.

        Raises:
            ValueError, TypeError: as of `units_of`.

        """
        told = _read(chunk)
        if told is None:
            return 0
        self.prompt = max(self.prompt, told.prompt)
        self.answer = max(self.answer, told.answer)
        self.is_final = self.is_final or told.is_final
        more = self.prompt + self.answer - self._counted
        self._counted += more
        return more


class _Told(NamedTuple):
    """What one response or chunk tells."""

    prompt: int
    answer: int
    own: int  # what it adds in a sum over the stream
    is_final: bool = True


def _read(response: object) -> _Told | None:
    """Read what is told; None if it is a chunk that tells nothing."""
    kind = _field(response, "type")
    if kind == "message_start":
        return _read_start(_field(response, "message"))
    usage = _field(response, "usage")
    if kind == "message_delta" and usage is not None:
        told = _read_usage(usage)
        return told._replace(own=told.answer)
    if isinstance(kind, str) and kind.startswith("response."):
        return _read(_field(response, "response")) if kind in _RESPONSE_ENDED else None
    if usage is not None and kind not in {"message_stop", "content_block_stop"}:
        return _read_usage(usage)
    if _field(response, "object") in _WHOLE or kind in _WHOLE:
        raise ValueError(f"the response carries no usage: {_shown(response)}")
    if kind is None and _field(response, "choices") is None:
        raise TypeError(
            f"expected a response of OpenAI, Anthropic or LiteLLM, or a chunk, got {_shown(response)}"
        )
    return None


def _read_start(message: object) -> _Told | None:
    """Read the first event of Anthropic's: its output tokens are told again by the last."""
    usage = _field(message, "usage")
    if usage is None:
        return None
    told = _read_usage(usage)
    return told._replace(own=told.prompt, is_final=False)


def _read_usage(usage: object) -> _Told:
    total = _number(usage, "total_tokens")
    if total is None:
        prompt = [_number(usage, name) for name in _INPUT]
        answer = _number(usage, "output_tokens")
        if answer is None and prompt[0] is None:
            raise ValueError(f"the usage tells no tokens: {_shown(usage)}")
        known = sum(each or 0 for each in prompt)
        return _Told(known, answer or 0, known + (answer or 0))
    answer = _number(usage, "completion_tokens")
    if answer is None:
        answer = _number(usage, "output_tokens") or 0
    return _Told(total - answer, answer, total)


def _number(usage: object, name: str) -> int | None:
    value = _field(usage, name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a number of tokens, got {value!r}")
    return value


def _field(value: object, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None)


def _shown(value: object) -> str:
    text = repr(value)
    most = 120
    return text if len(text) <= most else text[:most] + "..."
