"""The emulator in a process of its own, for `Emulator`: seed in by stdin, ports out by stdout.

The first line of stdin is the job as JSON. The pipe then stays open; its end means that the parent
is gone, and so does this process.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from typing import Any

from schematic_native.emulator.seed import load_seed
from schematic_native.emulator.seed_schema import SeedError
from schematic_native.emulator.server import Server
from schematic_native.ground import json_text


def main() -> int:
    """Serve until the parent closes the pipe or the process is told to end."""
    # Ctrl-C is the parent's to decide about: it closes the pipe when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = json_text.read(sys.stdin.buffer.readline())
    try:
        server = Server(load_seed(job["seed"]), job["host"], job["port"], job["journal"])
    except (OSError, SeedError, ValueError) as error:
        _report({"error": str(error)})
        return 1
    gc.freeze()  # What exists now stays; no collection need visit it again.
    asyncio.run(_serve(server))
    return 0


async def _serve(server: Server) -> None:
    loop = asyncio.get_running_loop()

    def wait_for_parent() -> None:
        sys.stdin.buffer.read()
        asyncio.run_coroutine_threadsafe(server.stop(), loop)

    def ready() -> None:
        threading.Thread(target=wait_for_parent, daemon=True).start()
        _report({"port": server.port, "control_port": server.control_port})

    await server.run(ready)


def _report(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json_text.write(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
