"""The replicator: a program that copies what the service has into Redis, for pods that have no DataStream.

It writes one key at a time, with pauses, so a pod may read some of it before a change and some after. It is no code
of the package.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from schematic_native.ground import json_text
from tests.simulation.freshness import PREFIX
from tests.simulation.redis_model import ReplyError
from tests.simulation.worlds import GATE

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from typing_extensions import Self

    from tests.simulation.network import Link
    from tests.simulation.redis_model import RedisModel
    from tests.simulation.service_server import ServiceServer
    from tests.simulation.world import World

URL = "http://replicator.invalid/ready"
# Seconds between two writes, and between two looks at the service, at most.
WRITE, LOOK = 0.004, 0.1


class Replicator:
    """One program, which all pods ask for its health.

    Args:
        world: its clock.
        draw: decides its pauses.
        service: what it copies.
        model: where it writes.

    """

    def __init__(
        self, world: World, draw: random.Random, service: ServiceServer, model: RedisModel
    ) -> None:
        self._world = world
        self._draw = draw
        self._server = service
        self._service = service.service
        self._model = model
        # By key: what is to be there, and what was written.
        self._wanted: dict[str, str] = {}
        self._written: dict[str, str] = {}
        self._looked = (
            -1,
            0,
        )  # how much had been done to the service, and the version, at the last look
        self._due: deque[str] = deque()
        self.version = 1
        self.is_up = True
        self.is_ready = True  # as far as it is not writing all anew
        self._is_filled = False
        # The flag that is large, and its text.
        self._flag: tuple[dict[str, Any], str] = ({}, "")
        self._later(0.0)

    @property
    def health(self) -> Mapping[str, Any]:
        """What it answers."""
        return {"ready": self.is_ready and self._is_filled, "cache_version": f"{self.version}"}

    def restart(self, *, is_newer: bool) -> None:
        """Write all anew, and tell that it is not ready until it has; maybe in the form of a newer version."""
        self._written, self._is_filled = {}, False
        self._due.clear()
        self.is_up = True
        if is_newer:
            self.version += 1
            self._later(0.0)

    def look_again(self) -> None:
        """Look what Redis has in truth, where it has lost or been given something."""
        self._looked = (-1, 0)
        start = len(PREFIX) + 1
        rows = self._model.rows(f"{PREFIX}:".encode())
        texts = {
            key.decode()[start:]: each.decode()
            for key, each in rows.items()
            if isinstance(each, bytes)
        }
        self._written = {name: text for name, text in texts.items() if f":{self.version}:" in name}

    def _look(self) -> None:
        """Look what differs, if something was done to the service or to Redis."""
        if self._is_idle():
            self._is_filled = True
            return
        self._looked = self._service.obeyed, self.version
        self._wanted = {name: self._text_of(each) for name, each in self._entities().items()}
        self._due.extend(
            name for name, text in self._wanted.items() if self._written.get(name) != text
        )
        self._due.extend(name for name in self._written if name not in self._wanted)
        self._is_filled |= not self._due

    def _is_idle(self) -> bool:
        """Tell whether nothing was done to the service or to Redis since the last look."""
        is_looked_at = self._looked == (self._service.obeyed, self.version)
        return is_looked_at and self._wanted.keys() == self._written.keys()

    def _text_of(self, entity: Any) -> str:
        """Write an entity; the same flag is the same text, for it is replaced when it changes."""
        flag, text = self._flag
        if flag is entity:
            return text
        text = json_text.write(entity).decode()
        if type(entity) is dict and entity.get("key") == GATE:
            self._flag = entity, text
        return text

    def _entities(self) -> dict[str, Any]:
        """Return what is to be in Redis, in the order in which it is written."""
        directory, version = self._service.directory, self.version
        entities: dict[str, Any] = {
            f"company:{version}:{name}": self._service.company_wire(name)
            for name in directory.companies
        }
        entities |= {f"company:{version}:id:{name}": name for name in directory.companies}
        return entities | {
            f"flags:{version}:{each['key']}": each for each in directory.flags.values()
        }

    def _work(self, version: int) -> None:
        """Write one key that differs, or look for such."""
        if version != self.version:
            return
        if self.is_up and not self._due:
            self._look()
        if self.is_up and self._due:
            name = self._due.popleft()
            self._write(name, self._wanted.get(name))
            self._later(self._draw.uniform(0.0, WRITE))
        else:
            self._later(self._draw.uniform(0.0, LOOK))

    def _later(self, pause: float) -> None:
        """Go on, on the loop of the service."""
        self._world.later(pause, self._begin, self.version)

    def _begin(self, version: int) -> None:
        """Go on; where there is nothing to do, the loop of the service need not be asked for that."""
        if version == self.version and self.is_up and not self._due and self._is_idle():
            self._is_filled = True
            self._later(self._draw.uniform(0.0, LOOK))
        else:
            self._server.push(partial(self._work, version))

    def _write(self, name: str, text: str | None) -> None:
        key = f"{PREFIX}:{name}".encode()
        reply = self._model.execute([b"DEL", key] if text is None else [b"SET", key, text.encode()])
        if isinstance(reply, ReplyError):
            return
        if text is None:
            self._written.pop(name, None)
        else:
            self._written[name] = text


class HealthClient:
    """What a pod asks the replicator with, as with a client of httpx."""

    def __init__(self, replicator: Replicator, link: Link) -> None:
        self._replicator = replicator
        self._link = link

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def get(self, _url: str) -> HealthClient:
        """Ask for its health."""
        link = self._link
        fate = link.fate("health")
        if fate is not None and fate.kind in {"lost", "unanswered", "late"}:
            await link.loop.create_future()
        await asyncio.sleep(2 * link.delay())
        if fate is not None or link.is_down or not self._replicator.is_up:
            raise ConnectionRefusedError("connection refused")
        self.content = json_text.write(self._replicator.health)
        return self

    def raise_for_status(self) -> None:
        """It is a success."""
