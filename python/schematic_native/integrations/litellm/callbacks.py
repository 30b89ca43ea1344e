"""A callback for LiteLLM's SDK, where the calls themselves are made by other code.

Each attempt is held for and billed for itself: a retry, or a fallback to another model, is a further
attempt, and one that fails bills nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.integrations.litellm.bills import Bill
from schematic_native.integrations.litellm.estimates import MOST, estimate
from schematic_native.integrations.litellm.holding import HoldingLogger
from schematic_native.integrations.litellm.requests import METERED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schematic_native.client import Schematic
    from schematic_native.config.options import LookupKeys


class CallHoldLogger(HoldingLogger):
    """Holds credits for each call that the SDK makes: for `litellm.callbacks`.

    An asynchronous call is held for before it is made, and raises CreditsDenied if that is denied. A
    synchronous one cannot be denied, as LiteLLM ignores what a callback raises: it is billed when it
    has been answered. An answer out of LiteLLM's cache is not billed. Of a stream that breaks off or is
    left LiteLLM tells a callback nothing, so that nothing is billed. `held` does better in each case.

    Args:
        client: a Schematic.
        flag_key: the flag, whose event counts tokens.
        company: a function of the call's keywords that returns the company's lookup keys, or None for
            a call that is not held for.
        user: the same of the user.
        most: tokens to hold at first at most; a hold grows when it is used up.
        keywords: further ones of `Schematic.hold`.

    Raises:
        TypeError: the client is asynchronous.

    """

    def __init__(
        self,
        client: Schematic,
        flag_key: str,
        *,
        company: Callable[[Mapping[str, Any]], LookupKeys | None],
        user: Callable[[Mapping[str, Any]], LookupKeys | None] | None = None,
        most: int = MOST,
        **keywords: Any,
    ) -> None:
        super().__init__(client, flag_key, most, {"required": True, **keywords})
        self._company = company
        self._user = user

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: Any
    ) -> dict[str, Any] | None:
        """Hold for an attempt, or deny it."""
        kind, name = getattr(call_type, "value", call_type), kwargs.get("litellm_call_id")
        # A call that LiteLLM makes for another one has its name, and is held for with that.
        if kind not in METERED or not name or name in self._open:
            return None
        company = self._company(kwargs)
        if company is None:
            return None
        user = None if self._user is None else self._user(kwargs)
        request = await self._begin(kwargs, kind, company, user)
        self._open.keep(name, request, kwargs.get("litellm_logging_obj"))
        return None

    async def async_post_call_success_deployment_hook(
        self, request_data: Mapping[str, Any], response: Any, call_type: object
    ) -> None:
        """Settle with the answer."""
        del call_type
        self._end(request_data, response)

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Mapping[str, Any],
        exception: Exception,
        call_type: object,
        fallback_depth: int | None = None,
    ) -> None:
        """Give back what was held for an attempt that failed."""
        del exception, call_type, fallback_depth
        self._end(request_data, None)

    async def async_log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: object, end_time: object
    ) -> None:
        """Settle with what a stream came to, or with nothing what the cache answered."""
        del start_time, end_time
        self._end(kwargs, None if kwargs.get("cache_hit") else response_obj)

    async def async_log_failure_event(
        self, kwargs: Mapping[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Give back what was held for a stream that broke off."""
        del response_obj, start_time, end_time
        self._end(kwargs, None)

    def log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: object, end_time: object
    ) -> None:
        """Bill a synchronous call, which nobody could hold for."""
        del start_time, end_time
        asked = {**kwargs, **(kwargs.get("optional_params") or {})}
        company = None if kwargs.get("cache_hit") else self._company(asked)
        if company is None or kwargs.get("call_type") not in METERED:
            return
        user = None if self._user is None else self._user(asked)
        bill = Bill(estimate(asked).prompt)
        bill.see(response_obj)
        if not bill.units:
            return
        # What was used is billed even if nothing is left of it to hold.
        terms = {"on_acquire_failure": "fail-open", **self._keywords}
        terms |= {"required": False, "usage": bill.units}
        with self._client.hold(self._flag_key, company, user, **terms) as hold:
            bill.charge(hold)

    def _end(self, call: Mapping[str, Any], response: Any) -> None:
        request = self._open.take(call.get("litellm_call_id", ""))
        if request is not None:
            request.answer = response
            request.settle()
