"""A callback for LiteLLM's proxy that holds for each request, and settles with what was used.

A request is billed once: by the answer that it gets, whatever retries and fallbacks the proxy needed.
"""

# ruff: noqa: SLF001 - a hold is a part of this package

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import anyio

from schematic_native.integrations.litellm.estimates import MOST
from schematic_native.integrations.litellm.holding import HoldingLogger
from schematic_native.integrations.litellm.requests import METERED
from schematic_native.integrations.litellm.streams import AsyncHeldStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from schematic_native.client import Hold, Schematic
    from schematic_native.config.options import LookupKeys
    from schematic_native.integrations.litellm.requests import Request

PAYMENT_REQUIRED = 402
# The name of a request's hold in its metadata, which LiteLLM hands on.
_NAME = "schematic_hold"
_METADATA = ("metadata", "litellm_metadata")


class HoldLogger(HoldingLogger):
    """Holds credits for each request to the proxy: for `litellm_settings.callbacks`.

    Chat completions, legacy completions, the Responses API, Anthropic's messages and embeddings are
    held for, by an estimate; the tokens that the answer tells are billed. A request that is denied
    is answered with status 402 and the reason. One that fails bills nothing, unless an answer had
    come and was then withheld; a stream that fails or is left bills what came of it. An answer out
    of the proxy's cache is not billed.

    Args:
        client: a Schematic: it delivers what is left when the proxy ends.
        flag_key: the flag, whose event counts tokens.
        company: a function of the key's own data (LiteLLM's UserAPIKeyAuth) and the request's body that
            returns the company's lookup keys, or None for a request that is not held for.
        user: the same of the user.
        most: tokens to hold at first at most; a hold grows as an answer comes.
        drain_for: seconds for which a stream that was left is read on, up to its usage, so that the
            bill is the provider's; by default what was seen is billed, and its tokens are counted here.
        keywords: further ones of `Schematic.hold`.

    Raises:
        TypeError: the client is asynchronous.

    """

    def __init__(
        self,
        client: Schematic,
        flag_key: str,
        *,
        company: Callable[[Any, dict[str, Any]], LookupKeys | None],
        user: Callable[[Any, dict[str, Any]], LookupKeys | None] | None = None,
        most: int = MOST,
        drain_for: float = 0,
        **keywords: Any,
    ) -> None:
        # A denial is answered, not raised.
        super().__init__(client, flag_key, most, {**keywords, "required": False})
        self._company = company
        self._user = user
        self._drain_for = drain_for

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: object, data: dict[str, Any], call_type: str
    ) -> None:
        """Hold for a request, or deny it."""
        del cache
        if call_type not in METERED:
            return
        company = self._company(user_api_key_dict, data)
        if company is None:
            return
        user = None if self._user is None else self._user(user_api_key_dict, data)
        request = await self._begin(data, call_type, company, user)
        if not request.hold.allowed:
            await _deny(request.hold)
        self._keep(request, data)

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: object
    ) -> None:
        """See an answer, before the proxy decides whether the caller gets it."""
        del call_type
        request = self._open.get(_name_of(request_data))
        if request is not None:
            request.answer = response

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: object, response: Any
    ) -> None:
        """Settle with the answer that is given."""
        del user_api_key_dict
        request = self._take(data)
        if request is not None:
            request.answer = response
            request.settle()

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: object,
        traceback_str: str | None = None,
    ) -> None:
        """Settle with what came although the request failed, if anything did."""
        del original_exception, user_api_key_dict, traceback_str
        request = self._take(request_data)
        if request is not None:
            request.settle()

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: object, response: Any, request_data: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """Count a stream as it passes, and settle when it ends or is left."""
        del user_api_key_dict
        request = self._take(request_data)
        if request is None:
            async for chunk in response:
                yield chunk
            return
        chunks = response.__aiter__()
        stream = AsyncHeldStream(chunks, request.hold, request.bill, drain_for=self._drain_for)
        try:
            async for chunk in stream:
                yield chunk
        finally:
            # The proxy closes its own stream after this, so that nothing could be read on then.
            with anyio.CancelScope(shield=True):
                await stream.read_on()

    def _keep(self, request: Request, data: dict[str, Any]) -> None:
        """Keep an open request until a hook ends it, or the proxy has forgotten it."""
        name = uuid.uuid4().hex
        home = next((each for each in _METADATA[::-1] if isinstance(data.get(each), dict)), None)
        if home is None:
            home = _METADATA[0]
            data[home] = {}
        for each in _METADATA:
            if isinstance(data.get(each), dict):
                data[each].pop(_NAME, None)  # a caller's own, if any
        data[home][_NAME] = name
        # No hook is called for a request whose task was cancelled.
        self._open.keep(name, request, data.get("litellm_logging_obj"))

    def _take(self, data: dict[str, Any]) -> Request | None:
        return self._open.take(_name_of(data))


def _name_of(data: dict[str, Any]) -> str:
    for each in _METADATA:
        metadata = data.get(each)
        if isinstance(metadata, dict) and isinstance(metadata.get(_NAME), str):
            return str(metadata[_NAME])
    return ""


async def _deny(hold: Hold) -> None:
    from fastapi import HTTPException  # noqa: PLC0415 - the proxy has it, the SDK need not

    hold._end_unawaited()
    raise HTTPException(PAYMENT_REQUIRED, {"error": hold.reason})
