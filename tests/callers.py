"""Either client, spoken to synchronously: for what must be so of both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native import AsyncSchematic, AsyncSchematicConfig, Schematic, SchematicConfig
from tests.conftest import API_KEY

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

both_clients = pytest.mark.parametrize("kind", ["sync", "async"])


class Caller:
    """A program that uses one of the clients.

    Args:
        kind: "sync" or "async".
        fields: configuration fields.

    """

    def __init__(self, kind: str, fields: dict[str, object]) -> None:
        self._loop = asyncio.new_event_loop()
        self._is_async = kind == "async"
        self.client: Any
        if self._is_async:
            self.client = AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields))
        else:
            self.client = Schematic(API_KEY, SchematicConfig(**fields))

    def do(self, method: str, *arguments: object, **keywords: object) -> Any:
        answer = getattr(self.client, method)(*arguments, **keywords)
        return self.wait(answer) if self._is_async else answer

    def wait(self, answer: Any) -> Any:
        """Wait for a coroutine, on the loop of the client."""
        return self._loop.run_until_complete(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.do("shutdown")
        self._loop.close()
