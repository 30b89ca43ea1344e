"""Plain checks of both clients: answered from memory or a cache, or returned as work to wait for.

Nothing here waits or does I/O.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from schematic_native._native import CheckFlagResult
from schematic_native.cache.flag_checks import cache_key
from schematic_native.client.base import BaseClient
from schematic_native.client.event_arguments import read_texts
from schematic_native.client.waiting import Waiting
from schematic_native.leases.requests import (
    CLOSED,
    KEY_CONFLICT,
    NO_PREFLIGHT,
    REASON_OFFLINE,
    TIMED_OUT,
    FlagOutcome,
    FlagRequest,
    FlagsRequest,
    NoAnswer,
    Outcomes,
    ServiceAnswer,
    decide_all,
    read_flag_request,
    resolve_default,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schematic_native.config.options import CheckFlagOptions, LookupKeys


class PlainChecks(BaseClient):
    """A client that can begin and conclude plain checks."""

    def _read_flag(
        self,
        flag_key: str,
        company: LookupKeys | None,
        user: LookupKeys | None,
        options: CheckFlagOptions | None,
    ) -> FlagRequest:
        return read_flag_request(flag_key, company, user, options, self._settings.timeout)

    # One flag

    def _begin_flag(
        self, request: FlagRequest
    ) -> CheckFlagResult | Waiting[FlagOutcome, CheckFlagResult]:
        answer = self._answer_now(request)
        if answer is not None:
            return answer
        return Waiting(
            lambda runtime: runtime.check_flag(request),
            request.timeout,
            late=partial(NoAnswer, TIMED_OUT),
            conclude=partial(self._conclude, request),
        )

    def _answer_now(self, request: FlagRequest) -> CheckFlagResult | None:
        """Answer a plain check without waiting, if that is possible."""
        self._restart_if_forked()
        if self._settings.offline:
            return self._conclude(request, NoAnswer(REASON_OFFLINE))
        if self._streaming and self._memory_covers(request.company, request.user):
            # A client that is shut down sends no events, so none is recorded.
            answer = request.decide(self._core, record=not self._closed)
            if isinstance(answer, CheckFlagResult):
                return answer
            if answer == "conflict":
                return self._conclude(request, NoAnswer(KEY_CONFLICT))
        if self._closed:
            return self._conclude(request, NoAnswer(CLOSED))
        return None if request.preflight else self._recall(request)

    def _conclude(self, request: FlagRequest, outcome: FlagOutcome) -> CheckFlagResult:
        """Turn an outcome into an answer: the default value if the flag could not be evaluated."""
        if isinstance(outcome, ServiceAnswer):
            self._remember(request, outcome.answer)
            return outcome.answer
        if isinstance(outcome, CheckFlagResult):
            return outcome
        known = self._flag_defaults.get(request.flag_key.lower())
        answer = CheckFlagResult(
            flag=request.flag_key,
            value=resolve_default(request.default, known is not None and known.value),
            reason=outcome.reason,
            error=outcome.error,
        )
        if outcome.reason == KEY_CONFLICT and not self._closed:
            # The entities in memory decided this, so it is recorded like any other local answer.
            self._core.record_flag_check(answer, request.company, request.user)
        return answer

    def _recall(self, request: FlagRequest) -> CheckFlagResult | None:
        """Return the service's answer from the first cache that has it."""
        key = cache_key(request.flag_key, request.company, request.user)
        for cache in self._caches:
            try:
                answer = cache.get(key)
            except Exception as error:  # noqa: BLE001 - a user's cache must not fail a check
                self._faults.noted(f"cache_providers: get failed: {type(error).__name__}: {error}")
                continue
            if isinstance(answer, CheckFlagResult):
                return answer
        return None

    def _remember(self, request: FlagRequest, answer: CheckFlagResult) -> None:
        """Cache an answer of the service, unless the request assumed usage that has not happened yet."""
        if request.preflight:
            return
        key = cache_key(request.flag_key, request.company, request.user)
        for cache in self._caches:
            try:
                cache.set(key, answer)
            except Exception as error:  # noqa: BLE001 - a user's cache must not fail a check
                self._faults.noted(f"cache_providers: set failed: {type(error).__name__}: {error}")

    # Several flags, or all

    def _begin_flags(
        self,
        flag_keys: Sequence[str] | None,
        company: LookupKeys | None,
        user: LookupKeys | None,
        options: CheckFlagOptions | None,
    ) -> list[CheckFlagResult] | Waiting[Outcomes | NoAnswer, list[CheckFlagResult]]:
        each = self._read_flag("flag_keys", company, user, options)
        # As in the published SDK, an empty list means all flags.
        keys = None if flag_keys is None else read_texts("flag_keys", flag_keys) or None
        request = FlagsRequest(keys, each._replace(preflight=NO_PREFLIGHT))
        outcomes = self._answer_all_now(request)
        if outcomes is not None:
            return self._conclude_all(request, outcomes)
        return Waiting(
            lambda runtime: runtime.check_flags(request),
            each.timeout,
            late=partial(NoAnswer, TIMED_OUT),
            conclude=partial(self._conclude_all, request),
        )

    def _answer_all_now(self, request: FlagsRequest) -> Outcomes | NoAnswer | None:
        """Answer plain checks of several or all flags without waiting, if that is possible."""
        self._restart_if_forked()
        if self._settings.offline:
            return NoAnswer(REASON_OFFLINE)
        outcomes = None
        # A replica reads flags only when they are asked for, so it cannot list them all.
        if self._streaming and self._settings.replica is None:
            outcomes = decide_all(self._core, request, record=not self._closed)
        if outcomes is None and self._closed:
            return NoAnswer(CLOSED)
        return self._recall_all(request) if outcomes is None else outcomes

    def _recall_all(self, request: FlagsRequest) -> Outcomes | None:
        """Return the cached answers, if every flag has one."""
        outcomes: dict[str, FlagOutcome] = {}
        for key in request.flag_keys or ():
            answer = self._recall(request.of(key))
            if answer is None:
                return None
            outcomes[key] = answer
        return outcomes or None

    def _conclude_all(
        self, request: FlagsRequest, outcomes: Outcomes | NoAnswer
    ) -> list[CheckFlagResult]:
        """Return one answer for each requested flag, or for each known flag if none was named."""
        if isinstance(outcomes, NoAnswer):
            known = request.flag_keys
            if known is None:
                known = [default.flag_key for default in self._flag_defaults.values()]
            outcomes = dict.fromkeys(known, outcomes)
        return [
            self._conclude(request.of(key), outcomes[key])
            for key in (outcomes if request.flag_keys is None else request.flag_keys)
        ]
