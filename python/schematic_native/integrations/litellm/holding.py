"""What callbacks of LiteLLM have in common: how they begin a hold.

LiteLLM looks for hooks in a callback's own class, so that none of them may be here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litellm.integrations.custom_logger import CustomLogger

from schematic_native.client import Schematic
from schematic_native.integrations.litellm.bills import Bill
from schematic_native.integrations.litellm.calls import enter
from schematic_native.integrations.litellm.estimates import estimate
from schematic_native.integrations.litellm.requests import EMBEDDINGS, OpenRequests, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schematic_native.config.options import LookupKeys


class HoldingLogger(CustomLogger):  # type: ignore[misc]  # of a library without types
    """A callback that holds for calls, and finds their holds again."""

    def __init__(
        self, client: Schematic, flag_key: str, most: int, keywords: Mapping[str, Any]
    ) -> None:
        super().__init__()
        if not isinstance(client, Schematic):
            raise TypeError(f"client must be a Schematic, got {client!r}")
        self._client = client
        self._flag_key = flag_key
        self._most = most
        self._keywords = keywords
        self._open = OpenRequests()

    async def _begin(
        self,
        call: Mapping[str, Any],
        kind: str,
        company: LookupKeys,
        user: LookupKeys | None,
    ) -> Request:
        """Hold for a call by an estimate.

        Raises:
            CreditsDenied: denied, though required.

        """
        likely = estimate(call, has_answer=kind not in EMBEDDINGS)
        terms = {"usage": likely.usage(self._most), **self._keywords}
        hold = self._client.hold(self._flag_key, company, user, **terms)
        await enter(hold)
        return Request(hold, Bill(likely.prompt))
