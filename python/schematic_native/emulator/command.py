"""`schematic-native emulator`: the emulated service in the foreground, until it is told to end.

It says where the service and its dashboard are, and opens the dashboard on request.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING

from schematic_native.emulator.seed import load_seed
from schematic_native.emulator.server import Server, require_loopback

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--port", type=int, default=0, help="where to listen; 0, the default, takes a free port"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="a loopback address (default: %(default)s)"
    )
    parser.add_argument(
        "--allow-remote", action="store_true", help="allow a host that is no loopback address"
    )
    parser.add_argument(
        "--seed", metavar="FILE", help="wire JSON to start from (default: the one that ships)"
    )
    parser.add_argument(
        "--journal", metavar="FILE", help="go on from this file and keep it up to date"
    )
    parser.add_argument("--open", action="store_true", help="open the dashboard in a browser")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; return 0 then, and 1 if it could not start."""
    try:
        require_loopback(arguments.host, allow_remote=arguments.allow_remote)
        seed = load_seed(arguments.seed)
        server = Server(seed, arguments.host, arguments.port, arguments.journal)
    except (OSError, OverflowError, ValueError) as error:
        sys.stderr.write(f"schematic-native emulator: {error}\n")
        return 1
    gc.freeze()  # What exists now stays; no collection need visit it again.
    asyncio.run(_serve(server, seed.api_key, open_page=arguments.open))
    return 0


async def _serve(server: Server, api_key: str, *, open_page: bool) -> None:
    loop = asyncio.get_running_loop()
    stopping: set[asyncio.Task[None]] = set()

    def stop() -> None:
        stopping.add(loop.create_task(server.stop()))

    for number in (signal.SIGINT, signal.SIGTERM):
        # Not the loop's own handlers, which Windows does not have. A signal that does not interrupt the
        # wait of the loop is handled at the server's next sweep.
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))

    def ready() -> None:
        sys.stdout.write(f"Schematic emulator: url {server.base_url}  api key {api_key}\n")
        sys.stdout.write(f"Dashboard: {server.dashboard_url}\n")
        sys.stdout.flush()
        if open_page:
            # Some browsers are opened only when they have ended.
            threading.Thread(target=_open, args=(server.dashboard_url,), daemon=True).start()

    await server.run(ready)
    await asyncio.gather(*stopping)


def _open(url: str) -> None:
    if not webbrowser.open(url):
        sys.stderr.write(f"schematic-native emulator: no browser was found; open {url}\n")
