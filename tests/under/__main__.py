"""Runs the probes, or those whose name contains an argument, and writes their rows into docs/works_under.md."""

from __future__ import annotations

import sys

from tests.under import interpreters, networks, page, processes, servers, stores
from tests.under.probe import examine

PROBES = [
    *processes.PROBES,
    *servers.PROBES,
    *interpreters.PROBES,
    *stores.PROBES,
    *networks.PROBES,
]


def main(words: list[str]) -> int:
    """Run; 1 if a probe failed."""
    rows = []
    for probe in PROBES:
        if words and not any(word.lower() in probe.name.lower() for word in words):
            continue
        row = examine(probe)
        sys.stdout.write(f"{row.result:10} {row.name}  {row.versions}  {row.note}\n")
        sys.stdout.flush()
        rows.append(row)
        page.write([row], [each.name for each in PROBES])
    return 1 if any(row.result == "FAILED" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
