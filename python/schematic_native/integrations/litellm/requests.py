"""Calls that are under way: their holds, found again by name when LiteLLM tells of their ends.

A call that LiteLLM forgets without a word, as one whose task was cancelled, is settled with what was
seen of it.
"""

# ruff: noqa: SLF001 - a hold is a part of this package

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schematic_native.client import Hold
    from schematic_native.integrations.litellm.bills import Bill

# What is held for, by the names that LiteLLM has for its functions and endpoints.
EMBEDDINGS = frozenset({"aembedding", "embedding", "embeddings"})
METERED = EMBEDDINGS | {
    "acompletion",
    "anthropic_messages",
    "aresponses",
    "atext_completion",
    "completion",
    "responses",
    "text_completion",
}


class Request:
    """One call: its hold, its bill, and the last answer that has come."""

    def __init__(self, hold: Hold, bill: Bill) -> None:
        self.hold = hold
        self.bill = bill
        self.answer: Any = None

    def settle(self) -> None:
        """End the hold with what was used."""
        if self.answer is not None:
            self.bill.see(self.answer)
        self.bill.charge(self.hold)
        self.hold._end_unawaited()


class OpenRequests:
    """Those that have not ended."""

    def __init__(self) -> None:
        self._by_name: dict[str, Request] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def keep(self, name: str, request: Request, owner: object) -> None:
        """Keep a request until it is taken, or what LiteLLM keeps of the call is collected."""
        self._by_name[name] = request
        if owner is not None:
            weakref.finalize(owner, _forget, weakref.ref(self), name, request).atexit = False

    def get(self, name: str) -> Request | None:
        """Find a request that goes on."""
        return self._by_name.get(name)

    def take(self, name: str) -> Request | None:
        """Find a request that ends now; nobody else finds it any more."""
        return self._by_name.pop(name, None)


def _forget(requests: weakref.ref[OpenRequests], name: str, request: Request) -> None:
    live = requests()
    # The name may be that of another by now.
    if live is not None and live.get(name) is request and live.take(name) is not None:
        request.settle()
