"""What one call has used: by the usage that was told, else by what was seen.

A bill never fails: by the time that it is made out, the provider has done the work.
"""

# ruff: noqa: SLF001 - a hold is a part of this package

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING, Any

from schematic_native.integrations.litellm.estimates import roughly_in, texts, tokens_in
from schematic_native.integrations.tokens import TokenCount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.client import AsyncHold, Hold


class Bill:
    """The tokens of one call, as its response or its chunks go by.

    Args:
        prompt: the tokens that its prompt is estimated to have.

    """

    def __init__(self, prompt: int) -> None:
        self._prompt = prompt
        self._count = TokenCount()
        self._seen: list[str] = []
        self._rough = 0.0
        self._has_begun = False
        self._is_cached = False
        self._last: Any = None

    def see(self, item: Any) -> None:
        """Take a response, a chunk, or lines of server-sent events into account."""
        for each in _events(item):
            self._has_begun = True
            with contextlib.suppress(TypeError, ValueError):  # of what tells no usage
                self._count(each)
            text = "".join(_answered(each))
            if text:
                self._seen.append(text)
                self._rough += roughly_in(text)
        self._last = item
        if _hidden(item, "cache_hit") is True:
            self._is_cached = True

    @property
    def is_final(self) -> bool:
        """Whether the usage has been told."""
        return self._count.is_final

    @property
    def rough(self) -> float:
        """About the tokens so far, fast: for what is held, not for what is billed."""
        return self._prompt + self._rough

    @property
    def units(self) -> int:
        """The tokens so far: none of a call that came to nothing, or was answered from a cache."""
        if self._is_cached or not self._has_begun:
            return 0
        count = self._count
        if not count.is_final:
            # LiteLLM notes a usage that the caller did not ask for on the last chunk.
            self._count_hidden(_hidden(self._last, "usage"))
            count = self._count
        if count.is_final:
            return count.prompt + count.answer
        return (count.prompt or self._prompt) + max(count.answer, tokens_in("".join(self._seen)))

    def charge(self, hold: Hold | AsyncHold) -> None:
        """Count what was used up to a hold that ends now: it need not hold more for that."""
        hold._low = -math.inf
        hold.use(self.units)

    def _count_hidden(self, usage: Any) -> None:
        if usage is not None:
            count = TokenCount()
            with contextlib.suppress(TypeError, ValueError):
                if count({"usage": usage}):
                    self._count = count


def _events(item: Any) -> Iterator[Any]:
    """Yield what an item of a stream consists of: the proxy has some as lines of text."""
    if isinstance(item, bytes):
        item = item.decode(errors="replace")
    if not isinstance(item, str):
        yield item
        return
    for line in item.splitlines():
        if line.startswith("data:"):
            with contextlib.suppress(ValueError):  # of the mark at the end, and of a part of a line
                yield json.loads(line[len("data:") :])


def _answered(item: Any) -> Iterator[str]:
    """Yield what an item adds to the answer."""
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    if isinstance(kind, str) and kind.startswith("response."):
        # The Responses API says everything again when a part is done.
        if kind.endswith(".delta"):
            delta = item.get("delta") if isinstance(item, dict) else getattr(item, "delta", None)
            yield from texts(delta)
        return
    yield from texts(item)


def _hidden(item: Any, name: str) -> Any:
    """Read what LiteLLM notes on its own objects."""
    hidden = getattr(item, "_hidden_params", None)
    return hidden.get(name) if isinstance(hidden, dict) else None
