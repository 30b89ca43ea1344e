"""A program whose threads, sockets and locks are those of gevent; 8 greenlets share the client."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 - after the patches
import sys  # noqa: E402

import gevent  # noqa: E402

from tests.under.programs.common import make, work  # noqa: E402

if __name__ == "__main__":
    with make() as client:
        greenlets = [gevent.spawn(work, client, 10) for _ in range(8)]
        gevent.joinall(greenlets, timeout=60, raise_error=True)
        units = sum(greenlet.value for greenlet in greenlets)
    json.dump({"units": units}, sys.stdout)
