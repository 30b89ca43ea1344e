"""The admin API under `/_emulator`: state, events, time, faults, entities; for loopback only.

It is the emulator's own: the service has nothing like it, and no client of the service may need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from schematic_native.emulator.endpoints import request_body, responses
from schematic_native.emulator.endpoints.datastream import COMPANY, FLAG, USER
from schematic_native.emulator.endpoints.own_page_guard import require_own_page
from schematic_native.emulator.errors import InvalidRequestError, UnknownIdError
from schematic_native.emulator.seed import load_seed
from schematic_native.emulator.seed_schema import (
    SeedError,
    check_company,
    check_flag,
    check_user,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from schematic_native.emulator.components import Components

    Handle = Callable[[Request], Awaitable[Any]]

PREFIX = "/_emulator"
_KINDS = {
    "flag": (FLAG, check_flag),
    "company": (COMPANY, check_company),
    "user": (USER, check_user),
}


def routes(components: Components) -> list[Route]:
    """Return the admin routes."""
    admin = _Admin(components)

    def route(method: str, path: str, handle: Handle) -> Route:
        async def endpoint(request: Request) -> Response:
            require_own_page(request)
            return responses.JSONResponse(await handle(request))

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
        route("GET", "/seed", admin.seed),
        route("POST", "/reset", admin.reset),
        route("GET", "/{kind:str}/{id:path}", admin.entity),
        route("PUT", "/{kind:str}", admin.put_entity),
        route("DELETE", "/{kind:str}/{id:path}", admin.delete_entity),
    ]


class _Admin:
    """One handler for each call."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self._service = components.service
        self._stream = components.stream
        self._injector = components.injector
        self._traffic = components.traffic

    async def state(self, _request: Request) -> Any:
        return self._service.summary() | {
            "requests": dict(self._traffic.requests),
            "unknown": dict(self._traffic.unknown),
        }

    async def events(self, request: Request) -> Any:
        try:
            after = int(request.query_params.get("after", "0"))
            limit = int(request.query_params.get("limit", "10000"))
        except ValueError as error:
            raise InvalidRequestError(f"after and limit must be whole numbers: {error}") from error
        return self._service.events(max(after, 0), max(limit, 0))

    async def audit(self, _request: Request) -> Any:
        return self._service.audit()

    async def turn_clock(self, request: Request) -> Any:
        """Advance by seconds, freeze (at an instant in epoch seconds, or now: true) or resume."""
        body = await request_body.read_object(request)
        service = self._service
        if "freeze" in body:
            service.freeze_clock(
                None if body["freeze"] is True else request_body.number(body, "freeze")
            )
        if body.get("resume"):
            service.resume_clock()
        if "advance" in body:
            service.advance(body["advance"])
        return {"now": service.clock.now()}

    async def fail(self, request: Request) -> Any:
        return (await self._injector.fail(await request_body.read_object(request))).describe()

    async def faults(self, _request: Request) -> Any:
        return [fault.describe() for fault in self._injector.faults.in_force.values()]

    async def heal(self, request: Request) -> Any:
        body = await request_body.read_object(request)
        await self._injector.heal(body.get("id"))
        return {}

    async def drop_sockets(self, _request: Request) -> Any:
        return {"dropped": self._injector.drop_sockets()}

    async def send_raw(self, request: Request) -> Any:
        return {"sent": self._stream.send_raw((await request.body()).decode())}

    async def set_balance(self, request: Request) -> Any:
        body = await request_body.read_object(request)
        self._service.set_balance(
            request_body.text(body, "company_id"),
            request_body.text(body, "credit_type_id"),
            request_body.number(body, "amount"),
        )
        return {}

    async def seed(self, _request: Request) -> Any:
        return self._service.as_seed()

    async def reset(self, request: Request) -> Any:
        """Begin anew, from the same seed or from the one that the body holds."""
        body = await request_body.read_object(request)
        try:
            seed = load_seed(body["seed"]) if body.get("seed") is not None else None
        except (SeedError, TypeError) as error:
            raise InvalidRequestError(str(error)) from error
        await self._components.reset(seed)
        return {}

    async def entity(self, request: Request) -> Any:
        """Return a flag, company or user as the DataStream would send it."""
        kind, entity_id = request.path_params["kind"], request.path_params["id"]
        directory = self._service.directory
        known = {"flag": directory.flags, "company": directory.companies, "user": directory.users}
        entities = known.get(kind) or _unknown_kind(kind)
        if entity_id not in entities:
            raise UnknownIdError(f"{kind} not found: {entity_id}")
        return self._service.company_wire(entity_id) if kind == "company" else entities[entity_id]

    async def put_entity(self, request: Request) -> Any:
        kind = request.path_params["kind"]
        entity_type, check = _KINDS.get(kind) or _unknown_kind(kind)
        entity = await request_body.read_object(request)
        try:
            check(entity, kind)
        except SeedError as error:
            raise InvalidRequestError(str(error)) from error
        service = self._service
        self._stream.push_changes()  # what changed before must not arrive after the whole entity
        {"flag": service.set_flag, "company": service.set_company, "user": service.set_user}[kind](
            entity
        )
        self._stream.push_full(entity_type, entity["id"])
        return {}

    async def delete_entity(self, request: Request) -> Any:
        kind, entity_id = request.path_params["kind"], request.path_params["id"]
        entity_type, _ = _KINDS.get(kind) or _unknown_kind(kind)
        self._service.delete(kind, entity_id)
        self._stream.push_delete(entity_type, entity_id)
        return {}


def _unknown_kind(kind: str) -> Any:
    raise UnknownIdError(f"no such kind of entity: {kind}; there are {', '.join(_KINDS)}")
