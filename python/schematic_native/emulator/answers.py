"""Request bodies and answers of the REST API: the envelope, the errors, the shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from schematic_native.emulator.amounts import ONE, is_finite, to_credits
from schematic_native.emulator.clock import format_instant, parse_instant
from schematic_native.emulator.errors import InvalidRequestError
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from schematic_native.emulator.ledger import Lease, Reservation

Entity = dict[str, Any]


class JSONAnswer(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Serialise the body."""
        return json_text.write(content)


def wrapped(data: object) -> JSONAnswer:
    """Put an answer into the API's envelope."""
    return JSONAnswer({"data": data, "params": {}})


def refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONAnswer:
    """Answer with an error body."""
    return JSONAnswer({"error": message}, status, headers)


async def deny(socket: WebSocket, answer: Response) -> None:
    """Answer a handshake with an HTTP response instead of a WebSocket."""
    # The server writes the length itself, and older uvicorns would write it twice.
    del answer.headers["content-length"]
    await socket.send_denial_response(answer)


async def read_object(request: Request) -> Entity:
    """Read a JSON object; an empty body is an empty object.

    Raises:
        InvalidRequestError: The body is something else.

    """
    content = await request.body()
    if not content:
        return {}
    try:
        body = json_text.read(content)
    except json_text.NotJSONError as error:
        raise InvalidRequestError(f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidRequestError("the body must be a JSON object")
    return body


def text(body: Entity, name: str) -> str:
    """Return a required, non-empty string of a body."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f"{name} must be a non-empty string, got {value!r}")
    return value


def optional_text(body: Entity, name: str) -> str | None:
    """Return a string of a body, or None where it is left out."""
    return None if body.get(name) is None else text(body, name)


def number(body: Entity, name: str) -> float:
    """Return a required finite number of a body."""
    value = body.get(name)
    if not is_finite(value):
        raise InvalidRequestError(f"{name} must be a finite number, got {value!r}")
    return value


def instant(body: Entity, name: str) -> float | None:
    """Return an RFC 3339 instant of a body as epoch seconds, or None where it is left out."""
    value = optional_text(body, name)
    if value is None:
        return None
    try:
        return parse_instant(value)
    except ValueError as error:
        raise InvalidRequestError(f"{name} must be an RFC 3339 instant, got {value!r}") from error


def keys(body: Entity, name: str) -> dict[str, str] | None:
    """Return the lookup keys of a company or user, or None where they are left out."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value.values()):
        raise InvalidRequestError(f"{name} must be an object of strings, got {value!r}")
    return value


def preflight(body: Entity) -> Entity:
    """Return the preflight of a check as the engine's options."""
    value = body.get("preflight")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(f"preflight must be an object, got {value!r}")
    return {name: part for name, part in value.items() if part is not None}


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
