"""The calls of the REST API that this package makes: what is sent, what comes back, and the retries.

Each error is an `ApiError`. None of them ever contains the API key. Nothing here decides what a client
does about an error.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar
from urllib.parse import quote

import httpx

from schematic_native.config.results import CreditBalance
from schematic_native.ground import json_text
from schematic_native.service.errors import (
    ApiConnectionError,
    ApiError,
    AuthenticationError,
    NotFoundError,
    PaymentRequiredError,
    UnreadableApiAnswerError,
)
from schematic_native.service.event_posts import EventPoster
from schematic_native.service.http_sender import HttpSender
from schematic_native.service.responses import (
    GrantedLease,
    UnreadableAnswerError,
    read_flag_result,
    read_flag_results,
    read_lease,
    read_object,
    read_reservation,
    write_instant,
)
from schematic_native.service.rest_retries import (
    MAX_RETRIES,
    asked_delay,
    delay_before,
    is_temporary,
)
from schematic_native.service.timings import Timings, operation_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from schematic_native._native import CheckFlagResult, EventBatch, Reservation
    from schematic_native.config.http_clients import Response
    from schematic_native.config.settings import Settings
    from schematic_native.service.event_posts import Posted

T = TypeVar("T")

_ERROR_TEXT_LIMIT = 300
_ERRORS: dict[int, type[ApiError]] = {
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: AuthenticationError,
    404: NotFoundError,
}


class ReservationRequest(NamedTuple):
    """What check-and-reserve is asked: to check a flag and to reserve its credits for a quantity."""

    flag_key: str
    company: Mapping[str, str] | None
    user: Mapping[str, str] | None
    quantity: int
    event_subtype: str | None  # takes precedence over that of the response
    expires_at: float  # epoch seconds
    preflight: Mapping[str, object]
    idempotency_key: str | None = None


@dataclass(frozen=True)
class Reserved:
    """The response to check-and-reserve: the verdict, and the reservation if there is one."""

    verdict: CheckFlagResult
    reservation: Reservation | None


class Api:
    """The calls of the API that this package makes.

    Args:
        settings: where and how.
        timings: counts and times the calls; None if they are not of interest.
        sleep, clock, jitter: for tests, instead of the machine's; `jitter` returns a number from 0 to 1.

    A `deadline` is an instant of the loop's clock; None leaves only the timeout of each request.

    """

    def __init__(
        self,
        settings: Settings,
        *,
        timings: Timings | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self._settings = settings
        self._timings = timings or Timings()
        self._sleep = sleep
        self._machine = settings.machine
        self._clock = clock or self._machine.clock
        self._jitter = jitter or self._machine.jitter
        self._sender = HttpSender(settings)
        self._events = EventPoster(settings, self._sender, self._clock)
        # Leases and reservations are changed with PUT; a server that expects POST responds with 405.
        self._change_method: Literal["PUT", "POST"] = "PUT"

    async def close(self) -> None:
        """Close the connections. A client that the program gave us stays open."""
        self._sender.is_closed = True
        await self._events.close()
        await self._sender.close()

    async def acquire_lease(
        self,
        company_id: str,
        credit_type_id: str,
        requested_amount: float,
        expires_at: float,
        deadline: float | None = None,
    ) -> GrantedLease:
        """Ask for a lease: credits, and epoch seconds."""
        body = {
            "company_id": company_id,
            "credit_type_id": credit_type_id,
            "requested_amount": requested_amount,
            "expires_at": write_instant(expires_at),
        }
        data, attempts = await self._attempt("POST", "billing/credits/lease", body, deadline)
        return replace(_read(read_lease, data), is_retried=attempts > 1)

    async def extend_lease(
        self,
        lease_id: str,
        additional_amount: float,
        expires_at: float,
        deadline: float | None = None,
    ) -> GrantedLease:
        """Ask for more credits on a lease; all retries share one idempotency key."""
        body = {
            "additional_amount": additional_amount,
            "expires_at": write_instant(expires_at),
            "idempotency_key": self._machine.unique_key(),
        }
        path = f"billing/credits/lease/{quote(lease_id, safe='')}/extend"
        return _read(read_lease, await self._change(path, body, deadline))

    async def release_lease(self, lease_id: str, deadline: float | None = None) -> None:
        """Give a lease back."""
        await self._change(
            f"billing/credits/lease/{quote(lease_id, safe='')}/release", None, deadline
        )

    async def release_reservation(self, reservation_id: str, deadline: float | None = None) -> None:
        """Cancel a reservation on the server."""
        path = f"billing/credits/reservations/{quote(reservation_id, safe='')}/release"
        await self._change(path, None, deadline)

    async def check_flag(
        self,
        flag_key: str,
        company: Mapping[str, str] | None,
        user: Mapping[str, str] | None,
        preflight: Mapping[str, object] | None = None,
        deadline: float | None = None,
    ) -> CheckFlagResult:
        """Check one flag."""
        body = _subject(company, user)
        if preflight:
            body["preflight"] = preflight
        path = f"flags/{quote(flag_key, safe='')}/check"
        return _read(read_flag_result, await self._call("POST", path, body, deadline))

    async def check_flags(
        self,
        company: Mapping[str, str] | None,
        user: Mapping[str, str] | None,
        deadline: float | None = None,
    ) -> list[CheckFlagResult]:
        """Check all flags."""
        data = await self._call("POST", "flags/check", _subject(company, user), deadline)
        return _read(read_flag_results, data)

    async def credit_balance(
        self, company: Mapping[str, str], credit_type_id: str, deadline: float | None = None
    ) -> CreditBalance:
        """Ask for a company's balance of one credit type."""
        data = await self._call("POST", "flags/check", _subject(company, None), deadline)
        checked = _read(lambda value: read_object(value, "the check of all flags"), data)
        balances = checked.get("credit_balances")
        balance = balances.get(credit_type_id) if isinstance(balances, dict) else None
        if not isinstance(balance, dict):
            raise NotFoundError(f"the company has no balance of credit type {credit_type_id!r}")
        parts = [balance.get(name, 0) for name in ("remaining", "reserved", "settled")]
        if not all(isinstance(part, (int, float)) for part in parts):
            raise UnreadableApiAnswerError("the credit balance has an amount that is not a number")
        return CreditBalance(*map(float, parts))

    async def check_and_reserve(
        self, request: ReservationRequest, deadline: float | None = None
    ) -> Reserved:
        """Check one flag and reserve its credits on the server.

        All retries share one idempotency key: the given one, or else a new one.
        """
        company, user = request.company, request.user
        body = _subject(company, user)
        body |= {
            "quantity": request.quantity,
            "expires_at": write_instant(request.expires_at),
            "idempotency_key": request.idempotency_key or self._machine.unique_key(),
            "preflight": request.preflight,
        }
        path = f"flags/{quote(request.flag_key, safe='')}/check-and-reserve"
        data = await self._call("POST", path, body, deadline)

        def read(value: object) -> Reserved:
            verdict = read_flag_result(value)
            reservation = read_object(value, "the flag check").get("reservation")
            if reservation is None:
                return Reserved(verdict, None)
            return Reserved(
                verdict, read_reservation(reservation, request.event_subtype, company, user)
            )

        return _read(read, data)

    async def post_events(self, batch: EventBatch) -> Posted:
        """Post one batch of events, once.

        Raises:
            ApiConnectionError: there was no response.

        """
        with self._timings.measure("events") as measurement:
            posted = await self._events.post(batch)
            measurement.has_failed = posted.status // 100 != 2  # noqa: PLR2004
            return posted

    async def _change(self, path: str, body: object, deadline: float | None) -> object:
        try:
            return await self._call(self._change_method, path, body, deadline)
        except ApiError as error:
            if error.status != httpx.codes.METHOD_NOT_ALLOWED or self._change_method == "POST":
                raise
        self._change_method = "POST"
        return await self._call("POST", path, body, deadline)

    async def _call(self, method: str, path: str, body: object, deadline: float | None) -> object:
        """Make one call with its retries, and return the data of its response."""
        data, _ = await self._attempt(method, path, body, deadline)
        return data

    async def _attempt(
        self, method: str, path: str, body: object, deadline: float | None
    ) -> tuple[object, int]:
        """Make one call; return the data of its response, and how many attempts it took."""
        with self._timings.measure(operation_of(path)):
            return await self._try(method, path, body, deadline)

    async def _try(
        self, method: str, path: str, body: object, deadline: float | None
    ) -> tuple[object, int]:
        content = None if body is None else json_text.write(body)
        url = f"{self._settings.base_url}/{path}"
        attempts = 0
        while True:
            asked = None
            try:
                response = await self._sender.send(method, url, content, self._time_left(deadline))
            except ApiConnectionError as error:
                if self._sender.is_closed:  # no further attempt can succeed
                    raise
                failure: ApiError = error
            else:
                if response.is_success:
                    return _data(response), attempts + 1
                failure = self._failure(response)
                if not is_temporary(response.status):
                    raise failure
                asked = asked_delay(response.headers.get, self._clock())
            delay = delay_before(attempts, asked, self._jitter())
            attempts += 1
            if attempts > MAX_RETRIES or _passes(deadline, delay):
                raise failure
            await self._sleep(delay)

    def _time_left(self, deadline: float | None) -> float:
        if deadline is None:
            return self._settings.timeout
        return min(self._settings.timeout, deadline - asyncio.get_running_loop().time())

    def _failure(self, response: Response) -> ApiError:
        message = self._sender.redact(_error_text(response))
        return _ERRORS.get(response.status, ApiError)(message, response.status)


def _subject(
    company: Mapping[str, str] | None, user: Mapping[str, str] | None
) -> dict[str, object]:
    subject: dict[str, object] = {}
    if company:
        subject["company"] = dict(company)
    if user:
        subject["user"] = dict(user)
    return subject


def _read(reader: Callable[[object], T], data: object) -> T:
    try:
        return reader(data)
    except (UnreadableAnswerError, TypeError, ValueError, OverflowError) as error:
        raise UnreadableApiAnswerError(str(error)) from error


def _data(response: Response) -> object:
    if not response.content:
        return None
    try:
        body = json_text.read(response.content)
    except json_text.NotJSONError as error:
        raise UnreadableApiAnswerError("the answer is not JSON", response.status) from error
    return body.get("data") if isinstance(body, dict) else None


def _error_text(response: Response) -> str:
    try:
        body = json_text.read(response.content)
    except json_text.NotJSONError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    return error[:_ERROR_TEXT_LIMIT] if isinstance(error, str) else response.reason


def _passes(deadline: float | None, delay: float) -> bool:
    return deadline is not None and asyncio.get_running_loop().time() + delay >= deadline
