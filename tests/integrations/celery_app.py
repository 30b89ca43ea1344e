"""An application of Celery, which runs in a separate worker."""

from __future__ import annotations

import os

from celery import Celery

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native.integrations.celery import held

URL = os.environ["SCHEMATIC_URL"]
broker = os.environ["CELERY_BROKER"]
app = Celery("example", broker=broker, backend=broker)
client = Schematic(
    os.environ["SCHEMATIC_KEY"],
    SchematicConfig(
        base_url=URL,
        event_capture_url=URL,
        # Long, so that events are delivered by the end of the process or not at all.
        event_buffer_period=3600,
        use_datastream=True,
        credit_leases=CreditLeaseConfig(mode="client"),
    ),
)


@app.task(name="summarise")
@held(client, "inference", company=lambda who, _: {"id": who}, usage=100)
def summarise(who, units, hold):
    hold.use(units)
    return hold.held


@app.task(name="fail", bind=True, max_retries=1)
@held(client, "inference", company={"id": "acme"}, usage=100)
def fail(self, hold):
    hold.use(2)
    raise self.retry(countdown=0)
