"""The REST API: leases, reservations and flag checks."""

from __future__ import annotations

import hmac
import math
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from schematic_native.emulator import answers
from schematic_native.emulator.directory import KeyConflictError
from schematic_native.emulator.errors import (
    InsufficientCreditsError,
    InvalidRequestError,
    UnauthorizedError,
    UnknownIdError,
)
from schematic_native.emulator.evaluation import evaluate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from schematic_native.emulator.ledger import Reservation
    from schematic_native.emulator.service import Service

Entity = dict[str, Any]

_DEFAULT_LEASE = 300.0  # seconds, for a request that names no expiry
_ENDLESS = float(2**53 - 1)  # credits: a balance that covers any cost


def routes(service: Service) -> list[Route]:
    """Return the routes over one service.

    The published SDKs change leases and reservations with PUT, the protocol's description with POST; both do.
    """
    rest = _Rest(service)
    change = ("POST", "PUT")

    def route(
        methods: Sequence[str], path: str, handle: Callable[[Request], Awaitable[Response]]
    ) -> Route:
        async def endpoint(request: Request) -> Response:
            require_key(service, request.headers.get("x-schematic-api-key"))
            return await handle(request)

        return Route(path, endpoint, methods=methods)

    return [
        route(["POST"], "/billing/credits/lease", rest.acquire),
        route(change, "/billing/credits/lease/{id}/extend", rest.extend),
        route(change, "/billing/credits/lease/{id}/release", rest.release),
        route(change, "/billing/credits/reservations/{id}/release", rest.release_reservation),
        route(["POST"], "/flags/check", rest.check_flags),
        route(["POST"], "/flags/check-bulk", rest.check_bulk),
        route(["POST"], "/flags/{key}/check", rest.check_flag),
        route(["POST"], "/flags/{key}/check-and-reserve", rest.check_and_reserve),
    ]


def require_key(service: Service, key: str | None) -> None:
    """Refuse a request without the seed's API key."""
    if key is None or not hmac.compare_digest(key.encode(), service.api_key.encode()):
        raise UnauthorizedError("missing or unknown API key")


class _Rest:
    """One handler for each call."""

    def __init__(self, service: Service) -> None:
        self._service = service

    # Leases and reservations

    async def acquire(self, request: Request) -> Response:
        body = await answers.read_object(request)
        expires_at = answers.instant(body, "expires_at")
        lease = self._service.acquire(
            answers.text(body, "company_id"),
            answers.text(body, "credit_type_id"),
            answers.number(body, "requested_amount"),
            self._service.clock.now() + _DEFAULT_LEASE if expires_at is None else expires_at,
        )
        return answers.wrapped(answers.lease_data(lease))

    async def extend(self, request: Request) -> Response:
        body = await answers.read_object(request)
        lease = self._service.extend(
            request.path_params["id"],
            answers.number(body, "additional_amount"),
            answers.instant(body, "expires_at"),
            answers.optional_text(body, "idempotency_key"),
        )
        return answers.wrapped(answers.lease_data(lease))

    async def release(self, request: Request) -> Response:
        return answers.wrapped(answers.lease_data(self._service.release(request.path_params["id"])))

    async def release_reservation(self, request: Request) -> Response:
        reservation = self._service.release_reservation(request.path_params["id"])
        return answers.wrapped(answers.reservation_data(reservation))

    # Checks

    async def check_flag(self, request: Request) -> Response:
        body = await answers.read_object(request)
        flag = self._flag(request.path_params["key"])
        return answers.wrapped(_Subject(self._service, body).check(flag, answers.preflight(body)))

    async def check_flags(self, request: Request) -> Response:
        return answers.wrapped(self._check_all(await answers.read_object(request)))

    async def check_bulk(self, request: Request) -> Response:
        body = await answers.read_object(request)
        contexts = body.get("contexts")
        if not isinstance(contexts, list) or not all(isinstance(c, dict) for c in contexts):
            raise InvalidRequestError("contexts must be a list of objects")
        return answers.wrapped({"data": [self._check_all(context) for context in contexts]})

    def _check_all(self, context: Entity) -> Entity:
        subject = _Subject(self._service, context)
        options = answers.preflight(context)
        data: Entity = {
            "flags": [
                subject.check(flag, options) for flag in self._service.directory.flags.values()
            ],
            "credit_spend_policies": subject.spend_policies(),
        }
        if subject.company_id is not None:
            data["credit_balances"] = subject.credit_balances()
        return data

    async def check_and_reserve(self, request: Request) -> Response:
        body = await answers.read_object(request)
        flag = self._flag(request.path_params["key"])
        quantity = math.ceil(answers.number(body, "quantity"))
        expires_at = answers.instant(body, "expires_at")
        key = answers.optional_text(body, "idempotency_key")
        if quantity < 0:
            raise InvalidRequestError(f"quantity must not be negative, got {quantity}")
        subject = _Subject(self._service, body)
        if subject.company_id is not None:
            answered = self._service.repeated_reserve(subject.company_id, key)
            if answered is not None:
                return _reserved(*answered)
        options = answers.preflight(body)
        entitlement = subject.check(flag, {}).get("entitlement") or {}
        credit = entitlement.get("credit_id")
        rate = entitlement.get("consumption_rate", 1)
        company_id = subject.company_id
        is_metered = entitlement.get("value_type") == "credit" and rate > 0 and quantity > 0
        if not is_metered or not credit or company_id is None:
            return answers.wrapped(subject.check(flag, options))
        cost = {**(options.get("credit_cost") or {}), credit: quantity * rate}
        options = {**options, "credit_cost": cost}
        if not subject.check(flag, options, endless=credit)["value"]:
            return answers.wrapped(subject.check(flag, options))
        verdict = subject.check(flag, options)
        if not verdict["value"]:
            raise InsufficientCreditsError(
                f"insufficient credits: {cost[credit]} of {credit} asked for"
            )
        answer = self._service.reserve(
            (company_id, credit),
            event_subtype=entitlement.get("event_subtype"),
            rate=rate,
            quantity=quantity,
            expires_at=self._service.clock.now() + _DEFAULT_LEASE
            if expires_at is None
            else expires_at,
            key=key,
            verdict=verdict,
        )
        return _reserved(*answer)

    def _flag(self, key: str) -> Entity:
        flag = self._service.directory.flag(key)
        if flag is None:
            raise UnknownIdError(f"flag not found: {key}")
        return flag


def _reserved(verdict: Entity, reservation: Reservation) -> Response:
    data = {**verdict, "reservation": answers.check_reservation_data(reservation)}
    return answers.wrapped(data)


class _Subject:
    """Whom a check is about: a company and a user, as far as they are known."""

    def __init__(self, service: Service, body: Entity) -> None:
        self._service = service
        directory = service.directory
        self.conflict: str | None = None
        self.company_id = self.user_id = None
        try:
            self.company_id = directory.company_id(answers.keys(body, "company"))
            self.user_id = directory.user_id(answers.keys(body, "user"))
        except KeyConflictError as error:
            self.conflict = str(error)
        self._company = None if self.company_id is None else service.company_wire(self.company_id)
        self._user = None if self.user_id is None else directory.users[self.user_id]

    def check(self, flag: Entity, options: Entity, endless: str | None = None) -> Entity:
        """Evaluate a flag; `endless` names a credit type to assume enough of."""
        if self.conflict is not None:
            return {
                "flag": flag["key"],
                "flag_id": flag["id"],
                "value": flag["default_value"],
                "reason": "key conflict",
                "error": self.conflict,
            }
        company = self._company
        if company is not None and endless is not None:
            company = {
                **company,
                "credit_balances": {**company["credit_balances"], endless: _ENDLESS},
            }
        try:
            return evaluate(flag, company, self._user, options, self._service.clock.now())
        except ValueError as error:
            raise InvalidRequestError(f"preflight: {error}") from error

    def credit_balances(self) -> Entity:
        """Return the company's credits as the check of all flags answers them."""
        if self.company_id is None or self._company is None:
            return {}
        postpaid = self._company.get("credit_postpaid") or {}
        balances: Entity = {}
        for credit, line in self._service.lines(self.company_id).items():
            terms = postpaid.get(credit)
            balances[credit] = {
                "remaining": line.remaining,
                "reserved": line.reserved,
                "settled": line.settled,
                "postpaid": terms is not None,
            }
            if terms is not None and terms.get("overdraft_limit") is not None:
                balances[credit]["overdraft_limit"] = terms["overdraft_limit"]
        return balances

    def spend_policies(self) -> list[Entity]:
        """Return the spend policies of the company and the user."""
        holders = (self._company or {}, self._user or {})
        return [
            policy for holder in holders for policy in holder.get("credit_spend_policies") or []
        ]
