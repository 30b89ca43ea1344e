"""Writing responses: the API's envelope, error bodies, and how leases and reservations look in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from schematic_native.emulator.clock import format_instant
from schematic_native.emulator.credits.amounts import ONE, to_credits
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.websockets import WebSocket

    from schematic_native.emulator.credits.holds import Lease, Reservation

Entity = dict[str, Any]


class JSONResponse(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Serialise the body."""
        return json_text.write(content)


def wrapped(data: object) -> JSONResponse:
    """Put an answer into the API's envelope."""
    return JSONResponse({"data": data, "params": {}})


def refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Answer with an error body."""
    return JSONResponse({"error": message}, status, headers)


async def deny(socket: WebSocket, response: Response) -> None:
    """Answer a handshake with an HTTP response instead of a WebSocket."""
    # The server writes the length itself, and older uvicorns would write it twice.
    del response.headers["content-length"]
    await socket.send_denial_response(response)


def lease_data(lease: Lease) -> Entity:
    """Write a lease as the API answers it."""
    return {
        "id": lease.id,
        "company_id": lease.company_id,
        "credit_type_id": lease.credit_type_id,
        "granted_amount": to_credits(lease.granted),
        "tracked_amount": to_credits(lease.tracked),
        "expires_at": format_instant(lease.expires_at),
        "created_at": format_instant(lease.created_at),
        "updated_at": format_instant(lease.updated_at),
        "released_at": None if lease.released_at is None else format_instant(lease.released_at),
    }


def reservation_data(reservation: Reservation) -> Entity:
    """Write a reservation as the release of it is answered."""
    released_at = reservation.released_at
    return {
        "id": reservation.id,
        "company_id": reservation.company_id,
        "credit_type_id": reservation.credit_type_id,
        "reserved_amount": to_credits(reservation.reserved),
        "settled_amount": to_credits(reservation.settled),
        "expires_at": format_instant(reservation.expires_at),
        "created_at": format_instant(reservation.created_at),
        "updated_at": format_instant(reservation.updated_at),
        "released_at": None if released_at is None else format_instant(released_at),
    }


def check_reservation_data(reservation: Reservation) -> Entity:
    """Write a reservation as a check is answered."""
    return {
        "id": reservation.id,
        "company_id": reservation.company_id,
        "credit_type_id": reservation.credit_type_id,
        "credits_reserved": to_credits(reservation.reserved),
        "quantity_reserved": reservation.quantity,
        "consumption_rate": reservation.rate / ONE,
        "event_subtype": reservation.event_subtype,
        "expires_at": format_instant(reservation.expires_at),
    }
