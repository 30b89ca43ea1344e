"""What the configuration of a proxy names: it is copied beside that file."""

from __future__ import annotations

import os

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native.integrations.litellm import HoldLogger

URL = os.environ["SCHEMATIC_URL"]
client = Schematic(
    os.environ["SCHEMATIC_KEY"],
    SchematicConfig(
        base_url=URL,
        event_capture_url=URL,
        event_buffer_period=0.05,
        use_datastream=True,
        credit_leases=CreditLeaseConfig(mode="client"),
    ),
)


def company(_key, data):
    return {"id": data.get("user") or "acme"}


seen = HoldLogger(client, "inference", company=company)
drained = HoldLogger(client, "inference", company=company, drain_for=30)
