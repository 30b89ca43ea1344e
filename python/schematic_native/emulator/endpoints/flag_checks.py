"""Flag checks over REST: one flag, all flags, in bulk, and with a reservation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from schematic_native.emulator.endpoints import request_body, responses
from schematic_native.emulator.endpoints.check_subject import Subject
from schematic_native.emulator.endpoints.credit_leases import DEFAULT_DURATION
from schematic_native.emulator.endpoints.keyed_routes import keyed_routes
from schematic_native.emulator.errors import (
    InsufficientCreditsError,
    InvalidRequestError,
    UnknownIdError,
)
from schematic_native.emulator.state.commands import Reserve

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from schematic_native.emulator.credits.holds import Reservation
    from schematic_native.emulator.state.service import Service

Entity = dict[str, Any]


def routes(service: Service) -> list[Route]:
    """Return the routes over one service."""
    checks = _Checks(service)
    return keyed_routes(
        service,
        [
            ("POST", "/flags/check", checks.check_flags),
            ("POST", "/flags/check-bulk", checks.check_bulk),
            ("POST", "/flags/{key}/check", checks.check_flag),
            ("POST", "/flags/{key}/check-and-reserve", checks.check_and_reserve),
        ],
    )


class _Checks:
    """One handler for each call."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def check_flag(self, request: Request) -> Any:
        body = await request_body.read_object(request)
        flag = self._flag(request.path_params["key"])
        return Subject(self._service, body).check(flag, request_body.preflight(body))

    async def check_flags(self, request: Request) -> Any:
        return self._check_all(await request_body.read_object(request))

    async def check_bulk(self, request: Request) -> Any:
        body = await request_body.read_object(request)
        contexts = body.get("contexts")
        if not isinstance(contexts, list) or not all(isinstance(c, dict) for c in contexts):
            raise InvalidRequestError("contexts must be a list of objects")
        return {"data": [self._check_all(context) for context in contexts]}

    def _check_all(self, context: Entity) -> Entity:
        subject = Subject(self._service, context)
        options = request_body.preflight(context)
        data: Entity = {
            "flags": [
                subject.check(flag, options) for flag in self._service.directory.flags.values()
            ],
            "credit_spend_policies": subject.spend_policies(),
        }
        if subject.company_id is not None:
            data["credit_balances"] = subject.credit_balances()
        return data

    async def check_and_reserve(self, request: Request) -> Any:
        body = await request_body.read_object(request)
        flag = self._flag(request.path_params["key"])
        quantity = math.ceil(request_body.number(body, "quantity"))
        expires_at = request_body.instant(body, "expires_at")
        key = request_body.optional_text(body, "idempotency_key")
        if quantity < 0:
            raise InvalidRequestError(f"quantity must not be negative, got {quantity}")
        subject = Subject(self._service, body)
        if subject.company_id is not None:
            answered = self._service.repeated_reserve(subject.company_id, key)
            if answered is not None:
                return _reserved(*answered)
        options = request_body.preflight(body)
        price = _price(subject, flag) if quantity > 0 else None
        if price is None:
            return subject.check(flag, options)
        cost = {**(options.get("credit_cost") or {}), price.slot[1]: quantity * price.rate}
        verdict = _verdict(subject, flag, {**options, "credit_cost": cost}, price.slot[1])
        if not verdict["value"]:
            return verdict
        command = Reserve(
            slot=price.slot,
            event_subtype=price.event_subtype,
            rate=price.rate,
            quantity=quantity,
            expires_at=self._service.clock.now() + DEFAULT_DURATION
            if expires_at is None
            else expires_at,
            key=key,
            verdict=verdict,
        )
        return _reserved(*self._service.reserve(command))

    def _flag(self, key: str) -> Entity:
        flag = self._service.directory.flag(key)
        if flag is None:
            raise UnknownIdError(f"flag not found: {key}")
        return flag


class _Price(NamedTuple):
    """What a check costs: credits for each unit, out of which slot."""

    slot: tuple[str, str]
    event_subtype: str | None
    rate: float


def _price(subject: Subject, flag: Entity) -> _Price | None:
    """Return what a flag costs a company, or None where it costs no credits."""
    entitlement = subject.check(flag, {}).get("entitlement") or {}
    credit = entitlement.get("credit_id")
    rate = entitlement.get("consumption_rate", 1)
    is_metered = entitlement.get("value_type") == "credit" and rate > 0
    if not is_metered or not credit or subject.company_id is None:
        return None
    return _Price((subject.company_id, credit), entitlement.get("event_subtype"), rate)


def _verdict(subject: Subject, flag: Entity, options: Entity, credit: str) -> Entity:
    """Check a flag at a cost.

    Raises:
        InsufficientCreditsError: Nothing but the credits is missing.

    """
    verdict = subject.check(flag, options)
    if not verdict["value"] and subject.check(flag, options, endless=credit)["value"]:
        cost = options["credit_cost"][credit]
        raise InsufficientCreditsError(f"insufficient credits: {cost} of {credit} asked for")
    return verdict


def _reserved(verdict: Entity, reservation: Reservation) -> Entity:
    return {**verdict, "reservation": responses.check_reservation_data(reservation)}
