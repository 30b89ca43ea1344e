"""A store as a program reaches it, spoken to synchronously whichever client it was opened on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import redis
import redis.asyncio

from schematic_native import Reservation
from schematic_native.redis import SyncStore, open_store

if TYPE_CHECKING:
    from schematic_native.redis import Operation, Operations

T = TypeVar("T")

SLOT = "comp_acme", "credit_inference"
PREFIX = "schematic:"
LEASE = f"{PREFIX}credit-lease:{SLOT[0]}:{SLOT[1]}"
BY_EXPIRY = f"{PREFIX}credit-reservations:byExpiry"
BY_CREDIT = f"{PREFIX}credit-reservations:byCredit:{SLOT[0]}:{SLOT[1]}"
# Seconds: an answer that takes longer than this is none.
PATIENCE = 30.0
# Seconds that a busy machine may add to a timeout; a timeout that is not kept takes 1 s or for ever.
SLACK = 0.6


@dataclass(frozen=True)
class Kind:
    """How a program reaches Redis."""

    is_async: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        words = [f"{name}-{value}" for name, value in self.options]
        return "-".join(["async" if self.is_async else "sync", *words])


BOTH = [Kind(is_async=False), Kind(is_async=True)]
MATRIX = [
    Kind(is_async, (("protocol", protocol), ("decode_responses", decoded)))
    for is_async in (False, True)
    for protocol in (2, 3)
    for decoded in (False, True)
]


class Caller:
    """One program with one store.

    Args:
        servers: one server, or those of a cluster.
        kind: how it is reached.
        at_once: whether scripts may have several keys; None: it is for the store to find out.
        options: further ones of the client of redis-py.

    """

    def __init__(
        self,
        servers: Any,
        kind: Kind = BOTH[0],
        *,
        at_once: bool | None = None,
        **options: Any,
    ) -> None:
        self.loop = asyncio.new_event_loop()
        module = redis.asyncio if kind.is_async else redis
        self.client = servers.connect(module, **dict(kind.options), **options)
        self.store = open_store(self.client, PREFIX)
        if at_once is not None:
            self.store.operations.placement.is_one_server = at_once

    @property
    def ask(self) -> Operations:
        return self.store.operations

    @property
    def at_once(self) -> bool | None:
        """Whether scripts have several keys; None if that was not found out yet."""
        return self.ask.placement.is_one_server

    def do(self, operation: Operation[T], timeout: float | None = PATIENCE) -> T:
        if isinstance(self.store, SyncStore):
            return self.store.run(operation, timeout)
        return self.loop.run_until_complete(self.store.run(operation, timeout))

    def close(self) -> None:
        if isinstance(self.store, SyncStore):
            self.store.close()
            self.client.close()
        else:
            self.loop.run_until_complete(self.store.close())
            self.loop.run_until_complete(self.client.aclose())
        self.loop.close()


def hold(hold_id: str = "hold_1", **changes: Any) -> Reservation:
    """Make a hold of 20 credits that lapses in 2100."""
    fields: dict[str, Any] = {
        "id": hold_id, "lease_id": "lease_1", "mode": "client", "company_id": SLOT[0],
        "credit_type_id": SLOT[1], "event_subtype": "inference_tokens", "quantity_reserved": 10.0,
        "credits_reserved": 20.0, "consumption_rate": 2.0, "expires_at": 4_102_444_800.0,
    } | changes  # fmt: skip
    fields["expires_at"] = datetime.fromtimestamp(fields["expires_at"], timezone.utc)
    return Reservation(**fields)


def hold_key(hold_id: str = "hold_1") -> str:
    return f"{PREFIX}credit-reservation:{hold_id}"


def member(hold_id: str = "hold_1") -> str:
    return f"{SLOT[0]}|{SLOT[1]}|{hold_id}"
