"""Event capture: `POST /batch`, the one path where a hot client posts thousands of requests.

A bare ASGI handler: one parse of the body, one pass over the events to check them, one pass to take
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.endpoints.own_page_guard import require_local_origin
from schematic_native.emulator.errors import InvalidRequestError, ServiceError, UnauthorizedError
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from schematic_native.emulator.state.service import Service

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

LARGEST_BATCH = 100  # events
_KINDS = frozenset({"track", "identify", "flag_check"})


class BatchTooLargeError(InvalidRequestError):
    """More events than one request may carry."""


async def capture(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """Take one batch from an ASGI request and answer it."""
    status = 200
    try:
        # The API key is in the body, which any page may post, and that of the shipped seed is known.
        require_local_origin(scope["headers"])
        answer: dict[str, Any] = {"events": take(service, await _body(receive))}
    except BatchTooLargeError as error:
        status, answer = 400, {"error": str(error), "max_size": LARGEST_BATCH}
    except ServiceError as error:
        status, answer = error.status, {"error": str(error)}
    body = json_text.write(answer)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise InvalidRequestError("the request ended before its body did")
    return body


def take(service: Service, body: bytes) -> int:
    """Check one batch and hand it to the service; return how many events it had.

    Raises:
        ServiceError: The batch is refused whole, and nothing of it was taken.

    """
    try:
        batch = json_text.read(body)
    except json_text.NotJSONError as error:
        raise InvalidRequestError(f"the body is not valid JSON: {error}") from error
    events = batch.get("events") if isinstance(batch, dict) else None
    if not isinstance(events, list):
        raise InvalidRequestError("events must be a list")
    if len(events) > LARGEST_BATCH:
        raise BatchTooLargeError("batch too large")
    api_key = service.api_key
    for index, event in enumerate(events):
        if not isinstance(event, dict):
            raise InvalidRequestError(f"events[{index}] must be an object")
        if event.get("api_key") != api_key:
            raise UnauthorizedError(f"events[{index}]: missing or unknown API key")
        if event.get("type") not in _KINDS or not isinstance(event.get("body"), dict):
            raise InvalidRequestError(f"events[{index}] must have a known type and a body")
        key = event.get("idempotency_key")
        if key is not None and not isinstance(key, str):
            raise InvalidRequestError(f"events[{index}].idempotency_key must be a string")
    service.capture(body, events)
    return len(events)
