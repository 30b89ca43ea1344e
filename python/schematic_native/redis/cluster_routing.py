"""Routing a batch to the servers of a cluster, free of I/O.

A batch goes to all servers that have a part of it at once. If one of them fails, only the replies of its
own commands are failures, for the others have carried out theirs. A command is sent again only if the
server has said that it did not carry it out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from redis.exceptions import AskError, MovedError

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.commands import Batch, Command, Replies
from schematic_native.redis.connections import CONNECT_TIMEOUT

if TYPE_CHECKING:
    from schematic_native.redis.cluster_map import ClusterMap

# How often a command is sent, each time to the server that the cluster names.
MOST_REDIRECTIONS = 3
# Seconds that one server is given to return the map: while an older one serves, and while there is none, as a
# new connection may take several round trips for TLS and the login.
MAP_TIMEOUT = 0.25
FIRST_MAP_TIMEOUT = CONNECT_TIMEOUT
GET_MAP = [Command("", ("CLUSTER", "SLOTS"))]


class ServerRequest(NamedTuple):
    """A part of a batch that goes to one server."""

    server: str
    batch: Batch
    deadline: float | None
    in_full: bool
    asking: bool = False  # whether the key is still on its way to that server


Outcome: TypeAlias = "Replies | StoreError"
# Yields requests that are sent at once, is sent their outcomes in the same order.
Routing: TypeAlias = Generator[Sequence[ServerRequest], Sequence[Outcome], Replies]


class SpreadBatch:
    """A batch that is spread over the servers of a cluster: which commands go where."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.replies: list[object] = [None] * len(batch)
        # What is still to be sent, and to which server, if one was redirected to.
        self._left: dict[int, str | None] = dict.fromkeys(range(len(batch)))

    def by_server(self, server_of: Callable[[str], str]) -> dict[str, list[int]]:
        """Group by server what is still to be sent."""
        groups: dict[str, list[int]] = {}
        for at, server in self._left.items():
            try:
                groups.setdefault(server or server_of(self.batch[at].key), []).append(at)
            except StoreError as error:
                self.replies[at] = error
        self._left = {}
        return groups

    def commands(self, places: Iterable[int]) -> list[Command]:
        """Return the commands of some places."""
        return [self.batch[at] for at in places]

    def fill(self, places: Iterable[int], replies: Replies) -> None:
        """Keep the replies of some commands."""
        for at, reply in zip(places, replies, strict=True):
            self.replies[at] = reply

    def fail(self, places: Iterable[int], error: StoreError) -> None:
        """Keep a failure as the reply of some commands."""
        for at in places:
            self.replies[at] = error

    def redirected(self, groups: dict[str, list[int]]) -> list[tuple[str, int, AskError]]:
        """Return what was not carried out because its key is elsewhere, and which server said so."""
        return [
            (server, at, reply)
            for server, places in groups.items()
            for at in places
            if isinstance(reply := self.replies[at], AskError)
        ]

    def send_again(self, at: int, server: str) -> None:
        """Note that a command must be sent to this server, whatever a map says that is read now."""
        self._left[at] = server

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be sent."""
        return not self._left


class Router:
    """Routes batches by a map, which it keeps up to date.

    Args:
        cluster_map: which server has which keys.

    """

    def __init__(self, cluster_map: ClusterMap) -> None:
        self._map = cluster_map

    def route(
        self, batch: Batch, deadline: float | None, clock: Callable[[], float], *, in_full: bool
    ) -> Routing:
        """Send a batch to where its keys are, and follow the keys that have moved."""
        spread = SpreadBatch(batch)
        for _ in range(MOST_REDIRECTIONS):
            yield from self._refresh(deadline, clock)
            groups = spread.by_server(self._map.server_of)
            outcomes = yield [
                ServerRequest(server, spread.commands(places), deadline, in_full)
                for server, places in groups.items()
            ]
            for places, outcome in zip(groups.values(), outcomes, strict=True):
                self._take(spread, places, outcome)
            for source, at, error in spread.redirected(groups):
                server = self._map.move(error, source)
                if isinstance(error, MovedError):
                    spread.send_again(at, server)
                    continue
                command = spread.commands([at])
                [outcome] = yield [ServerRequest(server, command, deadline, in_full, asking=True)]
                # The first reply is that to ASKING.
                self._take(
                    spread, [at], outcome if isinstance(outcome, StoreError) else outcome[1:]
                )
            if spread.is_done:
                break
        return spread.replies

    def _take(self, spread: SpreadBatch, places: Sequence[int], outcome: Outcome) -> None:
        if isinstance(outcome, StoreError):
            # A server that does not answer may have been replaced by another.
            self._map.is_stale = True
            spread.fail(places, outcome)
        else:
            spread.fill(places, outcome)

    def _refresh(
        self, deadline: float | None, clock: Callable[[], float]
    ) -> Generator[Sequence[ServerRequest], Sequence[Outcome], None]:
        """Read the map from one server after another, if it is time for that."""
        limit = MAP_TIMEOUT if self._map.is_known else FIRST_MAP_TIMEOUT
        for server in self._map.sources():
            now = clock()
            left = CONNECT_TIMEOUT if deadline is None else deadline - now
            # So that time is left for the next server, and for the batch itself.
            soon = now + min(limit, left / 2)
            [outcome] = yield [ServerRequest(server, GET_MAP, soon, in_full=False)]
            if not isinstance(outcome, StoreError) and self._map.read(outcome[0], server):
                return
