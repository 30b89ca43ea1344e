"""The plain program: one client of one thread."""

from __future__ import annotations

import json
import platform
import sys

from tests.under.programs.common import make, work

if __name__ == "__main__":
    with make() as client:
        units = work(client)
        stream = client.status().connected
    json.dump({"units": units, "python": platform.python_version(), "stream": stream}, sys.stdout)
