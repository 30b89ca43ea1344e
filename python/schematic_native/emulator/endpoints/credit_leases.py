"""Leases and reservations over REST: acquire, extend, release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.endpoints import request_body, responses
from schematic_native.emulator.endpoints.keyed_routes import keyed_routes

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from schematic_native.emulator.state.service import Service

DEFAULT_DURATION = 300.0  # seconds, for a request that names no expiry


def routes(service: Service) -> list[Route]:
    """Return the routes over one service.

    The published SDKs change leases and reservations with PUT, the protocol's description with POST; both do.
    """
    leases = _Leases(service)
    return keyed_routes(
        service,
        [
            ("POST", "/billing/credits/lease", leases.acquire),
            ("POST PUT", "/billing/credits/lease/{id}/extend", leases.extend),
            ("POST PUT", "/billing/credits/lease/{id}/release", leases.release),
            (
                "POST PUT",
                "/billing/credits/reservations/{id}/release",
                leases.release_reservation,
            ),
        ],
    )


class _Leases:
    """One handler for each call."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def acquire(self, request: Request) -> Any:
        body = await request_body.read_object(request)
        expires_at = request_body.instant(body, "expires_at")
        lease = self._service.acquire(
            request_body.text(body, "company_id"),
            request_body.text(body, "credit_type_id"),
            request_body.number(body, "requested_amount"),
            self._service.clock.now() + DEFAULT_DURATION if expires_at is None else expires_at,
        )
        return responses.lease_data(lease)

    async def extend(self, request: Request) -> Any:
        body = await request_body.read_object(request)
        lease = self._service.extend(
            request.path_params["id"],
            request_body.number(body, "additional_amount"),
            request_body.instant(body, "expires_at"),
            request_body.optional_text(body, "idempotency_key"),
        )
        return responses.lease_data(lease)

    async def release(self, request: Request) -> Any:
        return responses.lease_data(self._service.release(request.path_params["id"]))

    async def release_reservation(self, request: Request) -> Any:
        reservation = self._service.release_reservation(request.path_params["id"])
        return responses.reservation_data(reservation)
