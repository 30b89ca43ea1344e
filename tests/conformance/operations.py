"""Every operation by its name, alone or of several callers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance.calls import call_of
from tests.conformance.check_operations import CheckOperations
from tests.conformance.comparison import difference
from tests.conformance.lease_operations import LeaseOperations
from tests.conformance.programs import rest
from tests.conformance.slot_operations import SlotOperations
from tests.conformance.vectors import BrokenVectorError, Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.conformance.programs import Call
    from tests.conformance.wire import Seen


class Operations(SlotOperations, LeaseOperations, CheckOperations):
    """Performs operations; `BY_NAME` tells which there are."""

    def perform(self, operation: Mapping[str, Any], where: str) -> None:
        """Perform one operation and compare what is seen with what is expected."""
        fields = Fields(operation)
        expected = fields.get("expect", {})
        name = fields.text("op")
        if name not in BY_NAME:
            raise BrokenVectorError(f"{where}: there is no operation {name}")
        seen = BY_NAME[name](self, fields)
        fields.check_all_read()
        compare(expected, seen, f"{where} ({name})")

    def _concurrently(self, fields: Fields) -> Seen:
        """Have callers come one after another, then answer them in the order that is stated.

        The next caller comes once the one before waits for a wire call or is done.
        """
        operations = [Fields(operation) for operation in fields.get("operations", [])]
        answers = fields.get("answers", [])
        _check_addressed(answers, operations)
        self._program.runtime()
        for operation in operations:
            self._tell(operation)
        self._service.hold(["acquire", "extend"])
        begun = {}
        for number, operation in enumerate(operations):
            begun[operation.get("as", str(number))] = (operation, self._begin(operation))
        for answer in answers:
            self._land(dict(answer), {name: call_of(work) for name, (_, work) in begun.items()})
        for _, work in begun.values():
            self._finish(call_of(work))
        self._service.hold([])
        rest(self._program)
        for name, (operation, work) in begun.items():
            seen = ENDS[operation.text("op")](self, work, operation)
            compare(operation.get("expect", {}), seen, f"caller {name}")
            operation.check_all_read()
        return self._wire.seen()

    def _begin(self, operation: Fields) -> Any:
        joined = self._world.stage.joined
        work = BEGINS[operation.text("op")](self, operation)
        call = call_of(work)
        self._program.wait(lambda: call.done() or self._waits(joined))
        return work

    def _waits(self, joined: int) -> bool:
        """Tell whether the latest caller waits: for a wire call, or for the end of the client."""
        return self._world.stage.joined > joined or self._program.client._closed

    def _land(self, answer: dict[str, Any], calls: Mapping[str, Call]) -> None:
        """Answer the oldest request of a call, or wait until a caller is done.

        Where callers ask for several companies, the answer names the one whose request it is for.
        """
        if "done" in answer:
            self._program.wait(calls[answer["done"]].done)
            return
        call, company_id = answer.pop("call"), answer.pop("company_id", None)
        request = self._await_request(call, None, company_id)
        self._service.answer(request, answer)


def _check_addressed(answers: Iterable[Mapping[str, Any]], operations: list[Fields]) -> None:
    """Require that answers name their company where several ask for the same: they may in any order."""
    asked = {(operation.text("op"), _company_of(operation)) for operation in operations}
    if len(asked) == len({name for name, _ in asked}):
        return
    for answer in answers:
        if not answer.keys() & {"company_id", "done"}:
            raise BrokenVectorError(f"whose company_id does the answer {answer} go to?")


def _company_of(operation: Fields) -> str | None:
    """Return the id of the company that an operation is about, None if it is about all."""
    company_id = operation.get("company_id", operation.get("company", {}).get("id"))
    assert company_id is None or isinstance(company_id, str)
    return company_id


def compare(expected: Mapping[str, Any], seen: Seen, where: str) -> None:
    fault = difference(expected, seen)
    assert fault is None, f"{where}: {fault}\nseen: {seen}"


BY_NAME: dict[str, Callable[[Operations, Fields], Seen]] = {
    "advance_clock": Operations._advance_clock,
    "replace_lease": Operations._replace_lease,
    "drop_lease": Operations._drop_lease,
    "get_lease": Operations._get_lease,
    "try_reserve": Operations._try_reserve,
    "refund_lease": Operations._refund_lease,
    "extend_lease": Operations._extend_lease,
    "note_spent": Operations._note_spent,
    "was_refused": Operations._was_refused,
    "add_reservation": Operations._add_reservation,
    "get_reservation": Operations._get_reservation,
    "consume_reservation": Operations._consume_reservation,
    "reserved_credits": Operations._reserved_credits,
    "reservation_count": Operations._reservation_count,
    "sweep_expired": Operations._sweep_expired,
    "sweep_tick": Operations._sweep_tick,
    "acquire_if_needed": Operations._acquire_if_needed,
    "maybe_extend": Operations._maybe_extend,
    "extend_low_leases": Operations._extend_low_leases,
    "release_all_local_leases": Operations._release_all,
    "prewarm": Operations._prewarm,
    "identify": Operations._identify,
    "check": Operations._check,
    "check_flag": Operations._check_flag,
    "track": Operations._track,
    "concurrently": Operations._concurrently,
}
# Those that several callers may do at once: how each begins and how it ends.
BEGINS: dict[str, Callable[[Operations, Fields], Any]] = {
    "acquire_if_needed": Operations._begin_acquire,
    "maybe_extend": Operations._begin_extend,
    "check": Operations._begin_check,
    "release_all_local_leases": Operations._begin_close,
}
ENDS: dict[str, Callable[[Operations, Any, Fields], Seen]] = {
    "acquire_if_needed": Operations._end_acquire,
    "maybe_extend": Operations._end_extend,
    "check": Operations._end_check,
    "release_all_local_leases": Operations._end_close,
}
