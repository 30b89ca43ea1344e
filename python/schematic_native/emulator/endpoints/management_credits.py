"""The management calls about credit types, balances and grants.

Credit types are those that balances, entitlements and rules name; none can be made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.endpoints import management_responses, query, request_body
from schematic_native.emulator.endpoints.keyed_routes import keyed_routes
from schematic_native.emulator.errors import InvalidRequestError, UnknownIdError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from schematic_native.emulator.state.service import Service

Entity = dict[str, Any]


def routes(service: Service) -> list[Route]:
    """Return the routes over one service."""
    credit = _Credits(service)
    return keyed_routes(
        service,
        [
            ("GET", "/billing/credits", credit.credits),
            ("GET", "/billing/credits/count", credit.count_credits),
            ("GET", "/billing/credits/balance", credit.balances),
            ("POST", "/billing/credits/grants/company", credit.grant),
            ("GET", "/billing/credits/grants/company/list", credit.company_grants),
            ("GET", "/billing/credits/grants/company/count", credit.count_company_grants),
            ("GET", "/billing/credits/grants/list", credit.credit_grants),
            ("PUT", "/billing/credits/grants/{id}/zero-out", credit.zero_out),
            ("GET", "/billing/credits/{id}", credit.credit),
        ],
    )


class _Credits:
    """One handler for each call."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def credits(self, request: Request) -> Any:
        return [
            management_responses.credit(each)
            for each in query.page(request, self._credits(request))
        ]

    async def count_credits(self, request: Request) -> Any:
        return {"count": len(self._credits(request))}

    def _credits(self, request: Request) -> list[str]:
        query.check_filters(request, "ids", "name")
        name = request.query_params.get("name")
        found = query.selected(
            request, {credit: credit for credit in self._service.state.credit_types()}
        )
        return [credit for credit in found if name in (None, credit)]

    async def credit(self, request: Request) -> Any:
        return management_responses.credit(
            query.known(request, "credit type", self._service.state.credit_types())
        )

    async def balances(self, request: Request) -> Any:
        self._service.sweep()
        return management_responses.balances(self._service, self._company_asked(request))

    async def grant(self, request: Request) -> Any:
        body = await request_body.read_object(request)
        _refuse_fields(body, "renewal_enabled", "renewal_period", "billing_periods_count")
        _refuse_fields(body, "credit_bundle_id", "expiry_unit", "expiry_unit_count")
        given = self._service.grant_credits(
            request_body.text(body, "company_id"),
            request_body.text(body, "credit_id"),
            request_body.number(body, "quantity"),
            request_body.text(body, "reason"),
            request_body.instant(body, "expires_at"),
        )
        return management_responses.grant(self._service, given)

    async def company_grants(self, request: Request) -> Any:
        grants = self._company_grants(request)
        found = [management_responses.grant(self._service, grants[each]) for each in grants]
        order = request.query_params.get("order", "created_at")
        if order not in {"created_at", "expires_at", "quantity", "quantity_remaining"}:
            raise InvalidRequestError(f"the emulator does not order grants by {order}")
        backwards = request.query_params.get("dir", "asc") == "desc"
        found.sort(key=lambda each: (each[order] is None, each[order] or 0), reverse=backwards)
        return query.page(request, found)

    async def count_company_grants(self, request: Request) -> Any:
        return {"count": len(self._company_grants(request))}

    def _company_grants(self, request: Request) -> Any:
        query.check_filters(request, "company_id", "order", "dir")
        self._service.sweep()
        company_id = self._company_asked(request)
        grants = self._service.state.grants.by_id
        return {name: each for name, each in grants.items() if each.company_id == company_id}

    async def credit_grants(self, request: Request) -> Any:
        query.check_filters(request, "credit_id", "ids")
        self._service.sweep()
        credit, grants = request.query_params.get("credit_id"), self._service.state.grants.by_id
        found = query.selected(request, {name: name for name in grants}, keep_order=True)
        found = [each for each in found if credit in (None, grants[each].credit_type_id)]
        return [
            management_responses.grant(self._service, grants[each])
            for each in query.page(request, found)
        ]

    async def zero_out(self, request: Request) -> Any:
        body = await request_body.read_object(request)
        reason = request_body.optional_text(body, "reason") or "zeroed_out"
        given = self._service.zero_out_grant(request.path_params["id"], reason)
        return management_responses.grant(self._service, given)

    def _company_asked(self, request: Request) -> str:
        company_id = request.query_params.get("company_id", "")
        if company_id not in self._service.directory.companies:
            raise UnknownIdError(f"company not found: {company_id}")
        return company_id


def _refuse_fields(body: Entity, *names: str) -> None:
    for name in names:
        if body.get(name):
            raise InvalidRequestError(f"the emulator does not know {name} of a grant")
