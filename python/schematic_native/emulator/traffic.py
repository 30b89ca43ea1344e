"""Which requests came: counted by the place where faults select them, and by endpoint and answer.

It counts and is read; nothing is decided by it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping

    Message = MutableMapping[str, Any]
    Send = Callable[[Message], Awaitable[None]]

ADMIN = "admin"
UNANSWERED = "cut"
_LEASE = "/billing/credits/lease"
_PLACES: list[tuple[re.Pattern[str], str]] = [
    (re.compile("/|/_emulator/.*"), ADMIN),
    (re.compile("/batch"), "capture"),
    (re.compile("/datastream"), "datastream"),
    (re.compile(_LEASE), "acquire"),
    (re.compile(_LEASE + "/[^/]+/extend"), "extend"),
    (re.compile("/billing/credits/(lease|reservations)/[^/]+/release"), "release"),
    (re.compile("/flags/.*"), "check"),
]
_STARTS = {"http.response.start", "websocket.http.response.start"}


def place_of(path: str) -> str:
    """Name the kind of a path, as faults select it."""
    return next((place for pattern, place in _PLACES if pattern.fullmatch(path)), "other")


class Traffic:
    """The counts since the emulator started."""

    def __init__(self) -> None:
        # How many requests came to each kind of path, faults included.
        self.requests: Counter[str] = Counter()
        # What was asked for that the emulator does not know, by method and path.
        self.unknown: Counter[str] = Counter()
        # How often each endpoint, such as "POST /flags/{key}/check", gave each answer: a status, or
        # "cut" where the connection was.
        self.answers: dict[str, Counter[str]] = {}
        self._endpoints: list[tuple[str, re.Pattern[str], str]] = []

    def reset(self) -> None:
        """Begin to count anew."""
        self.requests.clear()
        self.unknown.clear()
        self.answers.clear()

    def name_endpoints(self, routes: Iterable[tuple[Iterable[str], re.Pattern[str], str]]) -> None:
        """Set the names of endpoints: methods, a pattern for their paths, and how they are shown."""
        self._endpoints = [
            (method, pattern, f"{method} {path}")
            for methods, pattern, path in routes
            for method in methods
        ]

    def observe(self, scope: Mapping[str, Any], send: Send) -> Answer:
        """Return what counts the answer to one request, and sends it on."""
        return Answer(self.answers.setdefault(self._endpoint(scope), Counter()), send)

    def _endpoint(self, scope: Mapping[str, Any]) -> str:
        method, path = scope.get("method", "WebSocket"), scope["path"]
        if path == "/batch" and method == "POST":  # by far the most, and not among the routes
            return "POST /batch"
        for wanted, pattern, name in self._endpoints:
            if wanted == method and pattern.match(path):
                return name
        return "unknown"


class Answer:
    """One request's way out: notes the status that is sent, or that there was none."""

    def __init__(self, counts: Counter[str], send: Send) -> None:
        self._counts = counts
        self._send = send
        self._is_counted = False

    async def send(self, message: Message) -> None:
        """Send a message on."""
        if message["type"] in _STARTS:
            self._count(str(message["status"]))
        elif message["type"] == "websocket.accept":
            self._count("101")
        await self._send(message)

    def end(self) -> None:
        """Count a request that ended without an answer."""
        self._count(UNANSWERED)

    def _count(self, outcome: str) -> None:
        if not self._is_counted:
            self._is_counted = True
            self._counts[outcome] += 1
