"""The emulator on a thread of this process, with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from schematic_native.emulator.errors import EmulatorError
from schematic_native.emulator.server import Server

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from schematic_native.emulator.seed import Seed

_START_TIMEOUT = 30.0  # seconds
_STOP_TIMEOUT = 10.0  # seconds


class ServerThread:
    """The emulator on a thread of this process."""

    def __init__(self, seed: Seed, host: str, port: int, journal: Path | None) -> None:
        try:
            self.server = Server(seed, host, port, journal)
        except (OSError, ValueError) as error:
            raise EmulatorError(f"the emulator did not start: {error}") from error
        self.port = self.server.port
        self.control_port = self.server.control_port
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="schematic-emulator", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT):
            raise EmulatorError("the emulator did not start in time")

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self.server.run(self._ready.set)

        asyncio.run(serve())

    def stop(self) -> None:
        """End in order."""
        if self._loop is not None and self._thread.is_alive():
            stopped: Future[None] = asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop)
            stopped.result(_STOP_TIMEOUT)
        self._thread.join(_STOP_TIMEOUT)
