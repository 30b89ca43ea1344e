"""The errors of calls to the service's REST API, under the path that programs import them from."""

from schematic_native.service.errors import (
    ApiConnectionError,
    ApiError,
    ApiTimeoutError,
    AuthenticationError,
    NotFoundError,
    PaymentRequiredError,
    UnreadableApiAnswerError,
)

__all__ = [
    "ApiConnectionError",
    "ApiError",
    "ApiTimeoutError",
    "AuthenticationError",
    "NotFoundError",
    "PaymentRequiredError",
    "UnreadableApiAnswerError",
]
