"""The service of a vector: REST, event capture and DataStream on one real port, from a script.

One server serves all vectors, one after another: `begin` forgets the one before.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn
from typing_extensions import Self

from schematic_native.service.responses import read_instant, write_instant
from tests.conformance.clock import START, Clock, instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FLAGS, COMPANY = "rulesengine.Flags", "rulesengine.Company"
# The reason of every plain check: by it a check that fell back to one is told from all others.
PLAIN_RULE = "rule_plain"
PLAIN_REASON = f'Matched standard rule "plain" ({PLAIN_RULE})'
# An end that is less than this off the one that was asked for is the one asked for (milliseconds).
ROUNDING = 2

CALLS = {
    "acquire": re.compile(r"/billing/credits/lease"),
    "extend": re.compile(r"/billing/credits/lease/(?P<id>[^/]+)/extend"),
    "release": re.compile(r"/billing/credits/lease/(?P<id>[^/]+)/release"),
    "release_reservation": re.compile(r"/billing/credits/reservations/(?P<id>[^/]+)/release"),
    "check_and_reserve": re.compile(r"/flags/(?P<id>[^/]+)/check-and-reserve"),
    "check_flag": re.compile(r"/flags/(?P<id>[^/]+)/check"),
    "events": re.compile(r"/batch"),
}
# Calls that succeed where a vector does not say otherwise.
UNSCRIPTED: dict[str, dict[str, Any]] = {"release": {}, "release_reservation": {}, "events": {}}
NOTHING_SCRIPTED = {"error": "nothing is scripted"}


@dataclass
class Request:
    """One call: which it is, what it names in its path, and its body."""

    call: str
    name: str
    body: dict[str, Any]
    answer: asyncio.Future[Mapping[str, Any]] = field(repr=False)
    answered: bool = False

    def asked_end(self) -> int:
        """Milliseconds from the start to the end that was asked for; fractions are cut off."""
        asked = read_instant(self.body["expires_at"])
        return round(asked.timestamp() * 1_000_000) // 1000 - START


class Service:
    """The scripted server. Its methods are for other threads than its own."""

    def __init__(self) -> None:
        self._config = uvicorn.Config(
            self._serve,
            port=0,
            interface="asgi3",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ws_ping_interval=None,
        )
        self._server = uvicorn.Server(self._config)
        self._thread = threading.Thread(target=self._server.run, name="scripted service")
        self._loop: asyncio.AbstractEventLoop
        self.begin(Clock())

    def begin(self, clock: Clock) -> None:
        """Forget the vector before; this one has a clock of its own."""
        self._clock = clock
        self.requests: list[Request] = []
        self.events: list[dict[str, Any]] = []
        # What is asked over the DataStream: companies by id, and for how many requests one is not
        # known yet.
        self.flags: list[dict[str, Any]] = []
        self.companies: dict[str, dict[str, Any]] = {}
        self._companies_told = 0
        self.unknown_for: dict[str, int] = {}
        self._answers: dict[str, deque[Mapping[str, Any]]] = {}
        self._held: frozenset[str] = frozenset()
        self._sockets: list[Any] = []

    @property
    def url(self) -> str:
        [server] = self._server.servers
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        pause = threading.Event()
        while not self._server.started:
            pause.wait(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    def tell(self, company: Mapping[str, Any]) -> dict[str, Any]:
        """Know a company from now on; it is told by its own id and by how many were told before."""
        self._companies_told += 1
        entity = _company(company, self._companies_told)
        self.companies[company["id"]] = entity
        return entity

    def script(self, call: str, answers: Iterable[Mapping[str, Any]]) -> None:
        """Answer the next requests of a call so."""
        self._answers[call] = deque(answers)

    def hold(self, calls: Iterable[str]) -> None:
        """Let requests of these calls wait until each is answered by hand; the others go on."""
        self._held = frozenset(calls)

    def waiting(self, call: str, company_id: str | None = None) -> Request | None:
        """Return the oldest request of a call, or of one for a company, that waits for its answer."""
        waiting = (r for r in self.requests if r.call == call and not r.answered)
        return next((r for r in waiting if company_id in (None, r.body.get("company_id"))), None)

    def answer(self, request: Request, answer: Mapping[str, Any]) -> None:
        """Answer a request that waits."""
        request.answered = True
        self._loop.call_soon_threadsafe(request.answer.set_result, answer)

    def count(self, call: str) -> int:
        return sum(request.call == call for request in self.requests)

    def last(self, call: str) -> Request | None:
        return next((r for r in reversed(self.requests) if r.call == call), None)

    def push(self, company: dict[str, Any]) -> None:
        """Send a company to whoever streams."""
        message = {"entity_type": COMPANY, "message_type": "full", "data": company}
        for send in self._sockets:
            asyncio.run_coroutine_threadsafe(_tell(send, message), self._loop).result(10)

    # The server's own thread

    async def _serve(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self._loop = asyncio.get_running_loop()
        if scope["type"] == "websocket":
            await self._stream(receive, send)
        else:
            await self._call(scope, receive, send)

    async def _stream(self, receive: Any, send: Any) -> None:
        while (event := await receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
                self._sockets.append(send)
            else:
                await _tell(send, self._entity(json.loads(event["text"])["data"]))
        if send in self._sockets:
            self._sockets.remove(send)

    def _entity(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Find what a client has asked for over the DataStream."""
        entity_type = asked["entity_type"]
        if entity_type == FLAGS:
            return {"entity_type": FLAGS, "message_type": "full", "data": self.flags}
        company_id = asked["keys"].get("id")
        left = self.unknown_for.get(company_id, 0)
        self.unknown_for[company_id] = max(0, left - 1)
        company = self.companies.get(company_id)
        if company is None or left:
            fault = {"error": "not found", "keys": asked["keys"], "entity_type": entity_type}
            return {"entity_type": entity_type, "message_type": "error", "data": fault}
        return {"entity_type": COMPANY, "message_type": "full", "data": company}

    async def _call(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = await _read_body(receive)
        request = self._note(scope["path"], json.loads(body) if body else {})
        answer = await self._find_answer(request)
        self._clock.advance(answer.get("takes_ms", 0))
        status, content = _write(request, answer)
        headers = [(b"content-type", b"application/json"), (b"retry-after-ms", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})

    def _note(self, path: str, body: dict[str, Any]) -> Request:
        for call, pattern in CALLS.items():
            match = pattern.fullmatch(path)
            if match is not None:
                name = match.groupdict().get("id", "")
                request = Request(call, name, body, self._loop.create_future())
                self.requests.append(request)
                self.events += body.get("events", [])
                return request
        raise LookupError(f"the service knows no {path}")

    async def _find_answer(self, request: Request) -> Mapping[str, Any]:
        if request.call in self._held:
            return await request.answer
        answers = self._answers.get(request.call)
        answer = UNSCRIPTED.get(request.call, NOTHING_SCRIPTED)
        if answers:
            answer = answers.popleft()
        request.answered = True
        return answer


async def _tell(send: Any, message: dict[str, Any]) -> None:
    await send({"type": "websocket.send", "text": json.dumps(message)})


async def _read_body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    return body


def _write(request: Request, answer: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Write a vector's answer as the API says it: a status and a body."""
    if "error" in answer:
        return answer.get("status", 400), {"error": answer["error"]}
    if request.call == "events":
        return 202, {}
    return 200, {"data": _WRITERS.get(request.call, _nothing)(request, answer), "params": {}}


def _nothing(_request: Request, _answer: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _acquired(request: Request, answer: Mapping[str, Any]) -> dict[str, Any]:
    lease = answer["lease"]
    end = request.body["expires_at"]
    if abs(lease["expires_at_ms"] - request.asked_end()) >= ROUNDING:
        end = write_instant(instant(lease["expires_at_ms"]))
    return {
        "id": lease["lease_id"],
        "company_id": request.body["company_id"],
        "credit_type_id": request.body["credit_type_id"],
        "granted_amount": lease["granted_amount"],
        "expires_at": end,
    }


def _extended(request: Request, answer: Mapping[str, Any]) -> dict[str, Any]:
    lease = answer["lease"]
    extended = {"id": request.name, "granted_amount": lease["granted_total"]}
    if "expires_at_ms" in lease:
        extended["expires_at"] = write_instant(instant(lease["expires_at_ms"]))
    return extended


def _checked(request: Request, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Write a verdict, and a hold where there is one."""
    checked = {"flag": request.name, **answer}
    hold = answer.get("reservation")
    if hold is not None:
        at = hold["expires_at_ms"]
        fields = {name: value for name, value in hold.items() if name != "expires_at_ms"}
        checked["reservation"] = {**fields, "expires_at": write_instant(instant(at))}
    return checked


def _plain(request: Request, answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"flag": request.name, **answer}


_WRITERS = {
    "acquire": _acquired,
    "extend": _extended,
    "check_and_reserve": _checked,
    "check_flag": _plain,
}


PLACE = {"account_id": "acct", "environment_id": "env"}


def flag(key: str, meter: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Make a flag that is on for everybody, whose only rule tells that a check was plain.

    With a meter, such as {"event_subtype": "rendered", "below": 5}, it is on for those companies
    that have used less.
    """
    rule = {
        "id": PLAIN_RULE,
        "name": "plain",
        "rule_type": "standard",
        "priority": 1,
        "value": True,
        "conditions": [] if meter is None else [_condition(meter)],
        "condition_groups": [],
        "flag_id": f"flag_{key}",
        **PLACE,
    }
    return {"id": f"flag_{key}", "key": key, "default_value": False, "rules": [rule], **PLACE}


def _condition(meter: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": "cond_meter",
        "condition_type": "metric",
        "operator": "lt",
        "resource_ids": [],
        "event_subtype": meter["event_subtype"],
        "metric_value": meter["below"],
        "metric_period": "all_time",
        "trait_value": "",
        **PLACE,
    }


def _company(company: Mapping[str, Any], revision: int) -> dict[str, Any]:
    """Make a company that is found by its id, and by a number that no other has."""
    company_id = company["id"]
    used = company.get("used", {})
    return {
        "id": company_id,
        "keys": {"id": company_id, "revision": str(revision)},
        "credit_balances": dict(company.get("credit_balances", {})),
        "metrics": [_metric(company_id, event, value) for event, value in used.items()],
        **PLACE,
    }


def _metric(company_id: str, event: str, value: int) -> dict[str, Any]:
    return {
        "company_id": company_id,
        "event_subtype": event,
        "period": "all_time",
        "month_reset": "first_of_month",
        "value": value,
        "created_at": "2023-01-01T00:00:00Z",
        **PLACE,
    }
