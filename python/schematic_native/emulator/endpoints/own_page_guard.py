"""The guard of the admin API and the dashboard: loopback callers, and no page but the emulator's own.

A web page from elsewhere may make the browser send requests to loopback. It cannot choose their
`Host` and `Origin`, and may send JSON only where it is asked first, which the emulator never allows.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from schematic_native.emulator.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class ForbiddenError(ServiceError):
    """A request that does not come from the emulator's own page or program."""

    status = 403


class NotJSONTypeError(ServiceError):
    """A body that does not claim to be JSON, as a form of any page could send."""

    status = 415


def require_own_page(request: Request) -> None:
    """Refuse what another machine, or a page from elsewhere, may have sent.

    Raises:
        ServiceError: It is refused; nothing was done.

    """
    if not is_loopback(request.client.host if request.client else ""):
        raise ForbiddenError("the admin API answers loopback callers only")
    host = request.headers.get("host", "")
    # A name that somebody's DNS resolves to loopback would make their page one of this origin.
    if not is_loopback(urlsplit(f"//{host}").hostname or ""):
        raise ForbiddenError(f"the admin API is not at {host!r}; ask for a loopback address")
    origin = request.headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        raise ForbiddenError(f"the admin API answers no page of {origin!r}")
    if request.method in _WITH_BODY:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise NotJSONTypeError("the content type must be application/json")


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only be this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_local_origin(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse what a page from elsewhere may have posted, where a program on this machine may post.

    Raises:
        ForbiddenError: The request names an origin that is not on this machine.

    """
    for name, value in headers:
        if name == b"origin" and not is_loopback(urlsplit(value.decode("latin-1")).hostname or ""):
            raise ForbiddenError(f"no page of {value.decode('latin-1')!r} may post events here")
