"""The steps that a pending check takes in a store that several processes share.

Each is a generator that yields batches of commands and is sent their replies. So they are written once
for both clients, on the caller's thread and on an event loop. Nothing here waits or does I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schematic_native._native import CheckResult, PendingCheck
from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native._native import Reservation
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.ground.slots import Slot
    from schematic_native.redis import Operation, Operations

# What a pending check may need of the store.
STORE_NEEDS = frozenset({"reserve", "record", "cancel", "refund"})
# A synchronous check with fewer seconds left asks on another thread: an answer that comes too late for
# the check is still received there, and what it debited is given back.
HURRY = 0.25


def finish(
    operations: Operations, pending: PendingCheck, faults: FaultLog
) -> Operation[CheckResult | PendingCheck]:
    """Take a check's steps in the store until it is answered or needs something other than the store."""
    while pending.need in STORE_NEEDS:
        step = _STEPS[pending.need]
        try:
            answer = yield from step.take(operations, pending, faults)
        except StoreError as error:
            faults.store_failed(step.name, error)
            answer = pending.resume_lost() if error.lost else pending.resume(False)
        if not isinstance(answer, PendingCheck):
            return answer
        pending = answer
    return pending


def _reserve(
    operations: Operations, pending: PendingCheck, faults: FaultLog
) -> Operation[CheckResult | PendingCheck]:
    debit = yield from operations.hold(_hold(pending), pending.time_to_live)
    if isinstance(debit, Refused):
        faults.store_answered()
        return pending.resume_refused(debit is Refused.SHORT)
    faults.store_answered(reserve=True, record=debit.recorded)
    return pending.resume_debited(
        debit.remaining, debit.granted, debit.lease_id, debit.at, debit.recorded
    )


def _record(
    operations: Operations, pending: PendingCheck, faults: FaultLog
) -> Operation[CheckResult | PendingCheck]:
    is_recorded = yield from operations.add(_hold(pending))
    faults.store_answered(record=True)
    return pending.resume(is_recorded)


def _cancel(
    operations: Operations, pending: PendingCheck, faults: FaultLog
) -> Operation[CheckResult | PendingCheck]:
    claimed = yield from operations.consume(_hold(pending).id, 0.0, _slot(pending))
    if claimed is None:
        faults.store_answered()
        return pending.resume_gone()
    faults.store_answered(claim=True)
    return pending.resume(True)


def _refund(
    operations: Operations, pending: PendingCheck, faults: FaultLog
) -> Operation[CheckResult | PendingCheck]:
    hold = _hold(pending)
    yield from operations.refund(_slot(pending), hold.credits_reserved, hold.lease_id)
    faults.store_answered(claim=True)
    return pending.resume(True)


class _Step(NamedTuple):
    """A step of a check.

    `name` is what its failures are reported as. Steps that few checks take have the name of a common operation
    that sends the same commands: otherwise nothing would ever tell that they work again.
    """

    name: str
    take: Callable[[Operations, PendingCheck, FaultLog], Operation[CheckResult | PendingCheck]]


_STEPS = {
    "reserve": _Step("reserve", _reserve),
    "record": _Step("record", _record),
    "cancel": _Step("claim", _cancel),
    "refund": _Step("claim", _refund),
}


def _slot(pending: PendingCheck) -> Slot:
    company_id, credit_type_id = pending.company_id, pending.credit_type_id
    if company_id is None or credit_type_id is None:
        raise RuntimeError("a check that needs the store has a slot")
    return company_id, credit_type_id


def _hold(pending: PendingCheck) -> Reservation:
    hold = pending.reservation
    if hold is None:
        raise RuntimeError("a check that needs the store has a hold, or a draft of it")
    return hold
