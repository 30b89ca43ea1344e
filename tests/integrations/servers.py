"""Real servers of applications, on threads of this process."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from werkzeug.serving import make_server

from tests.conftest import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def asgi(app: Any, lifespan: str = "auto") -> Iterator[str]:
    """Serve an ASGI application with uvicorn; gives its URL."""
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan=lifespan)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="asgi server")
    thread.start()
    eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


@contextlib.contextmanager
def wsgi(app: Any) -> Iterator[str]:
    """Serve a WSGI application with werkzeug, a thread for each request; gives its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="wsgi server")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()
