"""LiteLLM's proxy, which delivers what is left when it ends: `python -m schematic_native.integrations.litellm`.

It takes the arguments of `litellm`. Uvicorn lets SIGTERM kill the process once the last request has
ended; here it ends the interpreter instead, as Ctrl-C does, so that clients are closed first.
"""

from __future__ import annotations

import signal
import sys


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    from litellm import run_server

    signal.signal(signal.SIGTERM, _exit)
    run_server()
