"""The management calls about plans, features and flags, which can only be read.

There is no catalogue behind them: plans and features are those that the seed's companies and flags
name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.endpoints import management_responses, query
from schematic_native.emulator.endpoints.keyed_routes import keyed_routes

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from schematic_native.emulator.state.service import Service


def routes(service: Service) -> list[Route]:
    """Return the routes over one service."""
    catalogue = _Catalogue(service)
    return keyed_routes(
        service,
        [
            ("GET", "/plans", catalogue.plans),
            ("GET", "/plans/count", catalogue.count_plans),
            ("GET", "/plans/{id}", catalogue.plan),
            ("GET", "/features", catalogue.features),
            ("GET", "/features/count", catalogue.count_features),
            ("GET", "/features/{id}", catalogue.feature),
            ("GET", "/flags", catalogue.flags),
            ("GET", "/flags/count", catalogue.count_flags),
            ("GET", "/flags/{id}", catalogue.flag),
        ],
    )


class _Catalogue:
    """One handler for each call."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def plans(self, request: Request) -> Any:
        found = query.page(request, self._plans(request))
        return management_responses.every(management_responses.plan, self._service, found)

    async def count_plans(self, request: Request) -> Any:
        return {"count": len(self._plans(request))}

    def _plans(self, request: Request) -> list[str]:
        query.check_filters(request, "ids", "q", "plan_type")
        if request.query_params.get("plan_type", "plan") != "plan":
            return []
        return query.selected(request, {plan: plan for plan in self._service.directory.plans()})

    async def plan(self, request: Request) -> Any:
        return management_responses.plan(
            self._service, query.known(request, "plan", self._service.directory.plans())
        )

    async def features(self, request: Request) -> Any:
        found = query.page(request, self._features(request))
        return management_responses.every(management_responses.feature, self._service, found)

    async def count_features(self, request: Request) -> Any:
        return {"count": len(self._features(request))}

    def _features(self, request: Request) -> list[str]:
        query.check_filters(request, "ids", "q")
        found = management_responses.features(self._service)
        return query.selected(request, {name: each["feature_key"] for name, each in found.items()})

    async def feature(self, request: Request) -> Any:
        found = management_responses.features(self._service)
        return management_responses.feature(self._service, query.known(request, "feature", found))

    async def flags(self, request: Request) -> Any:
        flags = self._service.directory.flags
        return [
            management_responses.flag(flags[each])
            for each in query.page(request, self._flags(request))
        ]

    async def count_flags(self, request: Request) -> Any:
        return {"count": len(self._flags(request))}

    def _flags(self, request: Request) -> list[str]:
        query.check_filters(request, "ids", "q")
        flags = self._service.directory.flags
        return query.selected(request, {name: flag["key"] for name, flag in flags.items()})

    async def flag(self, request: Request) -> Any:
        flags = self._service.directory.flags
        return management_responses.flag(flags[query.known(request, "flag", flags)])
