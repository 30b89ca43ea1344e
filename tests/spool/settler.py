"""A process that settles until it is killed: `python -m tests.spool.settler '<job as JSON>'`.

It says on its standard output which reservation it is about to settle and which it has settled, each with one system
call, so that what was said is known even if it is killed in the next instruction.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig, SpoolConfig

FLAG, COMPANY = "inference", {"id": "acme"}
LEASE_SIZE = 2000.0


def make(job: dict[str, Any]) -> Schematic:
    return Schematic(
        job["api_key"],
        SchematicConfig(
            base_url=job["url"],
            event_capture_url=job["url"],
            event_buffer_period=job["period"],
            use_datastream=True,
            credit_leases=CreditLeaseConfig(mode="client", default_lease_size=LEASE_SIZE),
            spool=SpoolConfig(job["directory"], fsync=job["fsync"]),
        ),
    )


def say(word: str, reservation_id: str) -> None:
    os.write(1, f"{word} {reservation_id}\n".encode())


def main() -> None:
    client = make(json.loads(sys.argv[1]))
    while True:
        reservation = client.check(FLAG, COMPANY, usage=1).reservation
        if reservation is None:
            continue
        say("begun", reservation.id)
        client.track_with_reservation(reservation, 1)
        say("done", reservation.id)


if __name__ == "__main__":
    main()
