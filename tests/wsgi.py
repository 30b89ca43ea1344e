"""A tiny WSGI application whose client is made, and used, before the server forks its workers."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

URL = os.environ["SCHEMATIC_URL"]
COMPANY = {"id": "acme"}

client = Schematic(
    "sch_dev_emulator",
    SchematicConfig(
        base_url=URL,
        event_capture_url=URL,
        use_datastream=True,
        credit_leases=CreditLeaseConfig(mode="client", default_lease_size=200),
    ),
)
# The parent holds a lease of its own when it forks.
client.prewarm(COMPANY, ["credit_inference"])


def application(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Hold credits, work, settle, and tell which process did."""
    result = client.check("inference", COMPANY, usage=10)
    used = 7 if result.allowed else 0
    client.track_with_reservation(result.reservation, used)
    start_response("200 OK", [("Content-Type", "application/json")])
    answer = {"process": os.getpid(), "allowed": result.allowed, "used": used}
    return [json.dumps(answer).encode()]
