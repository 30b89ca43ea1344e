"""The emulator's own service behind connections in memory: REST, capture and the DataStream.

What answers is the emulator's code; only sockets, HTTP parsing and routing are left out.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosedError

from schematic_native.emulator.clock import Clock
from schematic_native.emulator.endpoints import capture, credit_leases, flag_checks
from schematic_native.emulator.endpoints.datastream import DataStream
from schematic_native.emulator.errors import ServiceError
from schematic_native.emulator.state import commands
from schematic_native.emulator.state.service import Service
from schematic_native.ground import json_text
from tests.simulation.network import ENDS, LATE
from tests.simulation.world import Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schematic_native.emulator.seed import Seed
    from tests.simulation.network import Fate, Link
    from tests.simulation.world import World

URL = "http://service.invalid"
_OPERATIONS = (
    (re.compile("/batch"), "capture"),
    (re.compile("/billing/credits/lease"), "acquire"),
    (re.compile("/billing/credits/lease/[^/]+/extend"), "extend"),
    (re.compile("/billing/credits/lease/[^/]+/release"), "release"),
    (re.compile("/billing/credits/reservations/[^/]+/release"), "release reservation"),
    (re.compile("/flags/[^/]+/check-and-reserve"), "reserve"),
    (re.compile("/flags/.*"), "check"),
)


def operation_of(path: str) -> str:
    """Name what a request is about."""
    return next((name for pattern, name in _OPERATIONS if pattern.fullmatch(path)), "other")


class Answer(NamedTuple):
    """A response, as the package reads those of httpx."""

    status_code: int
    content: bytes
    headers: Mapping[str, str]
    reason_phrase: str = ""


class _Request:
    """What the emulator's handlers read of a request."""

    def __init__(
        self, body: bytes, headers: Mapping[str, str], parameters: Mapping[str, str]
    ) -> None:
        self._body = body
        self.headers = headers
        self.path_params = parameters

    async def body(self) -> bytes:
        return self._body


class _Service(Service):
    """A service that keeps the events which it has just taken."""

    captured: list[Any]

    def capture(self, body: bytes, events: list[Any]) -> None:
        self.captured = events
        super().capture(body, events)


class ServiceServer:
    """The emulated service on a loop of its own.

    Args:
        world: its clock.
        seed: what it knows at the start.
        epoch: the instant at which the world begins, in epoch seconds.

    """

    def __init__(self, world: World, seed: Seed, epoch: float) -> None:
        self.world = world
        self.loop = Loop(world, "service")
        self.service = _Service(seed, Clock(lambda: epoch + world.now))
        drawn = random.Random(f"service {world.random.random()}")
        commands.draw_token = lambda size: f"{drawn.getrandbits(8 * size):0{2 * size}x}"
        self.stream = DataStream(self.service)
        self._routes = _routes(self.service)
        # States that schedules are to reach.
        self.seen: Counter[str] = Counter()
        # Told of each lease that a pod gives back: the name of the pod, and the lease's id.
        self.on_release: Callable[[str, str], None] = _nobody
        # Told of each batch of events that was taken.
        self.on_capture: Callable[[list[Any]], None] = _nobody

    def answer(
        self, caller: str, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        """Answer a request of a pod."""
        answer, operation = self._answer(method, path, body, headers), operation_of(path)
        if operation == "release" and answer.status_code == 200:
            self.seen["a lease was released"] += 1
            self.on_release(caller, path.split("/")[-2])
        is_late = operation == "extend" and answer.status_code == 400
        self.seen["a lease was extended after it had ended"] += is_late
        return answer

    def _answer(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Answer a request; none of the emulator's handlers waits for anything."""
        try:
            if path == "/batch":
                taken = capture.take(self.service, body)
                self.on_capture(self.service.captured)
                return Answer(200, json_text.write({"events": taken}), {})
            for methods, pattern, endpoint in self._routes:
                found = pattern.fullmatch(path)
                if found is not None and method in methods:
                    response = _finish(endpoint(_Request(body, headers, found.groupdict())))
                    return Answer(response.status_code, response.body, {})
        except ServiceError as error:
            return refusal(error.status, str(error))
        return refusal(404, f"no such endpoint: {method} {path}")

    def push(self, call: Callable[[], object]) -> None:
        """Have something done on the service's loop."""
        self.loop.call_soon(call)


def _nobody(*_: object) -> None:
    """Stand in for who is told."""


def refusal(status: int, message: str) -> Answer:
    """Return an error as the service writes it; what stands in the way says 413 without its words."""
    if status == 413:
        return Answer(status, b"too large", {})
    return Answer(status, json_text.write({"error": message}), {})


def _routes(service: Service) -> list[tuple[set[str], re.Pattern[str], Any]]:
    return [
        (route.methods or set(), route.path_regex, route.endpoint)
        for route in (*credit_leases.routes(service), *flag_checks.routes(service))
    ]


def _finish(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a handler of the emulator waits")


class HttpClient:
    """A client that the package is handed, as httpx's would be."""

    follow_redirects = False

    def __init__(self, server: ServiceServer, link: Link) -> None:
        self._server = server
        self._link = link

    async def request(
        self, method: str, url: str, *, content: bytes | None, headers: Mapping[str, str], **_: Any
    ) -> Answer:
        """Make a request; it takes effect even if nobody waits for the answer any longer."""
        link, path = self._link, url.removeprefix(URL)
        operation = operation_of(path)
        if link.is_down:
            await asyncio.sleep(link.delay())
            link.note("refused", operation)
            raise ConnectionRefusedError("connection refused")
        answered: asyncio.Future[Answer] = link.loop.create_future()
        _Exchange(self._server, link, answered).send(
            link.fate(operation), method, path, content or b"", _lowered(headers)
        )
        return await answered

    async def aclose(self) -> None:
        """Nothing is open."""


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class _Exchange:
    """One request and its answer."""

    def __init__(self, server: ServiceServer, link: Link, answered: asyncio.Future[Answer]) -> None:
        self._server = server
        self._link = link
        self._loop = link.loop
        self._answered = answered
        link.ways[self._reset] = None

    def send(self, fate: Fate | None, *request: Any) -> None:
        world, delay = self._link.world, self._link.delay()
        kind = None if fate is None else fate.kind
        if kind == "lost":
            return
        if kind == "cut":
            world.later(delay, self._reset)
        elif kind == "status" and fate is not None:
            world.later(delay, self._answer, refusal(fate.status, "injected"))
        else:
            delay += LATE if kind == "late" else 0.0
            self._link.waited(delay)
            world.on(self._server.loop, world.now + delay, self._arrive, fate, request)

    def _arrive(self, fate: Fate | None, request: Any) -> None:
        answer = self._server.answer(self._loop.name, *request)
        link = self._link
        kind = None if fate is None else fate.kind
        if kind in ENDS:
            link.end(kind)
        if kind == "fatal":
            return
        if link.swallows() or kind == "unanswered":
            return
        if kind == "cut after":
            self._reset()
            return
        if kind == "status after" and fate is not None:
            answer = refusal(fate.status, "injected after it took effect")
        delay = link.delay()
        link.waited(delay)
        link.world.later(delay, self._answer, answer)

    def _answer(self, answer: Answer) -> None:
        self._link.ways.pop(self._reset, None)
        self._loop.call_soon(_tell, self._answered, answer)

    def _reset(self) -> None:
        self._link.ways.pop(self._reset, None)
        self._loop.call_soon(_fail, self._answered, ConnectionResetError("reset"))


def _tell(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


# The DataStream


class ServerSocket:
    """The service's end of a WebSocket, as the emulator uses Starlette's."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.scope: dict[str, Any] = {}
        self.inbox: asyncio.Queue[str | None] = asyncio.Queue()
        self.peer: ClientSocket | None = None

    async def accept(self) -> None:
        """Take the handshake."""

    async def receive_text(self) -> str:
        text = await self.inbox.get()
        if text is None:
            raise WebSocketDisconnect(1006)
        return text

    async def send_text(self, text: str) -> None:
        if self.peer is not None:
            self.peer.travel(text.encode())


class ClientSocket:
    """A pod's end of a WebSocket, as the package uses that of `websockets`."""

    def __init__(self, server: ServiceServer, link: Link) -> None:
        self._server = server
        self._link = link
        self._loop = link.loop
        self._end = ServerSocket({})
        self._inbox: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._is_closed = False
        self._goes_at = self._comes_at = 0.0

    def open(self, headers: Mapping[str, str]) -> None:
        """Have the service serve the other end."""
        self._end.headers = _lowered(headers)
        self._end.peer = self
        self._link.ways[self.reset] = None
        serving = self._server.stream.serve(self._end)  # type: ignore[arg-type]
        self._server.loop.call_soon(self._server.loop.create_task, serving)

    async def send(self, message: bytes, text: bool | None = None) -> None:
        if self._is_closed:
            raise ConnectionClosedError(None, None)
        link = self._link
        fate = link.fate("subscribe")
        if fate is not None and fate.kind != "late" and fate.kind not in ENDS:
            if fate.kind != "lost":
                self.reset()
            return
        delay = link.delay() + (LATE if fate is not None and fate.kind == "late" else 0.0)
        self._goes_at = max(self._goes_at, link.world.now + delay)
        link.world.at(self._goes_at, self._reach, message.decode())

    def _reach(self, text: str | None) -> None:
        self._server.loop.call_soon(self._end.inbox.put_nowait, text)

    async def recv(self, decode: bool | None = None) -> bytes:
        while not self._inbox:
            if self._is_closed:
                raise ConnectionClosedError(None, None)
            self._more.clear()
            await self._more.wait()
        return self._inbox.popleft()

    async def ping(self) -> asyncio.Future[float]:
        if self._is_closed:
            raise ConnectionClosedError(None, None)
        pong: asyncio.Future[float] = self._loop.create_future()
        if self._link.fate("ping") is None:
            delay = self._link.delay()
            world = self._link.world
            world.on(self._loop, world.now + delay, _tell, pong, delay)
        return pong

    async def close(self) -> None:
        self._shut()

    def travel(self, message: bytes) -> None:
        """Carry a message of the service to the pod, in order."""
        link = self._link
        if self._is_closed or link.is_silent:
            return
        self._comes_at = max(self._comes_at, link.world.now + link.delay())
        link.world.on(self._loop, self._comes_at, self._hear, message)

    def _hear(self, message: bytes) -> None:
        self._inbox.append(message)
        self._more.set()

    def reset(self) -> None:
        """Be cut by the network."""
        self._shut()
        self._loop.call_soon(self._more.set)

    def _shut(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._link.ways.pop(self.reset, None)
            self._link.world.later(self._link.delay(), self._reach, None)


async def connect(server: ServiceServer, link: Link, headers: Mapping[str, str]) -> ClientSocket:
    """Open a WebSocket."""
    if link.is_silent:
        link.note("silent", "stream")
        await asyncio.sleep(10.0)
        raise TimeoutError("the handshake took too long")
    await asyncio.sleep(3 * link.delay())
    if link.is_down:
        link.note("refused", "stream")
        raise ConnectionRefusedError("connection refused")
    fate = link.fate("stream")
    if fate is not None:
        raise ConnectionResetError("reset in the handshake")
    socket = ClientSocket(server, link)
    socket.open(headers)
    return socket
