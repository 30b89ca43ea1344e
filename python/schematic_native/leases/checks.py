"""Checks that cannot be answered from memory at once.

What is missing is fetched, then the core is asked again. No decision is made here that the core or the
service can make.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from schematic_native._native import CheckFlagResult, CheckResult, PendingCheck
from schematic_native.config.defaults import LONGEST_HOLD
from schematic_native.config.results import CreditBalance
from schematic_native.ground.arguments import is_usage
from schematic_native.ground.store_errors import CacheError, StoreError
from schematic_native.ground.time_limit import before
from schematic_native.leases.process_store import ProcessStore
from schematic_native.leases.requests import (
    INSUFFICIENT_CREDITS_REASON,
    KEY_CONFLICT,
    REASON_ERROR,
    REASON_FLAG_NOT_FOUND,
    CheckRequest,
    FlagOutcome,
    FlagRequest,
    FlagsRequest,
    NoAnswer,
    Outcomes,
    ServiceAnswer,
    decide_all,
    plain_result,
)
from schematic_native.service.datastream import COMPANY, USER
from schematic_native.service.errors import ApiError, NotFoundError, PaymentRequiredError
from schematic_native.service.rest import ReservationRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schematic_native.cache.entities import EntityCaches
    from schematic_native.cache.replicator import Found, Replica
    from schematic_native.config.client_config import CreditLeaseMode
    from schematic_native.config.lease_settings import LeaseSettings
    from schematic_native.ground.arguments import Keys
    from schematic_native.leases.lease_store import LeaseStore
    from schematic_native.leases.manager import Leases
    from schematic_native.leases.shared_store import SharedStore
    from schematic_native.leases.work import Sources, Work
    from schematic_native.service.datastream import DataStream
    from schematic_native.service.rest import Reserved

# What a pending check may need of the lease manager.
FUND_NEEDS = frozenset({"acquire", "extend"})
REST_TOPIC = "flag checks over REST"
RESERVE_TOPIC = "reservations on the server"
# Seconds for the service to confirm an entity from a shared cache; longer than a request may take.
FOLLOW_TIMEOUT = 5.0


class Checks:
    """Finishes the checks of one client.

    Args:
        work: the core is asked first and last, the API when memory cannot answer.
        sources: fetch what is missing.
        leases: acquires and extends; None without credit leases in the client.
        shared: where leases and holds live, if other processes share them; else None.
        lease_settings: None without credit leases.
        spawn: runs work in the background.

    A deadline is an instant of the loop's clock.

    """

    def __init__(
        self,
        work: Work,
        sources: Sources,
        leases: Leases | None,
        shared: SharedStore | None,
        lease_settings: LeaseSettings | None,
        spawn: Callable[[Coroutine[object, object, None]], object],
    ) -> None:
        self._core, self._api, self._faults = work
        self._datastream, self._caches, self._replica = sources
        self._leases = leases
        self._shared = shared
        self._store: LeaseStore = ProcessStore(work.core) if shared is None else shared
        self._lease_settings = lease_settings
        self._spawn = spawn

    @property
    def mode(self) -> CreditLeaseMode | None:
        """Where credits are reserved right now; None if nowhere."""
        settings = self._lease_settings
        if settings is None:
            return None
        if settings.mode == "auto":
            # Without flags, as the DataStream has never brought any, nothing can be decided here.
            decides = self._core.has_flags() if self._replica is None else self._replica.ready
            return "client" if self._leases is not None and decides else "server"
        if settings.mode == "client" and self._leases is None:
            return None
        return settings.mode

    async def check_flag(self, request: FlagRequest, deadline: float) -> FlagOutcome:
        """Answer a plain check from memory, fetching what is missing, or else over REST."""
        if self._replica is not None:
            answered = await self._ask_replica(self._replica, request, deadline)
            return await self._ask_api(request, deadline) if answered is None else answered
        if self._datastream is not None and self._core.has_flags():
            await self._fetch_missing(request.company, request.user, deadline)
            answer = request.decide(self._core)
            if isinstance(answer, CheckFlagResult):
                return answer
            if answer == "conflict":
                return NoAnswer(KEY_CONFLICT)
        return await self._ask_api(request, deadline)

    async def check_flags(self, request: FlagsRequest, deadline: float) -> Outcomes | NoAnswer:
        """Answer plain checks of several flags, or of all; by flag key."""
        flag_keys, company, user = request.flag_keys, request.each.company, request.each.user
        if self._replica is not None and flag_keys:
            requests = {key: request.of(key) for key in flag_keys}
            asked = [self._ask_replica(self._replica, each, deadline) for each in requests.values()]
            answered = dict(zip(requests, await asyncio.gather(*asked), strict=True))
            known = {key: answer for key, answer in answered.items() if answer is not None}
            if len(known) == len(requests):
                return known
        if self._datastream is not None and self._core.has_flags():
            await self._fetch_missing(company, user, deadline)
            outcomes = decide_all(self._core, request)
            if outcomes is not None:
                return outcomes
        try:
            results = await self._api.check_flags(company, user, deadline)
        except ApiError as error:
            self._faults.raised(REST_TOPIC, error)
            return _no_answer(error)
        self._faults.cleared(REST_TOPIC)
        if flag_keys is None:
            return {result.flag: ServiceAnswer(result) for result in results}
        found = {result.flag.lower(): ServiceAnswer(result) for result in results}
        missing = NoAnswer(REASON_FLAG_NOT_FOUND)
        return {key: found.get(key.lower(), missing) for key in flag_keys}

    async def check(
        self, request: CheckRequest, pending: PendingCheck | None, deadline: float
    ) -> CheckResult | ServiceAnswer | NoAnswer:
        """Finish a check that may reserve credits."""
        unread = pending is None or pending.need in {"plain", "resolve"}
        if unread and self._replica is not None and self._replica.ready:
            # A check that was begun before may not have known the flag or the entities.
            pending = None
            await self._load(self._replica, request.as_flag_request(), deadline)
        if pending is not None:
            return await self._finish(request, pending, deadline)
        usage, mode = request.usage, self.mode
        if not usage or mode is None:
            return await self._plain(request, deadline)
        if mode == "server":
            return await self._reserve_on_server(request, usage, deadline)
        answer = request.decide(self._core)
        return await self._finish(request, answer, deadline)

    async def _ask_replica(
        self, replica: Replica, request: FlagRequest, deadline: float
    ) -> CheckFlagResult | NoAnswer | None:
        """Decide by what the replicator has written; None if that is not possible.

        An unknown company or user is treated as if none had been named.
        """
        # A second time if the cache was emptied in between.
        for _ in range(2):
            found = await self._load(replica, request, deadline) if replica.ready else None
            if found is None or not found.flag:
                return None
            if found.is_conflict:
                return NoAnswer(KEY_CONFLICT)
            answer = request.decide(self._core, partial=True)
            if isinstance(answer, CheckFlagResult):
                return answer
            if answer == "conflict":
                return NoAnswer(KEY_CONFLICT)
        return None

    async def _load(self, replica: Replica, request: FlagRequest, deadline: float) -> Found | None:
        """Read what a check is about; None if the cache could not be read in time."""
        loading = replica.load(request.flag_key, request.company, request.user)
        try:
            return await before(deadline, loading)
        except (CacheError, asyncio.TimeoutError):
            return None

    async def credit_balance(
        self, company: Keys, credit_type_id: str, deadline: float
    ) -> CreditBalance:
        """Return a company's credits, from memory if it is streamed, or else over REST."""
        source = self._datastream or self._replica
        if source is not None and self._core.has_flags():
            await self._fetch_missing(company, None, deadline)
            company_id = self._core.company_id(company)
            if company_id is not None:
                balance = await self._leased_balance(company_id, credit_type_id)
                if balance is not None:
                    return balance
        return await self._api.credit_balance(company, credit_type_id, deadline)

    async def _finish(
        self, request: CheckRequest, answer: CheckResult | PendingCheck, deadline: float
    ) -> CheckResult | ServiceAnswer | NoAnswer:
        """Do what a pending check needs, and ask again, until it is answered."""
        while isinstance(answer, PendingCheck):
            if answer.need == "plain":
                return await self._plain(request, deadline)
            if answer.need == "resolve":
                found = await self._fetch(
                    request.company if answer.missing_company else None,
                    request.user if answer.missing_user else None,
                    deadline,
                )
                answer = answer.resume(found)
            elif self._shared is not None and answer.need not in FUND_NEEDS:
                left = deadline - asyncio.get_running_loop().time()
                done = await self._shared.finish(answer, max(0.0, left))
                answer = self._without_store(request) if done is None else done
            else:
                answer = answer.resume(await self._fund(answer, deadline))
        return answer

    def _without_store(self, request: CheckRequest) -> CheckResult | PendingCheck:
        """Decide as if the store had failed, since it has not answered in time."""
        answer = request.decide(self._core)
        if isinstance(answer, PendingCheck) and answer.need == "reserve":
            return answer.resume(False)
        return answer

    async def _fund(self, pending: PendingCheck, deadline: float) -> bool:
        """Acquire or extend the lease that a check reserves from."""
        company_id, credit_type_id = pending.company_id, pending.credit_type_id
        if self._leases is None or company_id is None or credit_type_id is None:
            return False
        if pending.need == "acquire":
            lease = await self._leases.acquire_if_needed(
                company_id, credit_type_id, deadline, pending.required_credits
            )
            return lease is not None
        await self._leases.maybe_extend(
            company_id, credit_type_id, pending.required_credits, deadline
        )
        return True

    async def _plain(
        self, request: CheckRequest, deadline: float
    ) -> CheckResult | ServiceAnswer | NoAnswer:
        answer = await self.check_flag(request.as_flag_request(), deadline)
        return plain_result(answer) if isinstance(answer, CheckFlagResult) else answer

    async def _fetch(self, company: Keys | None, user: Keys | None, deadline: float) -> bool:
        """Request entities over the DataStream; returns whether all of them have come."""
        wanted = [(kind, keys) for kind, keys in ((COMPANY, company), (USER, user)) if keys]
        if self._replica is not None:
            requests = [self._replica.request(*each, deadline) for each in wanted]
        elif self._datastream is not None:
            requests = [self._obtain(self._datastream, *each, deadline) for each in wanted]
        else:
            return False
        return all(await asyncio.gather(*requests))

    async def _obtain(self, datastream: DataStream, kind: str, keys: Keys, deadline: float) -> bool:
        """Take an entity from a shared cache and confirm it later, or else request it."""
        if self._caches is not None and await self._caches.find(kind, keys):
            self._spawn(self._follow(self._caches, datastream, kind, keys))
            return True
        return await datastream.request(kind, keys, deadline)

    async def _follow(
        self, caches: EntityCaches, datastream: DataStream, kind: str, keys: Keys
    ) -> None:
        """Request an entity that came from a shared cache: it may have changed or gone since."""
        known = self._core.company_id if kind == COMPANY else self._core.user_id
        found = known(keys)
        deadline = asyncio.get_running_loop().time() + FOLLOW_TIMEOUT
        if await datastream.confirm(kind, keys, deadline) is False and found is not None:
            caches.forget(kind, found)

    async def _fetch_missing(
        self, company: Keys | None, user: Keys | None, deadline: float
    ) -> None:
        """Request those entities that are not in memory."""
        await self._fetch(
            company if company and self._core.company_id(company) is None else None,
            user if user and self._core.user_id(user) is None else None,
            deadline,
        )

    async def _ask_api(self, request: FlagRequest, deadline: float) -> ServiceAnswer | NoAnswer:
        try:
            answer = await self._api.check_flag(
                request.flag_key,
                request.company,
                request.user,
                request.preflight.to_wire(),
                deadline,
            )
        except NotFoundError as error:
            return _no_answer(error)
        except ApiError as error:
            self._faults.raised(REST_TOPIC, error)
            return _no_answer(error)
        self._faults.cleared(REST_TOPIC)
        return ServiceAnswer(answer)

    async def _reserve_on_server(
        self, request: CheckRequest, usage: float, deadline: float
    ) -> CheckResult | NoAnswer:
        """Check and reserve in one call; the server logs the check."""
        settings = self._lease_settings
        if settings is None or not is_usage(usage):
            return request.fail("invalid_usage")
        asked_ttl = settings.reservation_ttl if request.ttl is None else request.ttl
        lifetime = min(asked_ttl, LONGEST_HOLD)
        try:
            reserved = await self._api.check_and_reserve(
                ReservationRequest(
                    request.flag_key,
                    request.company,
                    request.user,
                    math.ceil(usage),
                    request.event_subtype,
                    self._core.now() + lifetime,
                    request.as_flag_request().preflight.to_wire(),
                    request.key,
                ),
                deadline,
            )
        except PaymentRequiredError as error:
            self._faults.cleared(RESERVE_TOPIC)
            return CheckResult(
                allowed=False,
                value=False,
                reason=INSUFFICIENT_CREDITS_REASON,
                flag_key=request.flag_key,
                error=error.message,
            )
        except ApiError as error:
            self._faults.raised(RESERVE_TOPIC, error)
            return request.fail_on_server()
        self._faults.cleared(RESERVE_TOPIC)
        return self._take_hold(request, reserved)

    def _take_hold(self, request: CheckRequest, reserved: Reserved) -> CheckResult:
        """Hand the hold to the caller, or release it if it cannot be settled or is not needed."""
        verdict, hold = reserved.verdict, reserved.reservation
        error = verdict.error
        if hold is not None and (not hold.event_subtype or not verdict.value):
            self._spawn(self.release(hold.id))
            if not hold.event_subtype:
                error = "missing_event_subtype"
                if request.on_acquire_failure == "fail-closed":
                    return request.fail(error)
            hold = None
        return CheckResult(
            allowed=verdict.value,
            value=verdict.value,
            reason=verdict.reason,
            flag_key=request.flag_key,
            reservation=hold,
            entitlement=verdict.entitlement,
            flag_id=verdict.flag_id,
            error=error,
        )

    async def release(self, reservation_id: str) -> None:
        """Release a hold of the service, best effort."""
        try:
            await self._api.release_reservation(reservation_id)
        except ApiError as error:
            # The service takes the hold back when it expires.
            self._faults.noted(f"reservation {reservation_id} could not be released: {error}")

    async def _leased_balance(self, company_id: str, credit_type_id: str) -> CreditBalance | None:
        """Add up the balance that the service last sent and what the slot's lease holds."""
        balance = self._core.company_balance(company_id, credit_type_id)
        slot = (company_id, credit_type_id)
        try:
            lease = await self._store.live_lease(slot)
            reserved = await self._store.reserved_credits(slot)
        except StoreError as error:
            self._faults.store_failed("balance", error)
            return None
        self._faults.store_answered(balance=True)
        # What was left of an expired lease is in the company's balance again.
        if lease is None:
            return None if balance is None else CreditBalance(balance, reserved, 0.0)
        settled = max(0.0, lease.granted - lease.remaining - reserved)
        return CreditBalance((balance or 0.0) + lease.remaining, reserved, settled)


def _no_answer(error: ApiError) -> NoAnswer:
    reason = REASON_FLAG_NOT_FOUND if isinstance(error, NotFoundError) else REASON_ERROR
    return NoAnswer(f"{reason} ({error})", str(error))
