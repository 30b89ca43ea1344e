"""Where the leases and holds of a vector's client live, and how to look at them there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from schematic_native import _testing
from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import Refused, SyncStore
from tests.conformance.faults import FaultyAsyncConnections, FaultySyncConnections
from tests.conformance.programs import LIMIT
from tests.conformance.vectors import BrokenVectorError
from tests.stores.inspection import count_holds, drop_lease, is_open, sweep_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schematic_native import Reservation
    from schematic_native._native import Core
    from schematic_native.redis import Operation
    from tests.conformance.programs import Program

Slot = tuple[str, str]


@dataclass(frozen=True)
class Row:
    """A slot's lease, live or expired: credits and epoch seconds."""

    lease_id: str
    granted: float
    remaining: float
    expires_at: float


class Backend(Protocol):
    """The operations of one store of leases."""

    def install(self, slot: Slot, lease_id: str, granted: float, expires_at: float) -> bool: ...

    def lease(self, slot: Slot) -> Row | None: ...

    def drop(self, slot: Slot) -> None: ...

    def try_reserve(self, slot: Slot, amount: float) -> tuple[float, str] | None: ...

    def refund(self, slot: Slot, amount: float, pin: str | None) -> None: ...

    def extend(
        self, slot: Slot, granted_total: float, expires_at: float | None, pin: str | None
    ) -> None: ...

    def add(self, reservation: Reservation) -> None: ...

    def consume(self, reservation_id: str, amount: float) -> float | None: ...

    def consume_and_crash(self, reservation_id: str, amount: float) -> None:
        """Claim a hold, and die before what was not used of it is refunded.

        Raises `StoreError`: whoever asked never learns what became of it.
        """

    def holds(self, reservation_id: str) -> bool: ...

    def reserved_credits(self, slot: Slot) -> float: ...

    def reservation_count(self) -> int: ...

    def sweep(self) -> int: ...

    def fail_next(self, faults: Sequence[Mapping[str, Any]]) -> None:
        """Have the next commands of these scripts fail, as a network or a server would."""

    def close(self) -> None: ...


class InMemory:
    """The ledger of the client's core."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def install(self, slot: Slot, lease_id: str, granted: float, expires_at: float) -> bool:
        before = self._core.lease(*slot)
        there = self._core.install_lease(*slot, lease_id, granted, expires_at)
        return there == lease_id and (before is None or before.lease_id != lease_id)

    def lease(self, slot: Slot) -> Row | None:
        lease = self._core.lease(*slot)
        if lease is None:
            return None
        return Row(lease.lease_id, lease.granted, lease.remaining, lease.expires_at)

    def drop(self, slot: Slot) -> None:
        self._core.drop_lease(*slot)

    def try_reserve(self, slot: Slot, amount: float) -> tuple[float, str] | None:
        return _testing.try_reserve(self._core, *slot, amount)

    def refund(self, slot: Slot, amount: float, pin: str | None) -> None:
        _testing.refund(self._core, *slot, amount, pin)

    def extend(
        self, slot: Slot, granted_total: float, expires_at: float | None, pin: str | None
    ) -> None:
        self._core.apply_extend(*slot, pin, granted_total, expires_at)

    def add(self, reservation: Reservation) -> None:
        _testing.add_hold(self._core, reservation)

    def consume(self, reservation_id: str, amount: float) -> float | None:
        return _testing.consume(self._core, reservation_id, amount)

    def consume_and_crash(self, reservation_id: str, amount: float) -> None:
        # Claim and refund are one step here, so nothing can die between them. What a crash there
        # would leave is a claim of the whole hold, with nothing to refund.
        assert _testing.consume(self._core, reservation_id, math.inf), (
            f"{reservation_id} held nothing"
        )
        raise StoreError(f"the process died when {amount} credits were claimed", lost=True)

    def holds(self, reservation_id: str) -> bool:
        return _testing.has_hold(self._core, reservation_id)

    def reserved_credits(self, slot: Slot) -> float:
        return self._core.reserved_credits(*slot)

    def reservation_count(self) -> int:
        return self._core.counts()["open_holds"]

    def sweep(self) -> int:
        return self._core.sweep()

    def fail_next(self, faults: Sequence[Mapping[str, Any]]) -> None:
        if faults:
            raise BrokenVectorError("memory does not fail: name the backends")

    def close(self) -> None:
        """Leave it to the client."""


class InRedis:
    """The client's own store in Redis, asked as the client asks it."""

    def __init__(self, program: Program) -> None:
        store = program.client._store
        assert store is not None, "this client was given no Redis"
        self._program = program
        self._store = store
        self._operations = store.operations
        # Of the holds that were added, by their ids: with its slot a hold is settled at once.
        self._slots: dict[str, Slot] = {}
        wrap = FaultySyncConnections if isinstance(store, SyncStore) else FaultyAsyncConnections
        self._connections = store._connections = wrap(store._connections)

    def _ask(self, operation: Operation[Any]) -> Any:
        if isinstance(self._store, SyncStore):
            return self._store.run(operation, LIMIT)
        return self._program.work(self._store.run(operation, LIMIT))

    def install(self, slot: Slot, lease_id: str, granted: float, expires_at: float) -> bool:
        installing = self._operations.install(slot, lease_id, granted, expires_at)
        return self._ask(installing).written

    def lease(self, slot: Slot) -> Row | None:
        lease = self._ask(self._operations.lease(slot))
        if lease is None:
            return None
        return Row(lease.lease_id, lease.granted, lease.remaining, lease.expires_at)

    def drop(self, slot: Slot) -> None:
        self._ask(drop_lease(self._operations, slot))

    def try_reserve(self, slot: Slot, amount: float) -> tuple[float, str] | None:
        debit = self._ask(self._operations.try_reserve(slot, amount))
        return None if isinstance(debit, Refused) else (debit.remaining, debit.lease_id)

    def refund(self, slot: Slot, amount: float, pin: str | None) -> None:
        self._ask(self._operations.refund(slot, amount, pin))

    def extend(
        self, slot: Slot, granted_total: float, expires_at: float | None, pin: str | None
    ) -> None:
        self._ask(self._operations.extend(slot, granted_total, expires_at, pin))

    def add(self, reservation: Reservation) -> None:
        self._slots[reservation.id] = reservation.company_id, reservation.credit_type_id
        self._ask(self._operations.add(reservation))

    def consume(self, reservation_id: str, amount: float) -> float | None:
        slot = self._slots.get(reservation_id)
        return self._ask(self._operations.consume(reservation_id, amount, slot))

    def consume_and_crash(self, reservation_id: str, amount: float) -> None:
        self.fail_next([{"at": "refund", "how": "cut"}])
        self._ask(self._operations.consume(reservation_id, amount))

    def holds(self, reservation_id: str) -> bool:
        return self._ask(is_open(self._operations, reservation_id))

    def reserved_credits(self, slot: Slot) -> float:
        return self._ask(self._operations.reserved_credits(slot))

    def reservation_count(self) -> int:
        return self._ask(count_holds(self._operations))

    def sweep(self) -> int:
        return self._ask(sweep_all(self._operations, self._program.client._core.now()))

    def close(self) -> None:
        """Close the store's connections, which a client that was never started does not."""
        if isinstance(self._store, SyncStore):
            self._store.close()
        else:
            self._program.work(self._store.close())

    def fail_next(self, faults: Sequence[Mapping[str, Any]]) -> None:
        # A fault between a debit and its hold, or a claim and its refund, needs a store that makes
        # one after the other.
        self._operations.placement.is_one_server = False
        self._connections.script.extend(faults)
