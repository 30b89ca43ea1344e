"""What one flag costs behind the OpenFeature SDK, by provider: `python benches/providers.py`.

Processor time of this thread; providers take turns, so that what else the machine does falls on all of them.
flagd's provider resolves in-process from a file, and is left out where it is not installed.
"""

import importlib.util
import json
import statistics
import tempfile
import time
from pathlib import Path

from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from openfeature import api
from schematic_native import Schematic, SchematicConfig
from schematic_native.emulator import Emulator
from schematic_native.openfeature import SchematicProvider

ROUNDS, CALLS = 60, 500
ACME = EvaluationContext(attributes={"company.id": "acme"})
FLAGD = {
    "flags": {
        "inference": {
            "state": "ENABLED",
            "variants": {"on": True, "off": False},
            "defaultVariant": "off",
            "targeting": {"if": [{"==": [{"var": "company.id"}, "acme"]}, "on", "off"]},
        }
    }
}


def targeted(flag, context):
    """Answer as simple a rule as there is."""
    hit = context.attributes.get("company.id") == "acme"
    variant = "on" if hit else "off"
    return FlagResolutionDetails(
        flag.variants[variant], reason=Reason.TARGETING_MATCH, variant=variant
    )


def in_memory():
    flag = InMemoryFlag("off", {"on": True, "off": False}, context_evaluator=targeted)
    return InMemoryProvider({"inference": flag})


def flagd(folder):
    from openfeature.contrib.provider.flagd import FlagdProvider  # noqa: PLC0415
    from openfeature.contrib.provider.flagd.config import ResolverType  # noqa: PLC0415

    file = Path(folder) / "flags.json"
    # An attribute with a dot in its name cannot be told from a path there.
    text = json.dumps(FLAGD).replace("company.id", "company")
    file.write_text(text)
    return FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(file))


def asked_through(provider, name, context=ACME):
    api.set_provider_and_wait(provider, name)
    client = api.get_client(name)
    assert client.get_boolean_value("inference", False, context) is True, name
    return lambda: client.get_boolean_value("inference", False, context)


def measure(calls):
    taken = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begun = time.thread_time()
            for _ in range(CALLS):
                call()
            taken[name].append((time.thread_time() - begun) / CALLS * 1e6)
    return taken


def main():
    with Emulator() as emulator, tempfile.TemporaryDirectory() as folder:
        config = SchematicConfig(
            base_url=emulator.base_url, event_capture_url=emulator.base_url, use_datastream=True
        )
        with Schematic(emulator.api_key, config) as native:
            provider = SchematicProvider(native)
            company = {"id": "acme"}
            calls = {
                "check_flag": lambda: native.check_flag("inference", company),
                "check_flag_with_entitlement": lambda: native.check_flag_with_entitlement(
                    "inference", company
                ),
                "SchematicProvider, without the SDK": lambda: provider.resolve_boolean_details(
                    "inference", False, ACME
                ),
                "SchematicProvider": asked_through(provider, "schematic"),
                "InMemoryProvider": asked_through(in_memory(), "in memory"),
            }
            if importlib.util.find_spec("openfeature.contrib") is not None:
                context = EvaluationContext(attributes={"company": "acme"})
                calls["FlagdProvider, file"] = asked_through(flagd(folder), "flagd", context)
            for name, taken in measure(calls).items():
                low, _, high = statistics.quantiles(taken, n=4)
                middle = statistics.median(taken)
                print(f"{name:36} {middle:8.2f} us   (quartiles {low:.2f} to {high:.2f})")
            api.clear_providers()


if __name__ == "__main__":
    main()
