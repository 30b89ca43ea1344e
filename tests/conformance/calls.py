"""How operations call a client, wait for it, and have the service answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance import service as scripted
from tests.conformance.arguments import answers_of
from tests.conformance.programs import rest
from tests.conformance.vectors import BrokenVectorError, Fields
from tests.conformance.wire import Wire

if TYPE_CHECKING:
    from schematic_native import Reservation
    from schematic_native.leases.manager import Leases
    from tests.conformance.programs import Call
    from tests.conformance.service import Request
    from tests.conformance.world import World


class Calls:
    """A client under way, its service, and what was saved of it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._program = world.program
        self._backend = world.backend
        self._service = world.service
        self._wire = Wire(world.service)
        self._handles: dict[str, Reservation] = {}
        self._told: dict[str, Any] = {}

    @property
    def _leases(self) -> Leases:
        leases = self._program.runtime()._leases
        assert leases is not None, "this client keeps no leases"
        return leases

    def _reservation_id(self, fields: Fields) -> str:
        handle = fields.get("handle")
        return fields.text("id") if handle is None else self._held(handle).id

    def _held(self, handle: str) -> Reservation:
        if handle not in self._handles:
            raise BrokenVectorError(f"no check has saved a hold as {handle}")
        return self._handles[handle]

    def _finish(self, call: Call) -> Any:
        self._program.wait(call.done)
        result = call.result()
        rest(self._program)
        return result

    def _await_request(
        self, call: str, caller: Call | None, company_id: str | None = None
    ) -> Request:
        def has_come() -> bool:
            assert caller is None or not caller.done(), f"nobody asked for {call}"
            return self._service.waiting(call, company_id) is not None

        self._program.wait(has_come)
        request = self._service.waiting(call, company_id)
        assert request is not None
        return request

    def _script(self, fields: Fields) -> None:
        for call, answers in fields.get("server", {}).items():
            if call not in scripted.CALLS:
                raise BrokenVectorError(f"the service has no call {call}")
            self._service.script(call, answers_of(answers))

    def _tell(self, fields: Fields) -> None:
        """Tell the service of an operation's company, and the client if it has that company."""
        company = dict(fields.get("company", {}))
        if "id" not in company or company.pop("unknown", False):
            return
        company_id = company["id"]
        self._service.unknown_for[company_id] = company.pop("unknown_for_requests", 0)
        if self._told.get(company_id) == company:
            return
        core = self._program.client._core
        is_known = core.company_id({"id": company_id}) is not None
        self._told[company_id] = company
        entity = self._service.tell(company)
        if is_known:
            self._service.push(entity)
            # Any one of a company's keys finds it, and it has had its id before.
            revision = {"revision": entity["keys"]["revision"]}
            self._program.wait(lambda: core.company_id(revision) is not None)

    def _calls_since(self, number: int) -> list[str]:
        return [request.call for request in self._service.requests[number:]]


def call_of(work: Any) -> Call:
    call: Call = work[0] if isinstance(work, tuple) else work
    return call
