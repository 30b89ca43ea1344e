"""Checks of both clients that may reserve credits: answered at once, or returned as work to wait for.

Waiting itself is done by `blocking` and `awaiting`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from schematic_native._native import CheckResult
from schematic_native.client.event_arguments import (
    read_company_keys,
    read_settlement,
    read_texts,
)
from schematic_native.client.plain_checks import PlainChecks
from schematic_native.client.waiting import Waiting, outcome_of
from schematic_native.ground.arguments import is_usage, read_text
from schematic_native.leases.requests import (
    TIMED_OUT,
    CheckRequest,
    NoAnswer,
    ServiceAnswer,
    plain_result,
    read_check_request,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schematic_native._native import PendingCheck, Reservation
    from schematic_native.client.event_arguments import Settlement
    from schematic_native.config.options import LookupKeys, TrackWithReservationOptions
    from schematic_native.config.results import CreditBalance
    from schematic_native.leases.requests import CheckArguments

CheckOutcome: TypeAlias = "CheckResult | ServiceAnswer | NoAnswer"


class LeaseChecks(PlainChecks):
    """A client that can begin and conclude checks that may reserve credits."""

    def _read_check(
        self, arguments: CheckArguments, ttl: float | None = None, key: str | None = None
    ) -> CheckRequest:
        """Validate the arguments of `check`, and add those that only a hold has.

        Args:
            arguments: in the order of the public method.
            ttl: the hold's time to live in seconds; None for the configured one.
            key: the idempotency key for the server; None to generate one.

        """
        request = read_check_request(arguments, self._settings.timeout)
        return request if ttl is None and key is None else request._replace(ttl=ttl, key=key)

    def _begin_check(
        self, request: CheckRequest, pending: PendingCheck | None
    ) -> CheckResult | Waiting[CheckOutcome, CheckResult]:
        """Answer a check without waiting if that is possible, or return what to wait for.

        Args:
            request: the check.
            pending: the check as the core has begun it; None if the core has not begun it.

        """
        self._restart_if_forked()
        started = self._machine.monotonic()
        if pending is not None:
            answer = self._advance(pending, request.timeout)
            if isinstance(answer, CheckResult):
                return answer
            pending = answer
        if pending is None:
            if (now := self._check_now(request)) is not None:
                return now
        elif pending.need == "plain":
            plain = self._answer_now(request.as_flag_request())
            if plain is not None:
                return plain_result(plain)
        left = max(0.0, request.timeout - (self._machine.monotonic() - started))
        return self._wait_for(request._replace(timeout=left), pending)

    def _wait_for(
        self, request: CheckRequest, pending: PendingCheck | None
    ) -> Waiting[CheckOutcome, CheckResult]:
        return Waiting(
            lambda runtime: runtime.check(request, pending),
            request.timeout,
            late=partial(self._decide_without_hold, request),
            conclude=partial(self._conclude_check, request),
        )

    def _advance(self, pending: PendingCheck, timeout: float) -> CheckResult | PendingCheck:  # noqa: ARG002
        """Advance a pending check as far as possible on the caller's own thread."""
        return pending

    def _check_now(self, request: CheckRequest) -> CheckResult | None:
        """Answer a check without waiting, if that is possible and it reserves nothing."""
        usage = request.usage
        reserves = self._settings.leases is not None and not self._settings.offline
        if reserves and usage is not None and not is_usage(usage):
            return request.fail("invalid_usage")
        if reserves and usage:
            # A client that is shut down cannot hold credits, so the failure mode decides.
            if not self._closed:
                return None
            return self._conclude_check(request, self._decide_without_hold(request))
        answer = self._answer_now(request.as_flag_request())
        return None if answer is None else plain_result(answer)

    def _conclude_check(self, request: CheckRequest, outcome: CheckOutcome) -> CheckResult:
        if isinstance(outcome, CheckResult):
            return outcome
        return plain_result(self._conclude(request.as_flag_request(), outcome))

    def _decide_without_hold(self, request: CheckRequest) -> CheckResult | NoAnswer:
        """Decide, by the failure mode, a check that could not ask for its hold in time."""
        leases = self._settings.leases
        if not request.usage or leases is None:
            return NoAnswer(TIMED_OUT)
        if leases.mode == "server" or (leases.mode == "auto" and not self._streaming):
            return request.fail_on_server()
        # A client that is shut down sends no events, so none is recorded.
        return request.decide_without_lease(self._core, record=not self._closed)

    # Leases and balances

    def _begin_prewarm(
        self, company: LookupKeys, credit_type_ids: Sequence[str]
    ) -> Waiting[None, None] | None:
        keys = read_company_keys(company)
        credit_types = read_texts("credit_type_ids", credit_type_ids)
        if self._does_no_io:
            return None
        limit = self._settings.timeout
        return outcome_of(lambda runtime: runtime.prewarm(keys, credit_types, limit), limit)

    def _begin_balance(
        self, company: LookupKeys, credit_type_id: str
    ) -> Waiting[CreditBalance, CreditBalance]:
        keys = read_company_keys(company)
        read_text("credit_type_id", credit_type_id)
        if self._does_no_io:
            raise RuntimeError("a client that is offline or shut down knows no balances")
        limit = self._settings.timeout

        def late() -> CreditBalance:
            raise TimeoutError("the credit balance did not come in time")

        return Waiting(
            lambda runtime: runtime.credit_balance(keys, credit_type_id, limit),
            limit,
            late=late,
            conclude=lambda balance: balance,
        )

    def _read_settlement(
        self,
        reservation: Reservation | None,
        actual_quantity: float,
        options: TrackWithReservationOptions | None,
    ) -> Settlement | None:
        """Validate a settle; returns None, and logs why, if there is nothing to settle."""
        settlement = read_settlement(reservation, actual_quantity, options)
        if settlement is None:
            self._settings.logger.error(
                "track_with_reservation: there is no reservation to settle; "
                "report usage that was not reserved with track()"
            )
            return None
        if self._refuses_event("track_with_reservation"):
            return None
        if not is_usage(settlement.quantity):
            self._settings.logger.error(
                "track_with_reservation: actual_quantity must be finite and 0 or more, got %r; "
                "the hold refunds itself when it expires",
                settlement.quantity,
            )
            return None
        return settlement
