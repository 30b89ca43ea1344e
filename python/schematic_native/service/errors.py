"""The errors of calls to the service's REST API.

Each is also an error of the published package where that one is loaded.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from typing_extensions import Self


class ApiError(Exception):
    """A call of the API failed.

    Where the published package is loaded, it is one of its errors as well, so that
    `except schematic.core.ApiError` catches both.

    Attributes:
        status: the HTTP status, None if there was no answer.
        message: what the server said, or what happened instead.

    """

    def __new__(cls, *_arguments: object, **_keywords: object) -> Self:  # noqa: D102 - it says nothing of its own
        return super().__new__(_as_published(cls))  # whose __init__ is called

    def __init__(self, message: str, status: int | None = None) -> None:
        # Not super(): the published error, if it is one, takes other arguments.
        Exception.__init__(self, message if status is None else f"HTTP {status}: {message}")
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return Exception.__str__(self)

    def __reduce__(self) -> tuple[type[ApiError], tuple[str, int | None]]:
        return getattr(type(self), "_plain", type(self)), (self.message, self.status)

    @property
    def status_code(self) -> int | None:
        """The published package's name of `status`."""
        return self.status

    @property
    def body(self) -> dict[str, str]:
        """The published package's form of `message`."""
        return {"error": self.message}

    @property
    def headers(self) -> None:
        """Not kept."""
        return None

    @property
    def state(self) -> tuple[str, int | None]:
        """What tells this failure from another kind of failure, whatever the server's words."""
        return (type(self).__name__, self.status)


# Of each kind of error, what is an error of the published package as well.
_published_kinds: dict[type[ApiError], type[ApiError]] = {}


E = TypeVar("E", bound=ApiError)


def _as_published(kind: type[E]) -> type[E]:
    """Return the kind of error that is one of the published package's, too, where that is loaded."""
    if "schematic" not in sys.modules or hasattr(kind, "_plain"):
        return kind
    known = _published_kinds.get(kind)
    if known is None:
        try:
            from schematic.core.api_error import ApiError as Published  # noqa: PLC0415 - the extra
        except ImportError:
            return kind  # some other package of that name
        told = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
        new = type(kind.__name__, (kind, Published), {**told, "_plain": kind})
        known = _published_kinds.setdefault(kind, cast("type[ApiError]", new))
    return cast("type[E]", known)


class ApiConnectionError(ApiError):
    """There was no answer."""


class ApiTimeoutError(ApiConnectionError):
    """The API did not answer in time."""

    def __init__(self, message: str = "no answer in time", status: int | None = None) -> None:
        super().__init__(message, status)


class AuthenticationError(ApiError):
    """The API refused the API key (401 or 403)."""


class PaymentRequiredError(ApiError):
    """The company lacks the credits (402)."""


class NotFoundError(ApiError):
    """What the call names does not exist (404)."""


class UnreadableApiAnswerError(ApiError):
    """The API answered something that cannot be read."""
