"""The admin API under `/_emulator`: state, events, time, faults, entities; for loopback only."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from schematic_native.emulator import answers, seed
from schematic_native.emulator.datastream import COMPANY, FLAG, USER
from schematic_native.emulator.errors import InvalidRequestError, ServiceError, UnknownIdError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from schematic_native.emulator.app import App

    Handle = Callable[[Request], Awaitable[Any]]

PREFIX = "/_emulator"
_KINDS = {
    "flag": (FLAG, seed.check_flag),
    "company": (COMPANY, seed.check_company),
    "user": (USER, seed.check_user),
}


class NotLoopbackError(ServiceError):
    """An admin request from another machine."""

    status = 403


def routes(app: App) -> list[Route]:
    """Return the admin routes over one application."""
    admin = _Admin(app)

    def route(method: str, path: str, handle: Handle) -> Route:
        async def endpoint(request: Request) -> Response:
            _require_loopback(request)
            return answers.JSONAnswer(await handle(request))

        return Route(PREFIX + path, endpoint, methods=[method])

    return [
        route("GET", "/state", admin.state),
        route("GET", "/events", admin.events),
        route("GET", "/audit", admin.audit),
        route("POST", "/clock", admin.turn_clock),
        route("POST", "/fail", admin.fail),
        route("GET", "/faults", admin.faults),
        route("POST", "/heal", admin.heal),
        route("POST", "/drop-sockets", admin.drop_sockets),
        route("POST", "/send-raw", admin.send_raw),
        route("POST", "/balance", admin.set_balance),
        route("PUT", "/{kind:str}", admin.put_entity),
        route("DELETE", "/{kind:str}/{id:path}", admin.delete_entity),
    ]


def _require_loopback(request: Request) -> None:
    host = request.client.host if request.client else ""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise NotLoopbackError("the admin API answers loopback callers only")


class _Admin:
    """One handler for each call."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def state(self, _request: Request) -> Any:
        return self._app.service.state() | {
            "requests": dict(self._app.requests),
            "unknown": dict(self._app.unknown),
        }

    async def events(self, request: Request) -> Any:
        try:
            after = int(request.query_params.get("after", "0"))
            limit = int(request.query_params.get("limit", "10000"))
        except ValueError as error:
            raise InvalidRequestError(f"after and limit must be whole numbers: {error}") from error
        return self._app.service.events(max(after, 0), max(limit, 0))

    async def audit(self, _request: Request) -> Any:
        return self._app.service.audit()

    async def turn_clock(self, request: Request) -> Any:
        """Advance by seconds, freeze (at an instant in epoch seconds, or now: true) or resume."""
        body = await answers.read_object(request)
        service = self._app.service
        if "freeze" in body:
            service.freeze_clock(None if body["freeze"] is True else answers.number(body, "freeze"))
        if body.get("resume"):
            service.resume_clock()
        if "advance" in body:
            service.advance(body["advance"])
        return {"now": service.clock.now()}

    async def fail(self, request: Request) -> Any:
        return (await self._app.fail(await answers.read_object(request))).describe()

    async def faults(self, _request: Request) -> Any:
        return [fault.describe() for fault in self._app.faults.faults.values()]

    async def heal(self, request: Request) -> Any:
        body = await answers.read_object(request)
        await self._app.heal(body.get("id"))
        return {}

    async def drop_sockets(self, _request: Request) -> Any:
        return {"dropped": self._app.drop_sockets()}

    async def send_raw(self, request: Request) -> Any:
        return {"sent": self._app.stream.send_raw((await request.body()).decode())}

    async def set_balance(self, request: Request) -> Any:
        body = await answers.read_object(request)
        self._app.service.set_balance(
            answers.text(body, "company_id"),
            answers.text(body, "credit_type_id"),
            answers.number(body, "amount"),
        )
        return {}

    async def put_entity(self, request: Request) -> Any:
        kind = request.path_params["kind"]
        entity_type, check = _KINDS.get(kind) or _unknown_kind(kind)
        entity = await answers.read_object(request)
        try:
            check(entity, kind)
        except seed.SeedError as error:
            raise InvalidRequestError(str(error)) from error
        service = self._app.service
        self._app.stream.push_moved()  # what moved before must not arrive after the whole entity
        {"flag": service.set_flag, "company": service.set_company, "user": service.set_user}[kind](
            entity
        )
        self._app.stream.push_full(entity_type, entity["id"])
        return {}

    async def delete_entity(self, request: Request) -> Any:
        kind, entity_id = request.path_params["kind"], request.path_params["id"]
        entity_type, _ = _KINDS.get(kind) or _unknown_kind(kind)
        self._app.service.delete(kind, entity_id)
        self._app.stream.push_delete(entity_type, entity_id)
        return {}


def _unknown_kind(kind: str) -> Any:
    raise UnknownIdError(f"no such kind of entity: {kind}; there are {', '.join(_KINDS)}")
