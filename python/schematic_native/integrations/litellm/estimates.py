"""How many tokens a call is likely to use, told before it is made; it must not wait for a network.

An estimate decides what is held, and what is billed where a provider has told no usage. It is never
billed in place of a usage that was told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import litellm

# What is assumed of an answer whose length nobody has limited.
ANSWER = 1024
# What is held at first, at most: a hold grows while the answer comes.
MOST = 4096

# LiteLLM brings the tokens of this model along; those of others it may have to download.
_COUNTED_AS = "gpt-3.5-turbo"
_CHARACTERS_A_TOKEN = 4
_ASKED_IN = ("messages", "input", "prompt", "system", "instructions", "tools")
_LIMITED_BY = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# Where text is in requests, answers and chunks of every kind; images and sounds are elsewhere.
_TEXT_IN = (
    "arguments",
    "choices",
    "content",
    "delta",
    "description",
    "function",
    "input",
    "message",
    "name",
    "output",
    "partial_json",
    "reasoning_content",
    "text",
    "thinking",
    "tool_calls",
)


class Estimate(NamedTuple):
    """Tokens of a call that has not been made."""

    prompt: int
    answer: int

    def usage(self, most: int) -> int:
        """Return what to hold at first: a positive number, and not more than `most`."""
        return max(1, min(self.prompt + self.answer, most))


def estimate(call: Mapping[str, Any], *, has_answer: bool = True) -> Estimate:
    """Estimate the tokens of a call from its arguments.

    Args:
        call: the keywords of a function of LiteLLM, or the body of a request to its proxy.
        has_answer: whether the answer costs tokens, which that of an embedding does not.

    """
    asked = [call.get(name) for name in _ASKED_IN]
    return Estimate(tokens_in("".join(texts(asked))), _answer(call) if has_answer else 0)


def _answer(call: Mapping[str, Any]) -> int:
    limits = [limit for limit in (_count(call.get(name)) for name in _LIMITED_BY) if limit]
    return (limits[0] if limits else ANSWER) * (_count(call.get("n")) or 1)


def _count(value: object) -> int:
    """Return a positive number; 0 if it is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return max(0, value)


def tokens_in(text: str) -> int:
    """Count the tokens of a text, about as its model does."""
    if not text:
        return 0
    try:
        return int(litellm.token_counter(model=_COUNTED_AS, text=text))
    except Exception:  # noqa: BLE001 - whatever a tokenizer makes of a text, its call must be billed
        return math.ceil(roughly_in(text))


def roughly_in(text: str) -> float:
    """Tell about how many tokens a text has, as fast as can be."""
    return len(text) / _CHARACTERS_A_TOKEN


def texts(value: Any) -> Iterator[str]:
    """Yield the texts in a request, an answer or a chunk."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from texts(each)
    elif isinstance(value, Mapping):
        for name in _TEXT_IN:
            yield from texts(value.get(name))
    elif hasattr(value, "__dict__"):
        for name in _TEXT_IN:
            yield from texts(getattr(value, name, None))
