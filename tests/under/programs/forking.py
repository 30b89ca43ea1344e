"""A program that uses its client, forks three children that use it too, and goes on."""

from __future__ import annotations

import json
import os
import sys

from tests.under.programs.common import make, work


def in_child(client) -> int:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        units = work(client)
        client.shutdown()
        os.write(writing, str(units).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        units = int(pipe.read())
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("a child failed")
    return units


if __name__ == "__main__":
    with make() as client:
        units = work(client)
        units += sum(in_child(client) for _ in range(3))
        units += work(client)
    json.dump({"units": units}, sys.stdout)
