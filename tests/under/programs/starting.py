"""A program whose worker processes are started by multiprocessing, by the method that its argument names."""

from __future__ import annotations

import json
import multiprocessing
import sys

from tests.under.programs.common import make, work


def serve(_: int) -> int:
    with make() as client:
        return work(client)


if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        units = sum(pool.map(serve, range(4)))
        pool.close()
        pool.join()
    json.dump({"units": units}, sys.stdout)
