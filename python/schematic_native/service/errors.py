"""The errors of calls of the REST API.

Where the published package is loaded, each of them is one of its errors as well. None of them ever contains
the API key.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from typing_extensions import Self


class ApiError(Exception):
    """A call of the API failed.

    Where the published package is loaded, this is one of its errors as well, so that
    `except schematic.core.ApiError` catches both.

    Attributes:
        status: the HTTP status, None if there was no response.
        message: of the server, or about what happened instead.

    """

    def __new__(cls, *_arguments: object, **_keywords: object) -> Self:  # noqa: D102 - the class has the docstring
        return super().__new__(_as_published(cls))

    def __init__(self, message: str, status: int | None = None) -> None:
        # Not super(): the published error has other parameters.
        Exception.__init__(self, message if status is None else f"HTTP {status}: {message}")
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return Exception.__str__(self)

    def __reduce__(self) -> tuple[type[ApiError], tuple[str, int | None]]:
        return getattr(type(self), "_plain", type(self)), (self.message, self.status)

    @property
    def status_code(self) -> int | None:
        """The name of `status` in the published package."""
        return self.status

    @property
    def body(self) -> dict[str, str]:
        """The form of `message` in the published package."""
        return {"error": self.message}

    @property
    def headers(self) -> None:
        """None: they are not kept."""
        return None

    @property
    def state(self) -> tuple[str, int | None]:
        """What distinguishes this kind of failure from others, whatever the message."""
        return (type(self).__name__, self.status)


# For each class of error, the one that is an error of the published package as well.
_published_kinds: dict[type[ApiError], type[ApiError]] = {}


E = TypeVar("E", bound=ApiError)


def _as_published(kind: type[E]) -> type[E]:
    """Return the class that is an error of the published package as well, where that is loaded."""
    if "schematic" not in sys.modules or hasattr(kind, "_plain"):
        return kind
    known = _published_kinds.get(kind)
    if known is None:
        try:
            from schematic.core.api_error import ApiError as Published  # noqa: PLC0415 - the extra
        except ImportError:
            return kind  # another package of that name
        copied = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
        new = type(kind.__name__, (kind, Published), {**copied, "_plain": kind})
        known = _published_kinds.setdefault(kind, cast("type[ApiError]", new))
    return cast("type[E]", known)


class ApiConnectionError(ApiError):
    """There was no response."""


class ApiTimeoutError(ApiConnectionError):
    """The API did not respond in time."""

    def __init__(self, message: str = "no answer in time", status: int | None = None) -> None:
        super().__init__(message, status)


class AuthenticationError(ApiError):
    """The API refused the API key (401 or 403)."""


class PaymentRequiredError(ApiError):
    """The company lacks the credits (402)."""


class NotFoundError(ApiError):
    """What the call is about does not exist (404)."""


class UnreadableApiAnswerError(ApiError):
    """The response of the API cannot be read."""
