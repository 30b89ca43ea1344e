"""What a synchronous client asks of a shared store on the calling thread, if its Redis client is synchronous.

That saves two thread switches a call. It is made once for a client, so that a call imports nothing. Nothing
here decides an amount.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.ground.store_errors import StoreError
from schematic_native.leases.check_steps import HURRY, STORE_NEEDS, finish
from schematic_native.leases.claims import Claim
from schematic_native.leases.lease_store import STORE_TIMEOUT
from schematic_native.redis import SyncStore

if TYPE_CHECKING:
    from schematic_native._native import CheckResult, Core, OwedClaim, PendingCheck
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.redis import Store


class StoreCalls:
    """The calls of one client.

    Args:
        store: where leases and holds live.
        core: hears of the claims that were made.
        faults: where failures are reported.

    """

    def __init__(self, store: SyncStore, core: Core, faults: FaultLog) -> None:
        self._store = store
        self._core = core
        self._faults = faults

    def advance(self, pending: PendingCheck, timeout: float) -> CheckResult | PendingCheck:
        """Take a check's steps in the store, if there is time for that."""
        if pending.need not in STORE_NEEDS or timeout < HURRY:
            return pending
        return self._store.run(finish(self._store.operations, pending, self._faults), timeout)

    def claim(self, owed: OwedClaim) -> None:
        """Make the claim of a settle.

        One that fails or is interrupted is made before its usage is sent, or at a sweep.
        """
        try:
            claiming = Claim.of(owed).make(self._store.operations, self._core)
            is_made = self._store.run(claiming, STORE_TIMEOUT)
        except StoreError as error:
            self._faults.store_failed("claim", error)
        else:
            self._faults.store_answered(claim=is_made)


def calls_of(store: Store, core: Core, faults: FaultLog) -> StoreCalls | None:
    """Return the calls of a client; None if its Redis client is asynchronous."""
    return StoreCalls(store, core, faults) if isinstance(store, SyncStore) else None
