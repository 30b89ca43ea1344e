"""The server: one loopback port for the service and one for control, on one event loop.

The control port serves the same application. It exists because a client port that refuses
connections could not be told to stop refusing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from schematic_native.emulator.app import App
from schematic_native.emulator.clock import Clock
from schematic_native.emulator.endpoints.own_page_guard import is_loopback
from schematic_native.emulator.state.journal import Journal
from schematic_native.emulator.state.service import Service

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from schematic_native.emulator.seed import Seed

_SWEEP_INTERVAL = 1.0  # seconds between sweeps that no request asked for
_BACKLOG = 2048


def require_loopback(host: str, *, allow_remote: bool) -> None:
    """Refuse to listen where other machines can reach, unless told otherwise.

    Raises:
        ValueError: The host is not a loopback address and `allow_remote` is false.

    """
    if not allow_remote and not is_loopback(host):
        raise ValueError(
            f"host: {host!r} is not a loopback address; pass allow_remote to let other machines in"
        )


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out what uvicorn says of every handshake that is answered with an HTTP response."""
    return "without completing handshake" not in record.getMessage()


logging.getLogger("uvicorn.error").addFilter(_is_news)


class _QuietServer(uvicorn.Server):
    """Leaves signals to whoever runs it, and tells when it listens."""

    on_ready: Callable[[], None]
    stopping: asyncio.Event

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_ready()

    async def main_loop(self) -> None:
        # The base class looks ten times a second whether it should end; ours is told.
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The base class waits for clients to finish; those of an emulator are cut off before.
        for listener in self.servers:
            listener.close()
        for sock in sockets or []:
            sock.close()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Server:
    """The emulated service, listening."""

    def __init__(
        self, seed: Seed, host: str, port: int, journal_path: str | os.PathLike[str] | None = None
    ) -> None:
        """Bind the ports and rebuild the state from the journal, if there is one.

        Raises:
            OSError: The port is taken, or the journal cannot be opened.
            JournalError: The journal is of another seed.

        """
        self._journal = None if journal_path is None else Journal(journal_path, seed.digest)
        self.app = App(Service(seed, Clock(), self._journal))
        self.app.injector.cut = self._cut
        self.app.injector.listen = self._listen
        self._sockets = [_bind(host, port), _bind("127.0.0.1", 0)]
        self.host = host
        self.port: int = self._sockets[0].getsockname()[1]
        self.control_port: int = self._sockets[1].getsockname()[1]
        self.app.components.control_url = f"http://127.0.0.1:{self.control_port}"
        self._config = uvicorn.Config(
            self.app,
            ws="websockets-sansio",
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=_BACKLOG,
        )
        self._server = _QuietServer(self._config)
        self._lock: asyncio.Lock | None = None

    @property
    def base_url(self) -> str:
        """Where clients find the service."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def dashboard_url(self) -> str:
        """Where the dashboard is: on the service's port, at an address of this machine."""
        return f"{self.base_url if is_loopback(self.host) else f'http://127.0.0.1:{self.port}'}/"

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until `stop` is called."""
        self._lock = asyncio.Lock()
        self._server.stopping = asyncio.Event()
        self._server.on_ready = on_ready
        serving = asyncio.create_task(self._server.serve(sockets=self._sockets))
        try:
            while not serving.done():
                await asyncio.wait({serving}, timeout=_SWEEP_INTERVAL)
                self.app.service.sweep()
            await serving
        finally:
            for sock in self._sockets:
                sock.close()
            if self._journal is not None:
                self._journal.close()

    async def stop(self) -> None:
        """Cut what would keep clients waiting, and end `run`."""
        await self.app.injector.heal()
        for connection in list(self._server.server_state.connections):
            self._cut(getattr(connection, "client", None))
        self._server.stopping.set()

    def _cut(self, peer: Any) -> None:
        """Reset the connection of one peer address."""
        for connection in list(self._server.server_state.connections):
            if getattr(connection, "client", None) == peer:
                transport = getattr(connection, "transport", None)
                if transport is not None:
                    transport.abort()

    async def _listen(self, on: bool) -> None:
        """Close the client port, connections and all, or open it again."""
        if self._lock is None:
            return
        async with self._lock:
            listener = self._server.servers[0]
            if on and not listener.is_serving():
                self._sockets[0] = _bind(self.host, self.port)
                loop = asyncio.get_running_loop()
                self._server.servers[0] = await loop.create_server(
                    self._make_protocol, sock=self._sockets[0], backlog=_BACKLOG
                )
            elif not on and listener.is_serving():
                listener.close()
                self._sockets[0].close()
                for connection in list(self._server.server_state.connections):
                    server = getattr(connection, "server", None)
                    if server is not None and server[1] == self.port:
                        self._cut(connection.client)  # type: ignore[union-attr]

    def _make_protocol(self) -> asyncio.Protocol:
        return self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config,
            server_state=self._server.server_state,
            app_state=self._server.lifespan.state,
        )


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it on, every
    # answer on a connection that stays open waits 40 ms for an acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
