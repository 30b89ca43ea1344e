"""One vector under way: what each operation does to a client, and what is seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from schematic_native import CheckResult, Reservation
from schematic_native.ground.store_errors import StoreError
from tests.conformance import service as scripted
from tests.conformance.clock import instant, offset
from tests.conformance.comparison import difference
from tests.conformance.engine import Script
from tests.conformance.programs import LIMIT, rest
from tests.conformance.vectors import BrokenVectorError, Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from schematic_native.leases.manager import Leases
    from tests.conformance.backends import Backend, Slot
    from tests.conformance.clock import Clock
    from tests.conformance.engine import Engine
    from tests.conformance.programs import Call, Program, Stage
    from tests.conformance.service import Request, Service
    from tests.conformance.vectors import Vector

Seen = dict[str, Any]

TIMES_LONGER = 20
NO_NUMBERS = {"nan": float("nan"), "infinity": float("inf")}
TRACKED = ("event", "quantity", "lease_id", "reservation_id", "company", "user", "traits")


@dataclass(frozen=True)
class World:
    """Everything around a vector."""

    program: Program
    backend: Backend
    service: Service
    clock: Clock
    engine: Engine
    stage: Stage


def run(vector: Vector, world: World) -> None:
    """Run a vector; whatever is not as it says is an AssertionError that tells where."""
    for lease in vector.leases:
        fields = Fields(lease)
        install(world, fields)
        fields.check_all_read()
    operations = Operations(world)
    for number, operation in enumerate(vector.operations):
        operations.perform(operation, f"operation {number}")


def install(world: World, fields: Fields) -> bool:
    return world.backend.install(
        slot_of(fields),
        fields.text("lease_id"),
        fields.number("granted_amount"),
        instant(fields.number("expires_at_ms")),
    )


def slot_of(fields: Fields) -> Slot:
    return fields.text("company_id"), fields.text("credit_type_id")


def quantity_of(fields: Fields, name: str) -> Any:
    """Read a quantity, which may be what is no number: "nan", "infinity" or a truth value."""
    value = fields.get(name)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in NO_NUMBERS:
        return NO_NUMBERS[value]
    return fields.number(name)


def end_of(fields: Fields) -> float | None:
    at = fields.optional_number("expires_at_ms")
    return None if at is None else instant(at)


class Wire:
    """What was asked of the service since the vector began."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def seen(self) -> Seen:
        acquire, extend = self._service.last("acquire"), self._service.last("extend")
        return {
            "wire_acquires": self._service.count("acquire"),
            "last_acquire_requested_amount": _asked(acquire, "requested_amount"),
            "last_acquire_expires_at_ms": acquire and acquire.asked_end(),
            "wire_extends": self._service.count("extend"),
            "last_extend_lease_id": extend and extend.name,
            "last_extend_additional_amount": _asked(extend, "additional_amount"),
            "last_extend_expires_at_ms": extend and extend.asked_end(),
            "released_lease_ids": self._names("release"),
            "released_reservation_ids": self._names("release_reservation"),
            "reserve_requests": [_reserve(r) for r in self._service.requests if _reserves(r)],
            "plain_requests": [r.body for r in self._service.requests if r.call == "check_flag"],
            "idempotency_keys": self._idempotency_keys(),
        }

    def _names(self, call: str) -> list[str]:
        return [request.name for request in self._service.requests if request.call == call]

    def _idempotency_keys(self) -> list[int]:
        """Number the keys by their first use: [1, 1, 2] are a call, its retry and another call."""
        bodies = [request.body for request in self._service.requests]
        keys = [body["idempotency_key"] for body in bodies if "idempotency_key" in body]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys), start=1)}
        return [numbers[key] for key in keys]


def _asked(request: Request | None, name: str) -> Any:
    return None if request is None else request.body[name]


def _reserves(request: Request) -> bool:
    return request.call == "check_and_reserve"


def _reserve(request: Request) -> Seen:
    body = dict(request.body)
    del body["idempotency_key"], body["expires_at"]
    return {"flag_key": request.name, "expires_at_ms": request.asked_end(), **body}


class Operations:
    """Performs operations; `BY_NAME` tells which there are."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._program = world.program
        self._backend = world.backend
        self._service = world.service
        self._wire = Wire(world.service)
        self._handles: dict[str, Reservation] = {}
        self._told: dict[str, Any] = {}

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

    @property
    def _leases(self) -> Leases:
        leases = self._program.runtime()._leases
        assert leases is not None, "this client keeps no leases"
        return leases

    # Slots and holds

    def _advance_clock(self, fields: Fields) -> Seen:
        self._world.clock.advance(int(fields.number("ms")))
        return {}

    def _replace_lease(self, fields: Fields) -> Seen:
        return {"written": install(self._world, fields)}

    def _drop_lease(self, fields: Fields) -> Seen:
        self._backend.drop(slot_of(fields))
        return {}

    def _get_lease(self, fields: Fields) -> Seen:
        lease = self._backend.lease(slot_of(fields))
        if lease is None:
            return {"exists": False}
        return {
            "exists": True,
            "lease_id": lease.lease_id,
            "granted_amount": lease.granted,
            "local_remaining_credits": lease.remaining,
            "expires_at_ms": offset(lease.expires_at),
        }

    def _try_reserve(self, fields: Fields) -> Seen:
        debit = self._backend.try_reserve(slot_of(fields), quantity_of(fields, "credits"))
        if debit is None:
            return {"balance": None}
        balance, lease_id = debit
        return {"balance": balance, "lease_id": lease_id}

    def _refund_lease(self, fields: Fields) -> Seen:
        pin = fields.get("pin_lease_id")
        self._backend.refund(slot_of(fields), quantity_of(fields, "credits"), pin)
        return {}

    def _extend_lease(self, fields: Fields) -> Seen:
        total, pin = fields.number("granted_total"), fields.get("pin_lease_id")
        self._backend.extend(slot_of(fields), total, end_of(fields), pin)
        return {}

    def _note_spent(self, fields: Fields) -> Seen:
        amount = quantity_of(fields, "credits")
        self._program.client._core.note_spent(*slot_of(fields), amount, fields.get("balance"))
        return {}

    def _was_refused(self, fields: Fields) -> Seen:
        amount = quantity_of(fields, "credits")
        return {"refused": self._program.client._core.was_refused(*slot_of(fields), amount)}

    def _add_reservation(self, fields: Fields) -> Seen:
        company_id, credit_type_id = slot_of(fields)
        ends = instant(fields.number("expires_at_ms"))
        hold = Reservation(
            id=fields.text("id"),
            lease_id=fields.get("lease_id", ""),
            mode="client",
            company_id=company_id,
            credit_type_id=credit_type_id,
            event_subtype=fields.text("event_subtype"),
            quantity_reserved=fields.number("quantity_reserved"),
            credits_reserved=fields.number("credits_reserved"),
            consumption_rate=fields.number("consumption_rate"),
            expires_at=datetime.fromtimestamp(ends, timezone.utc),
        )
        self._backend.add(hold)
        return {}

    def _get_reservation(self, fields: Fields) -> Seen:
        return {"exists": self._backend.holds(self._reservation_id(fields))}

    def _consume_reservation(self, fields: Fields) -> Seen:
        amount, hold_id = fields.number("credits"), self._reservation_id(fields)
        if not fields.get("crash_before_refund"):
            return {"consumed": self._backend.consume(hold_id, amount)}
        try:
            self._backend.consume_and_crash(hold_id, amount)
        except StoreError:
            return {"throws": True}
        return {"throws": False}

    def _reserved_credits(self, fields: Fields) -> Seen:
        return {"total": self._backend.reserved_credits(slot_of(fields))}

    def _reservation_count(self, _fields: Fields) -> Seen:
        return {"count": self._backend.reservation_count()}

    def _sweep_expired(self, _fields: Fields) -> Seen:
        return {"swept": self._backend.sweep()}

    def _reservation_id(self, fields: Fields) -> str:
        handle = fields.get("handle")
        return fields.text("id") if handle is None else self._held(handle).id

    def _held(self, handle: str) -> Reservation:
        if handle not in self._handles:
            raise BrokenVectorError(f"no check has saved a hold as {handle}")
        return self._handles[handle]

    # The lease service

    def _acquire_if_needed(self, fields: Fields) -> Seen:
        during, answer = fields.fields("install_during_wire"), fields.get("server", {})
        call = self._begin_acquire(fields)
        if "lease_id" not in during:
            self._service.script("acquire", _answers(answer))
            return self._end_acquire(call, fields)
        self._service.hold(["acquire"])
        request = self._await_request("acquire", call)
        install(self._world, during)
        self._service.answer(request, answer)
        self._service.hold([])
        during.check_all_read()
        return self._end_acquire(call, fields)

    def _begin_acquire(self, fields: Fields) -> Call:
        slot, timeout = slot_of(fields), _timeout_of(fields)
        runtime, leases = self._program.runtime(), self._leases

        async def acquire() -> object:
            deadline = None if timeout is None else runtime.loop.time() + timeout
            return await leases.acquire_if_needed(*slot, deadline)

        return self._program.start_work(acquire())

    def _end_acquire(self, call: Call, _fields: Fields) -> Seen:
        lease = self._finish(call)
        return {"lease_id": None if lease is None else lease.lease_id, **self._wire.seen()}

    def _maybe_extend(self, fields: Fields) -> Seen:
        self._service.script("extend", _answers(fields.get("server")))
        return self._end_extend(self._begin_extend(fields), fields)

    def _begin_extend(self, fields: Fields) -> Call:
        slot, timeout = slot_of(fields), _timeout_of(fields)
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

    def _calls_since(self, number: int) -> list[str]:
        return [request.call for request in self._service.requests[number:]]

    # Checks and settles

    def _check(self, fields: Fields) -> Seen:
        self._tell(fields)
        self._script(fields)
        check = self._begin_check(fields)
        return self._end_check(check, fields)

    def _begin_check(self, fields: Fields) -> tuple[Call, Script, int]:
        company = fields.get("company", {})
        self._backend.fail_next(fields.get("faults", []))
        script = Script(fields.get("engine", []), company.get("credit_balances", {}))
        self._world.engine.follow(fields.text("flag_key"), script)
        events = len(self._service.events)
        call = self._program.start(
            "check",
            fields.text("flag_key"),
            {"id": company["id"]} if company else None,
            fields.get("user"),
            usage=quantity_of(fields, "usage") if "usage" in fields else fields.get("usage"),
            event_subtype=fields.get("event_subtype"),
            on_acquire_failure=fields.get("on_acquire_failure"),
            default_value=fields.get("default_value"),
            timeout=_timeout_of(fields),
        )
        return call, script, events

    def _end_check(self, check: tuple[Call, Script, int], fields: Fields) -> Seen:
        call, script, events = check
        result = self._finish(call)
        assert isinstance(result, CheckResult)
        assert not script.faults, "; ".join(script.faults)
        seen = {**_describe(result), "engine_calls": script.calls, **self._wire.seen()}
        name = fields.get("save_reservation_as")
        if name is not None and result.reservation is not None:
            self._handles[name] = result.reservation
        if "flag_checks" in fields.get("expect", {}):
            seen["flag_checks"] = [e["body"] for e in self._sent("flag_check", events)]
        return seen

    def _check_flag(self, fields: Fields) -> Seen:
        """Check a flag plainly, by the rules engine."""
        self._tell(fields)
        company = fields.get("company", {})
        value = self._program.do("check_flag", fields.text("flag_key"), {"id": company["id"]})
        return {"value": value}

    def _track(self, fields: Fields) -> Seen:
        from schematic_native import TrackWithReservationOptions  # noqa: PLC0415

        handle = fields.get("handle")
        hold = None if handle is None else self._held(handle)
        before, events = hold and self._backend.holds(hold.id), len(self._service.events)
        traits = fields.get("traits")
        options = None if traits is None else TrackWithReservationOptions(traits=traits)
        quantity = quantity_of(fields, "actual_quantity")
        self._backend.fail_next(fields.get("faults", []))
        self._program.do("track_with_reservation", hold, quantity, options)
        moved = bool(before) and hold is not None and not self._backend.holds(hold.id)
        billed = [self._bill(event) for event in self._sent("track", events)]
        return {
            "settled_locally": moved,
            "track": billed[0] if len(billed) == 1 else billed or None,
        }

    def _bill(self, event: Mapping[str, Any]) -> Seen:
        """Tell what is billed; the random id of a hold is told by its handle."""
        key = event.get("idempotency_key") or ""
        for handle, hold in self._handles.items():
            key = key.replace(hold.id, handle)
        body = event["body"]
        return {"idempotency_key": key, **{name: body.get(name) for name in TRACKED}}

    def _sent(self, kind: str, since: int) -> list[dict[str, Any]]:
        """Have the events sent that wait, and return those of one kind that came since."""
        self._program.work(self._program.runtime()._sender.flush(LIMIT))
        return [event for event in self._service.events[since:] if event["type"] == kind]

    # Several callers

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
            self._land(dict(answer), {name: _call_of(work) for name, (_, work) in begun.items()})
        for _, work in begun.values():
            self._finish(_call_of(work))
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
        call = _call_of(work)
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

    def _finish(self, call: Call) -> Any:
        self._program.wait(call.done)
        result = call.result()
        rest(self._program)
        return result

    # What the service tells

    def _script(self, fields: Fields) -> None:
        for call, answers in fields.get("server", {}).items():
            if call not in scripted.CALLS:
                raise BrokenVectorError(f"the service has no call {call}")
            self._service.script(call, _answers(answers))

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


def _answers(answers: Any) -> list[Mapping[str, Any]]:
    """Read what a call is answered with: nothing, once, or one request after another."""
    if not answers:
        return []
    return answers if isinstance(answers, list) else [answers]


def _timeout_of(fields: Fields) -> float | None:
    """Return the seconds that a caller has, who leaves when all else waits for a request of another.

    They are real, so they are more than the vector says: a busy machine must not use them up before
    that request is made.
    """
    milliseconds = fields.optional_number("timeout_ms")
    return None if milliseconds is None else TIMES_LONGER * milliseconds / 1000


def _call_of(work: Any) -> Call:
    call: Call = work[0] if isinstance(work, tuple) else work
    return call


def _describe(result: CheckResult) -> Seen:
    is_plain = result.reason == scripted.PLAIN_REASON
    seen = {
        "allowed": result.allowed,
        "value": result.value,
        "reason": "fallback" if is_plain else result.reason,
        "err": result.error,
        "fallback_called": is_plain,
        "has_reservation": result.reservation is not None,
    }
    if result.reservation is not None:
        hold = result.reservation
        seen["reservation"] = {
            "mode": hold.mode,
            "lease_id": hold.lease_id,
            "company_id": hold.company_id,
            "credit_type_id": hold.credit_type_id,
            "event_subtype": hold.event_subtype,
            "quantity_reserved": hold.quantity_reserved,
            "credits_reserved": hold.credits_reserved,
            "consumption_rate": hold.consumption_rate,
            "expires_at_ms": offset(hold.expires_at.timestamp()),
        }
    return seen


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


def flags_of(vector: Vector) -> list[str]:
    """Name every flag that a vector's checks ask for and that the service knows."""
    unknown = vector.content.get("given", {}).get("unknown_flags", [])
    return [key for key in dict.fromkeys(_asked_flags(vector.operations)) if key not in unknown]


def _asked_flags(operations: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for operation in operations:
        if "flag_key" in operation:
            yield operation["flag_key"]
        yield from _asked_flags(operation.get("operations", []))
