"""Small scripted servers on real loopback sockets."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import Self


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Answer:
    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    freeze: bool = False
    close: bool = False


class HttpServer:
    """Answers from a script, then with `otherwise`; keeps every request.

    `freeze` holds an answer back until the server stops; `close` cuts the connection instead of
    answering.
    """

    def __init__(self, *script: Answer, otherwise: Answer | None = None) -> None:
        self.script = deque(script)
        self.otherwise = otherwise or Answer()
        self.requests: list[Request] = []
        self._stopping = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = json.loads(raw) if raw else None
                server.requests.append(Request(self.command, self.path, headers, body))
                answer = server.script.popleft() if server.script else server.otherwise
                if answer.freeze:
                    server._stopping.wait(30)
                if answer.freeze or answer.close:
                    self.close_connection = True
                    return
                content = (
                    answer.body
                    if isinstance(answer.body, bytes)
                    else json.dumps(answer.body).encode()
                )
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the library's names

            def log_message(self, *args: Any) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def data(**fields: Any) -> dict[str, Any]:
    """Wrap an answer as the API does."""
    return {"data": fields, "params": {}}
