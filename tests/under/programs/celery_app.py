"""An application of Celery, whose pool forks after the client was made."""

from __future__ import annotations

import os

from celery import Celery

from schematic_native.integrations.celery import held
from tests.under.programs.common import make

broker = os.environ["CELERY_BROKER"]
app = Celery("example", broker=broker, backend=broker)
client = make()


@app.task(name="summarise")
@held(client, "inference", company=lambda who, _: {"id": who}, usage=10)
def summarise(who, units, hold):
    hold.use(units)
    return units
