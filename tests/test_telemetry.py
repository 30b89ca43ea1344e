"""Metrics, spans and evaluation events, compared with the emulator's ledger."""

from __future__ import annotations

import gc
import json
import os
import random
import re
import weakref
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

pytest.importorskip("opentelemetry.sdk", reason="pip install --group test")

from openfeature.evaluation_context import EvaluationContext
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.client.metrics import Metric, Sample, write
from schematic_native.openfeature import SchematicProvider
from schematic_native.telemetry import instrument
from tests.conftest import ACME, API_KEY, eventually, plain, streaming
from tests.forks import in_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schematic_native.emulator import Emulator

LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"')

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Schematic]:
    config = SchematicConfig(**streaming(emulator, event_buffer_period=0.05))
    with Schematic(API_KEY, config) as client:
        yield client


def scraped(client: Schematic, companies: int = 0) -> Numbers:
    """Read the page as Prometheus does, under OpenTelemetry's names."""
    numbers: Numbers = {}
    for line in client.metrics_text(companies).splitlines():
        if line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        assert found, line
        name = found[1].removesuffix("_total").removesuffix("_seconds").replace("_", ".")
        numbers[name, frozenset(LABEL.findall(found[2] or ""))] = float(found[3])
    return numbers


class Observed:
    """The metrics of a client as an OpenTelemetry SDK collects them."""

    def __init__(self, client: Schematic) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        self.instrumentation = instrument(client, self.provider)

    def __call__(self, *_: object) -> Numbers:
        data = self.reader.get_metrics_data()
        return {
            (metric.name, frozenset(point.attributes.items())): point.value
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }


@pytest.fixture(params=["scraped", "observed"])
def numbers(request: pytest.FixtureRequest, client: Schematic) -> Iterator[Callable[[], Any]]:
    if request.param == "scraped":
        yield lambda: Reading(scraped(client))
        return
    observed = Observed(client)
    yield lambda: Reading(observed())
    observed.provider.shutdown()


class Reading:
    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers

    def __call__(self, name: str, **labels: str) -> float:
        return self.numbers[f"schematic.{name}", frozenset(labels.items())]


def test_every_number_agrees_with_the_emulators_ledger(client, emulator: Emulator, numbers) -> None:
    held = [client.check("inference", ACME, usage=usage).reservation for usage in (10, 20, 30)]
    assert not client.check("exports", ACME, usage=100).allowed
    assert not client.check("inference", ACME, usage=-1).allowed
    client.track_with_reservation(held[0], 7)
    client.track_with_reservation(held[1], 15.5)
    eventually(lambda: client.status().queued_events == 0)
    told, state = numbers(), emulator.state()
    assert told("checks") == 5
    assert told("checks.denied", reason="rules") == 1
    assert told("checks.denied", reason="invalid_usage") == 1
    assert told("checks.denied", reason="lease_acquire_failed") == 0
    assert told("settles") == 2
    assert told("holds.open") == 1
    [lease] = state["leases"].values()
    of_credit = {"credit_type": lease["credit_type_id"]}
    assert told("leases", **of_credit) == 1
    credits_ = {
        kind: told("credits", state=kind, **of_credit) for kind in ("free", "held", "settled")
    }
    assert sum(credits_.values()) == lease["granted"]
    assert credits_["held"] == 30 * 2
    assert credits_["settled"] == lease["tracked"] == (7 + 16) * 2
    assert told("events.sent") == len(emulator.events())
    assert told("events.queued", kind="billing") == told("events.queued", kind="sending") == 0
    assert told("events.dropped", kind="billing") == 0
    status = client.status()
    assert (status.checks, status.denied_checks, status.settles) == (5, 2, 2)
    assert (told("stream.connected"), told("stream.ready")) == (1, 1)
    assert told("stream.message.age") >= 0
    assert told("cache.entries", kind="flag") == 3
    assert told("cache.entries", kind="company") == 1
    assert told("requests", operation="acquire", outcome="done") == len(state["leases"])
    assert told("requests", operation="acquire", outcome="failed") == 0
    assert told("requests.time", operation="acquire") > 0
    assert told("requests", operation="events", outcome="done") > 0
    assert told("events.age") == 0
    client.track_with_reservation(held[2], 0)


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
@pytest.mark.parametrize("read", ["scraped", "observed"])
def test_exchanges_with_redis_are_those_that_the_server_has_counted(
    emulator: Emulator, redis_server, kind, read
) -> None:
    leases = CreditLeaseConfig(mode="client", redis_client=kind.from_url(redis_server.url))
    config = SchematicConfig(**streaming(emulator, credit_leases=leases))
    with Schematic(API_KEY, config) as client:
        observed = Observed(client)
        numbers = Reading(scraped(client) if read == "scraped" else observed())
        assert numbers("redis.exchanges", outcome="done") == 0
        for usage in random.Random(3).choices(range(1, 9), k=30):
            result = client.check("inference", ACME, usage=usage)
            client.track_with_reservation(result.reservation, usage)
        eventually(lambda: not client.status().open_holds)
        numbers = Reading(scraped(client) if read == "scraped" else observed())
        scripts = int(redis_server.command("INFO", "commandstats")["cmdstat_evalsha"]["calls"])
        done = numbers("redis.exchanges", outcome="done")
        # Each hold and each settle is one; the sweep sends others.
        assert 60 <= scripts - 5 <= done
        assert numbers("redis.exchanges", outcome="failed") == 0
        assert 0 < numbers("redis.time") < 60
        redis_server.stop()
        assert client.check("inference", ACME, usage=1).error == "lease_store_error"
        failed = Reading(scraped(client))("redis.exchanges", outcome="failed")
        assert 1 <= failed <= client.status().redis_failures
        observed.provider.shutdown()


def test_the_age_of_events_grows_until_they_are_delivered(client, emulator: Emulator) -> None:
    assert Reading(scraped(client))("events.age") == 0
    with emulator.fail("status", on="capture", status=503):
        client.track("seen", ACME)
        eventually(lambda: client.status().oldest_event_age)
        first = client.status().oldest_event_age
        eventually(lambda: Reading(scraped(client))("events.age") > first)
    eventually(lambda: client.status().queued_events == 0)
    assert client.status().oldest_event_age is None
    assert Reading(scraped(client))("events.age") == 0
    assert "seen" in [event["body"].get("event") for event in emulator.events()]


def test_failures_and_lapsed_holds_are_counted(client, emulator: Emulator, numbers) -> None:
    assert numbers().numbers.get(("schematic.requests", frozenset())) is None
    with emulator.fail("status", on="acquire", status=402):
        result = client.check("inference", ACME, usage=5)
    assert result.error == "lease_acquire_failed"
    told = numbers()
    assert told("checks.denied", reason="lease_acquire_failed") == 1
    assert told("requests", operation="acquire", outcome="failed") == 1
    with emulator.fail("status", on="capture", status=503):
        client.track("seen", ACME)
        eventually(lambda: has_failed_events(numbers()))


def has_failed_events(told: Reading) -> bool:
    labels = frozenset({("operation", "events"), ("outcome", "failed")})
    return told.numbers.get(("schematic.requests", labels), 0) > 0


def test_a_client_that_has_not_started_has_numbers_too() -> None:
    client = Schematic(API_KEY, SchematicConfig(offline=True))
    told = Reading(scraped(client))
    assert (told("checks"), told("stream.connected"), told("events.sent")) == (0, 0, 0)
    assert not [name for name, _ in told.numbers if name == "schematic.stream.message.age"]


def test_companies_are_labels_only_up_to_the_number_asked_for(client, emulator: Emulator) -> None:
    text = files("schematic_native.emulator").joinpath("inference.json").read_text()
    company = json.loads(text)["companies"][0]
    for number in range(3):
        emulator.set_company(company | {"id": f"comp_{number}", "keys": {"id": f"c{number}"}})
        client.prewarm({"id": f"c{number}"}, ["credit_inference"])
    assert not [labels for _, labels in scraped(client) if "company" in dict(labels)]
    leases = {
        dict(labels)["company"]: value
        for (name, labels), value in scraped(client, companies=2).items()
        if name == "schematic.leases"
    }
    assert leases == {"comp_0": 1, "comp_1": 1, "other": 1}


def test_the_dashboard_asks_for_metrics_that_there_are(client) -> None:
    dashboard = (Path(__file__).parent.parent / "docs" / "grafana.json").read_text()
    there = set(re.findall(r"^# TYPE (\w+)", client.metrics_text(), re.MULTILINE))
    expressions = [
        target["expr"] for panel in json.loads(dashboard)["panels"] for target in panel["targets"]
    ]
    asked = {name for each in expressions for name in re.findall(r"schematic_\w+", each)}
    assert asked == there


def test_labels_are_escaped() -> None:
    odd = Metric("a.b", "counter", "s", "Text.", [Sample(1.5, {"k": 'x"\\\ny'})])
    assert write([odd]).splitlines()[2] == 'a_b_seconds_total{k="x\\"\\\\\\ny"} 1.5'


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_counts_from_nothing(client) -> None:
    hold = client.check("inference", ACME, usage=10).reservation
    client.track_with_reservation(hold, 1)

    def child() -> list[float]:
        before = Reading(scraped(client))("checks"), len(client._timings.by_operation)
        hold = client.check("inference", ACME, usage=10).reservation
        client.track_with_reservation(hold, 1)
        after = Reading(scraped(client))("checks")
        client.shutdown()
        return [*before, after]

    assert in_fork(child) == [0, 0, 1]


# What instrument() changes on a client


def test_without_evaluations_a_check_is_the_method_that_it_was(client) -> None:
    before = client.check_flag
    observed = Observed(client)
    assert client.check_flag == before
    assert "check_flag" not in vars(client)
    assert "check" not in vars(client)
    observed.provider.shutdown()


def test_an_instrumented_client_is_not_held(emulator: Emulator) -> None:
    client = Schematic(API_KEY, SchematicConfig(**plain(emulator)))
    observed = Observed(client)
    instrument(client, MeterProvider(), LoggerProvider(), evaluations=1.0)
    client.check_flag("inference", ACME)
    client.shutdown()
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    assert observed() == {}
    observed.provider.shutdown()


def test_a_stopped_instrumentation_reports_nothing(client) -> None:
    observed = Observed(client)
    assert observed()
    observed.instrumentation.stop()
    assert observed() == {}
    assert client._timings.trace is None
    observed.provider.shutdown()


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"client": object()}, TypeError),
        ({"companies": -1}, ValueError),
        ({"companies": True}, ValueError),
        ({"evaluations": 1.5}, ValueError),
        ({"evaluations": "all"}, ValueError),
    ],
)
def test_wrong_arguments_are_refused(keywords, error) -> None:
    given = {"client": Schematic(API_KEY, SchematicConfig(offline=True)), **keywords}
    with pytest.raises(error):
        instrument(**given)


# Spans


class Spans:
    def __init__(self, client: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        instrument(client, MeterProvider(), tracer_provider=self.provider)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


def test_a_request_that_a_caller_waits_for_is_in_its_trace(client) -> None:
    spans = Spans(client)
    tracer = spans.provider.get_tracer("test")
    with tracer.start_as_current_span("the caller") as caller:
        hold = client.check("inference", ACME, usage=10).reservation
    [acquire] = spans.named("schematic acquire")
    assert acquire.parent.span_id == caller.get_span_context().span_id
    assert acquire.attributes["schematic.operation"] == "acquire"
    client.track_with_reservation(hold, 3)
    client.shutdown()
    # A batch has events of many callers.
    assert spans.named("schematic events")
    assert all(span.parent is None for span in spans.named("schematic events"))


async def test_the_same_for_an_asyncio_client(emulator: Emulator) -> None:
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**plain(emulator))) as client:
        spans = Spans(client)
        with spans.provider.get_tracer("test").start_as_current_span("the caller") as caller:
            await client.check_flag("inference", ACME)
        [check] = spans.named("schematic check")
        assert check.parent.span_id == caller.get_span_context().span_id


def test_a_failure_is_recorded_in_its_span(client, emulator: Emulator) -> None:
    spans = Spans(client)
    with emulator.fail("status", on="acquire", status=402):
        client.check("inference", ACME, usage=10)
    [acquire] = spans.named("schematic acquire")
    assert not acquire.status.is_ok


# Evaluation events


class Logs:
    def __init__(self, client: Any, share: float = 1.0) -> None:
        self.exporter = InMemoryLogRecordExporter()
        provider = LoggerProvider()
        provider.add_log_record_processor(SimpleLogRecordProcessor(self.exporter))
        instrument(client, MeterProvider(), provider, evaluations=share)

    def taken(self) -> list[dict[str, Any]]:
        records = [each.log_record for each in self.exporter.get_finished_logs()]
        assert {record.event_name for record in records} <= {"feature_flag.evaluation"}
        self.exporter.clear()
        return [dict(record.attributes) for record in records]


def test_each_check_emits_one_event(client) -> None:
    logs = Logs(client)
    expected = {
        "feature_flag.key": "inference",
        "feature_flag.provider.name": "schematic",
        "feature_flag.result.value": True,
        "feature_flag.result.variant": "on",
        "feature_flag.result.reason": "targeting_match",
        "feature_flag.context.id": "comp_acme",
    }
    assert client.check_flag("inference", ACME) is True  # waits for the company
    assert client.check_flag("inference", company=ACME) is True  # from memory
    assert client.check_flag_with_entitlement("inference", ACME).value
    hold = client.check("inference", ACME, usage=5)
    assert logs.taken() == [expected] * 4
    client.track_with_reservation(hold.reservation, 0)
    assert client.check_flag("inference") is False
    [nobody] = logs.taken()
    assert nobody["feature_flag.result.reason"] == "default"
    assert "feature_flag.context.id" not in nobody
    assert client.check_flag("missing") is False
    [missing] = logs.taken()
    assert missing["error.type"] == "flag_not_found"
    assert missing["feature_flag.result.reason"] == "error"
    client.check("inference", ACME, usage=-1)
    [wrong] = logs.taken()
    assert wrong["error.type"] == "invalid_usage"


def test_checks_of_several_flags_emit_an_event_for_each(client) -> None:
    logs = Logs(client)
    answers = client.check_flags(["inference", "exports"], ACME)
    assert {
        each["feature_flag.key"]: each["feature_flag.result.value"] for each in logs.taken()
    } == {answer.flag: answer.value for answer in answers}
    assert len(client.check_flags(None, ACME)) == len(logs.taken()) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_each_resolution_with_openfeature_emits_one_event(client) -> None:
    logs = Logs(client)
    provider = SchematicProvider(client)
    context = EvaluationContext(attributes={"company.id": "acme"})
    for _ in range(2):  # waits for the company, then in memory
        assert provider.resolve_boolean_details("inference", False, context).value is True
        [event] = logs.taken()
        assert event["feature_flag.key"] == "inference"
        assert event["feature_flag.context.id"] == "comp_acme"
    instrument(client, MeterProvider()).stop()
    assert provider.resolve_boolean_details("inference", False, context).value is True
    assert logs.taken() == []


async def test_events_of_an_asyncio_client(emulator: Emulator) -> None:
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**streaming(emulator))) as client:
        logs = Logs(client)
        assert await client.check_flag("inference", ACME) is True
        assert await client.check_flag("inference", ACME) is True
        hold = await client.check("inference", ACME, usage=5)
        assert len(logs.taken()) == 3
        assert len(await client.check_flags(["inference"], ACME)) == len(logs.taken()) == 1
        await client.track_with_reservation(hold.reservation, 0)


def test_a_share_of_the_checks_emits_events(client) -> None:
    logs = Logs(client, share=0.25)
    assert all(client.check_flag("inference", ACME) for _ in range(400))
    # 400 checks at a quarter: a run in billions is further off.
    assert 40 < len(logs.taken()) < 180
