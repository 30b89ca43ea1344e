"""The management call that makes a temporary access token for a company."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.endpoints import management_responses, request_body
from schematic_native.emulator.endpoints.keyed_routes import keyed_routes
from schematic_native.emulator.errors import InvalidRequestError, UnknownIdError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from schematic_native.emulator.state.service import Service

_LIFETIME = 900.0  # seconds


def routes(service: Service) -> list[Route]:
    """Return the route over one service."""

    async def issue_token(request: Request) -> Any:
        body = await request_body.read_object(request)
        if body.get("resource_type", "company") != "company":
            raise InvalidRequestError("resource_type must be company")
        company_id = service.directory.company_id(request_body.keys(body, "lookup"))
        if company_id is None:
            raise UnknownIdError("company not found: no company has these keys")
        return management_responses.token(service, service.issue_token(company_id, _LIFETIME))

    return keyed_routes(service, [("POST", "/temporary-access-tokens", issue_token)])
