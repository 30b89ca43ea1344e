"""What lies between a pod and a server: delays, losses and cut connections, drawn from the world's seed."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import Loop, World

# What becomes of one request: never arrives; arrives and is carried out, without an answer; the same with
# the connection cut; takes effect long after, or at once while its answer takes its time; or is answered with a
# status (HTTP) that is no success, before or after it took effect; or it is carried out, and before the pod hears
# of that it is killed, begins to shut down or changes its loop.
Kind: TypeAlias = Literal[
    "lost",
    "cut",
    "unanswered",
    "cut after",
    "late",
    "held up",
    "fatal",
    "status",
    "status after",
    "shut down",
    "loop changes",
]
KINDS: tuple[Kind, ...] = (
    "lost", "cut", "unanswered", "cut after", "late", "fatal", "status", "status after",
)  # fmt: skip
# What befalls the pod, and not the request.
ENDS = ("fatal", "shut down", "loop changes")
# Seconds that a late request is on its way: longer than whoever sent it waits. No message takes longer.
LATE = 4.0
# Seconds that a reply is on its way which is held up: shorter than whoever asked waits.
HELD_UP = 0.3
SLOW = 0.05
# Seconds after which whoever waits for an answer may have given it up.
IMPATIENT = 0.2


class Fate(NamedTuple):
    """What becomes of the next request."""

    kind: Kind
    status: int = 503
    operation: str | None = None  # of which kind; None for whichever is next


class Link:
    """The way from one pod to one server.

    Args:
        world: the clock and the seed.
        loop: the pod's.
        name: of the server, for the trace.

    """

    def __init__(self, world: World, loop: Loop, name: str) -> None:
        self.world = world
        self.loop = loop
        self.name = name
        self.fates: deque[Fate] = deque()
        self.is_down = False  # connections are refused, and those that are open are cut
        self.is_silent = False  # nothing arrives, either way
        self.slowness = 1.0
        self.has_failed = False  # at any time
        self.failed_at = float("-inf")  # last
        self.hits: Counter[tuple[str, str]] = Counter()  # faults that struck: kind, operation
        self.ways: dict[Callable[[], None], None] = {}  # cut each open connection, oldest first
        self.trace: Callable[[str], None] | None = None
        self.end: Callable[[str], None] = _nothing  # does to the pod what is among `ENDS`

    def delay(self) -> float:
        """Seconds that one message takes: mostly less than a millisecond, now and then much longer."""
        draw = self.world.random.random
        seconds = 0.0001 - 0.0005 * math.log(1.0 - draw())
        if draw() < 0.02:
            seconds += SLOW * draw()
        return min(seconds * self.slowness, LATE)

    def fate(self, operation: str) -> Fate | None:
        """Take what becomes of a request."""
        if self.is_silent:
            self.note("silent", operation)
            return Fate("lost")
        for at, fate in enumerate(self.fates):
            if fate.operation is None or fate.operation == operation:
                del self.fates[at]
                self.note(fate.kind, operation)
                return fate
        return None

    def note(self, kind: str, operation: str) -> None:
        """Count a fault that struck."""
        self.hits[kind, operation] += 1
        # What befalls the pod has lost nothing on its way.
        if kind not in ENDS:
            self.fail()
        if self.trace is not None:
            self.trace(f"{self.loop.name}: {self.name}: {operation}: {kind}")

    def waited(self, seconds: float) -> None:
        """Note how long an answer took."""
        if seconds > IMPATIENT:
            self.fail()

    def swallows(self) -> bool:
        """Tell whether a reply that is sent now is lost, as nothing arrives; that is a failure."""
        if self.is_silent:
            self.fail()
        return self.is_silent

    def cut(self) -> None:
        """Cut each open connection."""
        if self.ways:
            self.fail()
        for cut in list(self.ways):
            cut()

    def fail(self) -> None:
        """Note that something went wrong now."""
        self.has_failed, self.failed_at = True, self.world.now

    def go_down(self) -> None:
        """Refuse connections, and cut those that are open."""
        self.is_down = True
        self.cut()

    def heal(self) -> None:
        """Be as at the start."""
        if self.is_down or self.is_silent or self.slowness > 1.0:
            self.fail()
        self.is_down = self.is_silent = False
        self.slowness = 1.0
        self.fates.clear()


def _nothing(_: str) -> None:
    """Stand in for what ends a pod."""
