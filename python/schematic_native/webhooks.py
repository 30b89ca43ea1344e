"""Verifies the signatures of webhooks: that Schematic sent a request, and that it was not altered.

It must never do I/O, or import a web framework. A signature is the HMAC-SHA256 of the body, a plus
sign and the timestamp, in hexadecimal digits.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

__all__ = [
    "WEBHOOK_SIGNATURE_HEADER",
    "WEBHOOK_TIMESTAMP_HEADER",
    "WebhookSignatureError",
    "compute_hex_signature",
    "compute_signature",
    "verify_signature",
    "verify_webhook_signature",
]

WEBHOOK_SIGNATURE_HEADER = "X-Schematic-Webhook-Signature"
WEBHOOK_TIMESTAMP_HEADER = "X-Schematic-Webhook-Timestamp"


class WebhookSignatureError(Exception):
    """A webhook was not signed with the secret, or a header or the body is missing."""


def compute_signature(body: str | bytes, timestamp: str, secret: str) -> bytes:
    """Return the signature of a body and its timestamp under a webhook's secret."""
    message = hmac.new(_bytes(secret), _bytes(body), hashlib.sha256)
    message.update(b"+" + _bytes(timestamp))
    return message.digest()


def compute_hex_signature(body: str | bytes, timestamp: str, secret: str) -> str:
    """Return the signature as the header carries it: in hexadecimal digits."""
    return compute_signature(body, timestamp, secret).hex()


def verify_signature(body: str | bytes, signature: str, timestamp: str, secret: str) -> None:
    """Verify the signature of a body.

    Args:
        body: the body as it came over the wire.
        signature: the value of the header `WEBHOOK_SIGNATURE_HEADER`.
        timestamp: the value of the header `WEBHOOK_TIMESTAMP_HEADER`.
        secret: the webhook's secret.

    Raises:
        WebhookSignatureError: a header is missing, or the body was not signed with this secret.
        ValueError: the secret is empty, so that anybody could sign.

    """
    if not secret:
        raise ValueError("secret must not be empty")
    for value, header in (
        (signature, WEBHOOK_SIGNATURE_HEADER),
        (timestamp, WEBHOOK_TIMESTAMP_HEADER),
    ):
        if not value:
            raise WebhookSignatureError(f"the request has no header {header}")
    try:
        given = bytes.fromhex(signature)
    except ValueError:
        raise WebhookSignatureError("the signature is not hexadecimal") from None
    # In constant time, so that an attacker learns nothing from how long the comparison takes.
    if not hmac.compare_digest(given, compute_signature(body, timestamp, secret)):
        raise WebhookSignatureError("the signature is not that of this body, timestamp and secret")


def verify_webhook_signature(request: object, secret: str, body: str | bytes | None = None) -> None:
    """Verify the signature of a request of Flask, Django, FastAPI, Starlette or a similar framework.

    Args:
        request: the framework's request object, or a mapping of headers if `body` is given.
        secret: the webhook's secret.
        body: the body as it came over the wire. It is needed if the framework reads it
            asynchronously: `await request.body()`.

    Raises:
        WebhookSignatureError: a header or the body is missing, or it was not signed with this secret.
        ValueError: the secret is empty.

    """
    signature = _header(request, WEBHOOK_SIGNATURE_HEADER)
    timestamp = _header(request, WEBHOOK_TIMESTAMP_HEADER)
    verify_signature(_body(request) if body is None else body, signature, timestamp, secret)


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _header(request: object, name: str) -> str:
    """Return the value of a header, or "" if it is missing; names compare case-insensitively."""
    headers = getattr(request, "headers", None)
    if headers is None:
        environment = getattr(request, "META", None)
        if isinstance(environment, Mapping):
            return str(environment.get(f"HTTP_{name.upper().replace('-', '_')}", ""))
        headers = request
    get = getattr(headers, "get", None)
    value = get(name) if callable(get) else None
    if value is None and isinstance(headers, Mapping):
        spelled = {key.lower(): key for key in headers if isinstance(key, str)}
        value = headers.get(spelled.get(name.lower(), name))
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


def _body(request: object) -> str | bytes:
    """Return the body, if the request has it without waiting."""
    read = getattr(request, "get_data", None)
    if callable(read):  # Flask
        return _as_body(read())
    for name in ("body", "_body", "data", "content", "raw_body"):
        value = getattr(request, name, None)
        if isinstance(value, (str, bytes, bytearray, memoryview)):
            return _as_body(value)
    raise WebhookSignatureError(
        "the request does not have its body at hand: pass it as body, for example "
        "body=await request.body()"
    )


def _as_body(value: object) -> str | bytes:
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise WebhookSignatureError(f"the body of the request is no bytes, but {type(value).__name__}")
