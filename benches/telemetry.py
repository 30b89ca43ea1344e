"""What metrics add to a check and its settle, in instructions: `python benches/telemetry.py`.

The client has its lease in memory and a tracer and a meter of OpenTelemetry's SDK, which collects once before the
checks; "off" is the same client without them. Needs valgrind, which `make instructions` installs.
"""

import gc
import sys

from instructions import of_one
from loop import WARM_UP

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native.tools.bench.scenarios import stocked
from schematic_native.tools.bench.worlds import API_KEY, COMPANY, FLAG


def warm_client():
    client = Schematic(
        API_KEY, SchematicConfig(use_datastream=True, credit_leases=CreditLeaseConfig())
    )
    core = stocked("small", seed=7)
    client._core = core  # noqa: SLF001 - no service has filled it
    client._take_core(core)  # noqa: SLF001
    client._open(checking=True, leasing=True, settling=True)  # noqa: SLF001
    return client


def instrumented(client):
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    from schematic_native.telemetry import instrument  # noqa: PLC0415

    reader = InMemoryMetricReader()
    instrument(client, MeterProvider([reader]), tracer_provider=TracerProvider())
    assert reader.get_metrics_data() is not None
    client.metrics_text()


def run(state, count):
    client = warm_client()
    if state == "on":
        instrumented(client)
    gc.collect()
    gc.disable()
    for _ in range(WARM_UP + count):
        result = client.check(FLAG, COMPANY, usage=10)
        client.track_with_reservation(result.reservation, 7)


def main():
    for argument in sys.argv[1:]:
        state, _, count = argument.partition("=")
        run(state, int(count))
    if not sys.argv[1:]:
        for state in ("off", "on"):
            print(
                f"telemetry {state:3} {of_one('telemetry.py', state):>7} instructions a check with its settle"
            )


if __name__ == "__main__":
    main()
