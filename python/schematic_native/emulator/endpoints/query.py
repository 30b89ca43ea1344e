"""Reading a request's query: the ids, words, filters and the page that it asks for.

What is not understood is refused, so that no filter is silently without effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.errors import InvalidRequestError, UnknownIdError

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from starlette.requests import Request

_PAGE, _LONGEST_PAGE = 100, 250


def known(request: Request, kind: str, ids: Container[str]) -> str:
    """Return the id in a request's path.

    Raises:
        UnknownIdError: It is none of `ids`.

    """
    name: str = request.path_params["id"]
    if name not in ids:
        raise UnknownIdError(f"{kind} not found: {name}")
    return name


def check_filters(request: Request, *names: str) -> None:
    """Refuse a filter that would not take effect."""
    for name in request.query_params:
        if name not in {*names, "limit", "offset"}:
            raise InvalidRequestError(
                f"the emulator does not know {name} at {request.url.path}; "
                f"it knows {', '.join([*names, 'limit', 'offset'])}"
            )


def selected(request: Request, texts: dict[str, str], *, keep_order: bool = False) -> list[str]:
    """Return the ids that a request asks for; `texts` holds what is searched, by id."""
    ids, words = request.query_params.getlist("ids"), request.query_params.get("q", "").lower()
    found = [
        name for name, text in texts.items() if (not ids or name in ids) and words in text.lower()
    ]
    return found if keep_order else sorted(found)


def page(request: Request, found: Sequence[Any]) -> Sequence[Any]:
    """Return the part that `limit` and `offset` name."""
    try:
        limit = int(request.query_params.get("limit", _PAGE))
        offset = int(request.query_params.get("offset", 0))
    except ValueError as error:
        raise InvalidRequestError(f"limit and offset must be whole numbers: {error}") from error
    if not 0 < limit <= _LONGEST_PAGE or offset < 0:
        raise InvalidRequestError(f"limit must be 1 to {_LONGEST_PAGE}, and offset 0 or more")
    return found[offset : offset + limit]
