"""fakeredis as a server, started with redis-server's options: it takes the port, and ignores the rest."""

from __future__ import annotations

import sys

from fakeredis import TcpFakeServer

if __name__ == "__main__":
    port = int(sys.argv[sys.argv.index("--port") + 1])
    TcpFakeServer(("127.0.0.1", port)).serve_forever()
