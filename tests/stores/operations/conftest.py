"""The servers and callers that each operation is tried with, and the keys as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.stores.callers import MATRIX, Caller

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["one_server", "three_servers"])
def servers(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module", params=MATRIX, ids=str)
def caller(request, servers) -> Iterator[Caller]:
    caller = Caller(servers, request.param)
    yield caller
    caller.close()


@pytest.fixture(scope="module")
def raw(servers) -> Iterator[Any]:
    """A client that looks at the keys, and changes them behind the store's back."""
    with servers.connect(decode_responses=True) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_key_is_left(servers: Any) -> None:
    servers.flush()
