"""What operations have a client ask of the lease service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.arguments import answers_of, slot_of, timeout_of
from tests.conformance.calls import Calls
from tests.conformance.programs import rest
from tests.conformance.world import install

if TYPE_CHECKING:
    from tests.conformance.programs import Call
    from tests.conformance.vectors import Fields
    from tests.conformance.wire import Seen


class LeaseOperations(Calls):
    """Operations by which leases are acquired, extended and released."""

    def _acquire_if_needed(self, fields: Fields) -> Seen:
        during, answer = fields.fields("install_during_wire"), fields.get("server", {})
        call = self._begin_acquire(fields)
        if "lease_id" not in during:
            self._service.script("acquire", answers_of(answer))
            return self._end_acquire(call, fields)
        self._service.hold(["acquire"])
        request = self._await_request("acquire", call)
        install(self._world, during)
        self._service.answer(request, answer)
        self._service.hold([])
        during.check_all_read()
        return self._end_acquire(call, fields)

    def _begin_acquire(self, fields: Fields) -> Call:
        slot, timeout = slot_of(fields), timeout_of(fields)
        runtime, leases = self._program.runtime(), self._leases

        async def acquire() -> object:
            deadline = None if timeout is None else runtime.loop.time() + timeout
            return await leases.acquire_if_needed(*slot, deadline)

        return self._program.start_work(acquire())

    def _end_acquire(self, call: Call, _fields: Fields) -> Seen:
        lease = self._finish(call)
        return {"lease_id": None if lease is None else lease.lease_id, **self._wire.seen()}

    def _maybe_extend(self, fields: Fields) -> Seen:
        self._service.script("extend", answers_of(fields.get("server")))
        return self._end_extend(self._begin_extend(fields), fields)

    def _begin_extend(self, fields: Fields) -> Call:
        slot, timeout = slot_of(fields), timeout_of(fields)
        required = fields.optional_number("required_credits")
        runtime, leases = self._program.runtime(), self._leases

        async def extend() -> None:
            deadline = None if timeout is None else runtime.loop.time() + timeout
            await leases.maybe_extend(*slot, required, deadline)

        return self._program.start_work(extend())

    def _end_extend(self, call: Call, _fields: Fields) -> Seen:
        self._finish(call)
        return self._wire.seen()

    def _extend_low_leases(self, fields: Fields) -> Seen:
        """Let the background extends run that checks have asked for since."""
        self._script(fields)
        self._world.stage.bell.let_go()
        rest(self._program)
        return self._wire.seen()

    def _release_all(self, fields: Fields) -> Seen:
        self._program.runtime()
        return self._end_close(self._begin_close(fields), fields)

    def _begin_close(self, _fields: Fields) -> Call:
        return self._program.start("shutdown")

    def _end_close(self, call: Call, _fields: Fields) -> Seen:
        self._finish(call)
        live = self._program.client._core.counts()["leases"]
        return {"remaining_slots": live, **self._wire.seen()}

    def _sweep_tick(self, _fields: Fields) -> Seen:
        """Do what the client does at each interval of its sweeper."""
        self._program.work(self._leases._store.sweep())
        return {}

    def _prewarm(self, fields: Fields) -> Seen:
        self._program.runtime()
        self._script(fields)
        self._tell(fields)
        keys = fields.get("keys", {"id": fields.get("company", {}).get("id")})
        before = len(self._service.requests)
        self._finish(self._program.start("prewarm", keys, fields.get("credit_type_ids")))
        return {"requests": self._calls_since(before), **self._wire.seen()}

    def _identify(self, fields: Fields) -> Seen:
        from schematic_native import IdentifyOptions  # noqa: PLC0415

        self._script(fields)
        self._tell(fields)
        before = len(self._service.requests)
        company = {"keys": {"id": fields.get("company", {}).get("id")}}
        options = IdentifyOptions(prewarm=fields.get("prewarm"))
        self._finish(self._program.start("identify", {"id": "usr_1"}, company, options=options))
        rest(self._program)
        return {"requests": self._calls_since(before), **self._wire.seen()}
