"""Stores of either kind, asked in one way by the tests."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio

from schematic_native import Reservation
from schematic_native.faults import StoreError
from schematic_native.redis import AsyncStore, open_store

if TYPE_CHECKING:
    from schematic_native.redis import Operations
    from schematic_native.redis.operations import Operation

UTC = timezone.utc
KINDS = ["sync", "async"]
SLOT = ("comp_acme", "credit_inference")


def client_of(kind: str, url: str, *, cluster: bool = False, **settings: Any) -> Any:
    """A client of redis-py."""
    module = redis if kind == "sync" else redis.asyncio
    return (module.RedisCluster if cluster else module.Redis).from_url(url, **settings)


class Asked:
    """A store that is asked synchronously, whichever kind it is."""

    def __init__(self, client: Any, *others: Any, prefix: str = "schematic:") -> None:
        self._loop = asyncio.new_event_loop()
        self._clients = [client, *others]
        self._store = open_store(client, prefix)

    @property
    def links(self) -> Any:
        """What the store is reached by, for tests of connections."""
        return self._store._links

    @property
    def operations(self) -> Operations:
        return self._store.operations

    def run(self, operation: Operation[Any], timeout: float | None = 5.0) -> Any:
        if isinstance(self._store, AsyncStore):
            return self._loop.run_until_complete(self._store.run(operation, timeout))
        return self._store.run(operation, timeout)

    def attempt(self, operation: Operation[Any]) -> Any:
        """Run an operation on servers that may be down; None if it failed."""
        try:
            return self.run(operation)
        except StoreError:
            return None

    def together(self, operations: list[Operation[Any]], timeout: float) -> list[Any]:
        """Run operations of an asynchronous store at the same time."""
        assert isinstance(self._store, AsyncStore)
        runs = [self._store.run(operation, timeout) for operation in operations]

        async def gather() -> list[Any]:
            return await asyncio.gather(*runs, return_exceptions=True)

        return self._loop.run_until_complete(gather())

    def lend(
        self, slot: tuple[str, str] = SLOT, lease_id: str = "lse", granted: float = 100.0
    ) -> None:
        """Install a lease of an hour."""
        assert self.run(
            self.operations.install(slot, lease_id, granted, time.time() + 3600)
        ).written

    def remaining(self, slot: tuple[str, str] = SLOT) -> float:
        return self.run(self.operations.lease(slot)).remaining

    def close(self) -> None:
        if isinstance(self._store, AsyncStore):
            self._loop.run_until_complete(self._store.close())
            for client in self._clients:
                self._loop.run_until_complete(client.aclose())
        else:
            self._store.close()
            for client in self._clients:
                client.close()
        self._loop.close()


def hold(
    hold_id: str,
    credits: float,  # noqa: A002
    slot: tuple[str, str] = SLOT,
    lease_id: str = "lse",
    lapses: float | None = None,
) -> Reservation:
    """A hold; without an instant it lapses in a minute."""
    return Reservation(
        id=hold_id,
        company_id=slot[0],
        credit_type_id=slot[1],
        lease_id=lease_id,
        mode="client",
        event_subtype="inference_tokens",
        quantity_reserved=credits,
        credits_reserved=credits,
        consumption_rate=1.0,
        expires_at=datetime.fromtimestamp(time.time() + 60 if lapses is None else lapses, UTC),
        company={"id": slot[0]},
    )
