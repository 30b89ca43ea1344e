"""REST over httpx, and batches of events: one request, its retries, its errors.

Errors form one small family under `ApiError`. None of them ever carries the API key.
"""

from __future__ import annotations

import asyncio
import email.utils
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar
from urllib.parse import quote, urljoin

import httpx

from schematic_native._native import __version__
from schematic_native.config.http_clients import Answer, adapted, over_httpx
from schematic_native.config.options import CreditBalance
from schematic_native.config.settings import is_loopback
from schematic_native.ground import json_text
from schematic_native.ground.own_requests import own_request
from schematic_native.service.errors import (
    ApiConnectionError,
    ApiError,
    ApiTimeoutError,
    AuthenticationError,
    NotFoundError,
    PaymentRequiredError,
    UnreadableApiAnswerError,
)
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
from schematic_native.service.timings import Tally, operation_of
from schematic_native.service.transport import (
    KEEPING_REDIRECTS,
    MOST_REDIRECTS,
    SocketTransport,
    UnusableTransportError,
    using_openssl,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from schematic_native._native import CheckFlagResult, EventBatch, Reservation
    from schematic_native.config.settings import Settings

T = TypeVar("T")

MAX_RETRIES = 2
FIRST_RETRY_DELAY = 1.0
LONGEST_RETRY_DELAY = 60.0
USER_AGENT = f"schematic-native/{__version__}"
_ERROR_TEXT_LIMIT = 300


@dataclass(frozen=True)
class Reserved:
    """The answer of check-and-reserve: the verdict, and the hold if there is one."""

    verdict: CheckFlagResult
    reservation: Reservation | None


class Posted(NamedTuple):
    """What came back for a batch of events."""

    status: int
    is_explained: bool  # whether by an error as the service writes it
    asked_delay: float | None = None  # seconds that the service asks us to wait
    seconds: float | None = None  # from the request to the answer


class Api:
    """The calls of the API that this package makes.

    Args:
        settings: where and how.
        tally: where requests are counted; None keeps a count that nobody sees.
        sleep, clock, jitter: for tests, in place of the machine's; `jitter` returns a number from 0 to 1.

    A `deadline` is an instant of the loop's clock; None leaves only the timeout of each request.

    """

    def __init__(
        self,
        settings: Settings,
        *,
        tally: Tally | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self._settings = settings
        self._tally = tally or Tally()
        self._sleep = sleep
        self._machine = settings.machine
        self._clock = clock or self._machine.clock
        self._jitter = jitter or self._machine.jitter
        self._headers = {
            "X-Schematic-Api-Key": settings.api_key,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }
        # One client for hosts on this machine and one for all others, each made when it is needed.
        self._owned: dict[bool, asyncio.Future[httpx.AsyncClient]] = {}
        given = settings.httpx_client
        self._given = None if given is None else adapted(given)
        # What a client was told about redirects goes before the configuration's field, which is there for ours.
        self._follows = bool(getattr(given, "follow_redirects", settings.follow_redirects))
        self._transport: SocketTransport | None = None
        if given is None:
            self._transport = SocketTransport(self._headers, follows=self._follows)
        # Lease and reservation changes are PUT; a server that knows them as POST says so with 405.
        self._change_method: Literal["PUT", "POST"] = "PUT"
        self._closed = False

    async def close(self) -> None:
        """Close the connections. A client of the user's stays open."""
        self._closed = True
        if self._transport is not None:
            await self._transport.close()
        owned, self._owned = self._owned, {}
        for making in owned.values():
            [client] = await asyncio.gather(making, return_exceptions=True)
            if isinstance(client, httpx.AsyncClient):
                await client.aclose()

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
        """Give a hold on the server back."""
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
        answer = await self._call("POST", "flags/check", _subject(company, user), deadline)
        return _read(read_flag_results, answer)

    async def credit_balance(
        self, company: Mapping[str, str], credit_type_id: str, deadline: float | None = None
    ) -> CreditBalance:
        """Ask for a company's balance of one credit type."""
        answer = await self._call("POST", "flags/check", _subject(company, None), deadline)
        balances = _read(lambda data: read_object(data, "the check of all flags"), answer).get(
            "credit_balances"
        )
        balance = balances.get(credit_type_id) if isinstance(balances, dict) else None
        if not isinstance(balance, dict):
            raise NotFoundError(f"the company has no balance of credit type {credit_type_id!r}")
        parts = [balance.get(name, 0) for name in ("remaining", "reserved", "settled")]
        if not all(isinstance(part, (int, float)) for part in parts):
            raise UnreadableApiAnswerError("the credit balance has an amount that is not a number")
        return CreditBalance(*map(float, parts))

    async def check_and_reserve(
        self,
        flag_key: str,
        company: Mapping[str, str] | None,
        user: Mapping[str, str] | None,
        quantity: int,
        event_subtype: str | None,
        expires_at: float,
        preflight: Mapping[str, object],
        deadline: float | None = None,
        idempotency_key: str | None = None,
    ) -> Reserved:
        """Check one flag and hold its credits on the server.

        All retries share one idempotency key, of its own unless one is given.
        """
        body = _subject(company, user)
        body |= {
            "quantity": quantity,
            "expires_at": write_instant(expires_at),
            "idempotency_key": idempotency_key or self._machine.unique_key(),
            "preflight": preflight,
        }
        path = f"flags/{quote(flag_key, safe='')}/check-and-reserve"
        data = await self._call("POST", path, body, deadline)

        def read(value: object) -> Reserved:
            verdict = read_flag_result(value)
            hold = read_object(value, "the flag check").get("reservation")
            if hold is None:
                return Reserved(verdict, None)
            return Reserved(verdict, read_reservation(hold, event_subtype, company, user))

        return _read(read, data)

    async def post_events(self, batch: EventBatch) -> Posted:
        """Post one batch of events, once.

        Raises:
            ApiConnectionError: there was no answer.

        """
        with self._tally.waiting("events") as wait:
            posted = await self._post_events(batch)
            wait.has_failed = posted.status // 100 != 2  # noqa: PLR2004
            return posted

    async def _post_events(self, batch: EventBatch) -> Posted:
        url, timeout = f"{self._settings.event_capture_url}/batch", self._settings.timeout
        if self._transport is not None and not self._closed:
            try:
                answer, seconds = await self._transport.post(url, batch, timeout)
            except UnusableTransportError:
                pass  # httpx may do
            except TimeoutError:
                raise ApiTimeoutError from None
            except (OSError, ValueError) as error:
                raise self._unreachable(error) from None
            else:
                if answer.status // 100 == 2:  # noqa: PLR2004
                    return Posted(answer.status, is_explained=False, seconds=seconds)
                delay = self._asked_delay(answer.header)
                return Posted(answer.status, _is_explained(answer.body), delay, seconds)
        begun = self._machine.monotonic()
        response = await self._send("POST", url, batch.body, timeout)
        delay = self._asked_delay(response.headers.get)
        seconds = self._machine.monotonic() - begun
        return Posted(response.status, _is_explained(response.content), delay, seconds)

    async def _change(self, path: str, body: object, deadline: float | None) -> object:
        try:
            return await self._call(self._change_method, path, body, deadline)
        except ApiError as error:
            if error.status != httpx.codes.METHOD_NOT_ALLOWED or self._change_method == "POST":
                raise
        self._change_method = "POST"
        return await self._call("POST", path, body, deadline)

    async def _call(self, method: str, path: str, body: object, deadline: float | None) -> object:
        """Make one call with its retries, and return the answer's data."""
        data, _ = await self._attempt(method, path, body, deadline)
        return data

    async def _attempt(
        self, method: str, path: str, body: object, deadline: float | None
    ) -> tuple[object, int]:
        """Make one call; return the answer's data, and how many attempts it took."""
        with self._tally.waiting(operation_of(path)):
            return await self._try(method, path, body, deadline)

    async def _try(
        self, method: str, path: str, body: object, deadline: float | None
    ) -> tuple[object, int]:
        content = None if body is None else json_text.write(body)
        url = f"{self._settings.base_url}/{path}"
        attempt = 0
        while True:
            delay = FIRST_RETRY_DELAY * 2**attempt * (0.5 + 0.5 * self._jitter())
            try:
                response = await self._send(method, url, content, self._time_left(deadline))
            except ApiConnectionError as error:
                failure: ApiError = error
            else:
                if response.is_success:
                    return _data(response), attempt + 1
                failure = self._failure(response)
                if not _is_temporary(response.status):
                    raise failure
                asked = self._asked_delay(response.headers.get)
                delay = delay if asked is None else asked
            attempt += 1
            delay = min(delay, LONGEST_RETRY_DELAY)
            if attempt > MAX_RETRIES or _passes(deadline, delay):
                raise failure
            await self._sleep(delay)

    async def _send(self, method: str, url: str, content: bytes | None, timeout: float) -> Answer:
        if self._closed:
            raise ApiConnectionError("the client is shut down")
        if timeout <= 0:
            raise ApiConnectionError("no time is left for the request")
        try:
            # httpx limits each phase of a request, so that a server may drip its answer for ever:
            # the limit that counts is the one on the whole.
            with own_request():
                return await asyncio.wait_for(self._request(method, url, content, timeout), timeout)
        except asyncio.TimeoutError:
            raise ApiTimeoutError from None
        except ApiConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - a client of the user's raises what it likes
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> ApiConnectionError:
        # Of httpx or of httpx2.
        if any(kind.__name__ == "TimeoutException" for kind in type(error).__mro__):
            return ApiTimeoutError()
        detail = str(error).replace(self._settings.api_key or "\0", "***")
        return ApiConnectionError(f"{type(error).__name__}: {detail}")

    async def _request(
        self, method: str, url: str, content: bytes | None, timeout: float
    ) -> Answer:
        for _ in range(MOST_REDIRECTS):
            if self._given is not None:
                answer = await self._given(method, url, content, self._headers, timeout)
            else:
                client = await self._own_client(is_loopback(url))
                answer = await over_httpx(client, method, url, content, self._headers, None)
            location = answer.headers.get("location")
            # Any other redirect would make a GET of it, whose answer tells nothing.
            if answer.status not in KEEPING_REDIRECTS or location is None or not self._follows:
                return answer
            url = urljoin(url, location)
        raise ApiConnectionError(f"it was redirected more than {MOST_REDIRECTS} times")

    async def _own_client(self, loopback: bool) -> httpx.AsyncClient:
        """Return our client for hosts on this machine, which no proxy may serve, or for others."""

        def make() -> httpx.AsyncClient:
            with using_openssl:
                return httpx.AsyncClient(trust_env=not loopback)

        if loopback not in self._owned:
            # In a thread, as reading the system's certificates would hold up the loop.
            making = asyncio.to_thread(make)
            self._owned[loopback] = asyncio.ensure_future(making)
        owned = self._owned[loopback]
        try:
            return await asyncio.shield(owned)
        except Exception:
            # A proxy that the environment names may be one that httpx cannot speak to.
            if self._owned.get(loopback) is owned:
                del self._owned[loopback]
            raise

    def _time_left(self, deadline: float | None) -> float:
        if deadline is None:
            return self._settings.timeout
        return min(self._settings.timeout, deadline - asyncio.get_running_loop().time())

    def _failure(self, response: Answer) -> ApiError:
        message = _error_text(response).replace(self._settings.api_key or "\0", "***")
        status = response.status
        kinds = {401: AuthenticationError, 403: AuthenticationError, 402: PaymentRequiredError}
        kinds[404] = NotFoundError
        return kinds.get(status, ApiError)(message, status)

    def _asked_delay(self, header: Callable[[str], str | None]) -> float | None:
        """Seconds that the server asks us to wait, None if it says nothing that can be read."""
        for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            try:
                delay = float(header(name) or "") * unit
            except ValueError:
                continue
            if delay >= 0:
                return delay
        try:
            instant = email.utils.parsedate_to_datetime(header("retry-after") or "").timestamp()
        except (TypeError, ValueError, OverflowError):
            try:
                instant = float(header("x-ratelimit-reset") or "")
            except ValueError:
                return None
        delay = instant - self._clock()
        return delay if delay >= 0 else None


def _is_explained(content: bytes) -> bool:
    """Whether an answer is an error as the service writes it: a JSON object that tells it."""
    try:
        body = json_text.read(content)
    except ValueError:
        return False
    return isinstance(body, dict) and "error" in body


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


def _data(response: Answer) -> object:
    if not response.content:
        return None
    try:
        answer = json_text.read(response.content)
    except json_text.NotJSONError as error:
        raise UnreadableApiAnswerError("the answer is not JSON", response.status) from error
    return answer.get("data") if isinstance(answer, dict) else None


def _error_text(response: Answer) -> str:
    try:
        body = json_text.read(response.content)
    except json_text.NotJSONError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    return error[:_ERROR_TEXT_LIMIT] if isinstance(error, str) else response.reason


def _is_temporary(status: int) -> bool:
    return status in {408, 429} or status >= httpx.codes.INTERNAL_SERVER_ERROR


def _passes(deadline: float | None, delay: float) -> bool:
    return deadline is not None and asyncio.get_running_loop().time() + delay >= deadline
