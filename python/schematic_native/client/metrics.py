"""A client's metrics, for Prometheus to scrape and for OpenTelemetry to observe.

They are computed on request from counters that the client keeps anyway; they must never make a check
slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from schematic_native._native import Core
    from schematic_native.client.runtime import Runtime
    from schematic_native.config.results import ClientStatus, SpoolStatus
    from schematic_native.redis import Store
    from schematic_native.service.timings import Timings

OTHER = "other"


class Sample(NamedTuple):
    """One value of a metric, with its labels."""

    value: float
    labels: Mapping[str, str] = {}


class Metric(NamedTuple):
    """A metric under its OpenTelemetry name; `unit` is a UCUM code."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    text: str
    samples: Sequence[Sample]


class Measured(Protocol):
    """The attributes of a client that its metrics are read from."""

    _core: Core
    _store: Store | None
    _timings: Timings

    @property
    def _runtime(self) -> Runtime | None: ...

    def status(self) -> ClientStatus:
        """Return the client's current state and counters, without I/O."""


def read(client: Measured, companies: int = 0) -> list[Metric]:
    """Read every metric of a client, without I/O.

    Args:
        client: the client.
        companies: the largest number of companies that get samples of their own in the metrics of
            credits; the others are added up as "other". With 0 there is no company label.

    """
    status = client.status()  # must come first: it resets the client after a fork
    age = status.last_message_age
    core = client._core  # noqa: SLF001 - the same package
    counts = core.counts()
    waits = client._timings.by_operation  # noqa: SLF001 - the same package
    runtime = client._runtime  # noqa: SLF001 - the same package
    refused = 0 if runtime is None else runtime.refused_events
    pending = 0 if runtime is None else runtime.pending_events
    leases, credits_ = _credits(client, companies)
    return [
        _one("checks", "counter", "{check}", "Checks that may hold credits.", counts["checks"]),
        Metric(
            "schematic.checks.denied",
            "counter",
            "{check}",
            "Those of them that were denied: by the rules, or for want of a hold.",
            [Sample(count, {"reason": why}) for why, count in sorted(core.denials().items())],
        ),
        _one(
            "settles", "counter", "{settle}", "Reservations that were settled.", counts["settles"]
        ),
        _one("holds.open", "gauge", "{hold}", "Reservations not settled yet.", status.open_holds),
        _one("holds.lapsed", "counter", "{hold}", "Reservations that expired.", counts["swept"]),
        Metric("schematic.leases", "gauge", "{lease}", "Live leases of this process.", leases),
        Metric(
            "schematic.credits",
            "gauge",
            "{credit}",
            "Credits of the live leases of this process: free, held by reservations, or settled.",
            credits_,
        ),
        Metric(
            "schematic.events.queued",
            "gauge",
            "{event}",
            "Events that wait to be sent, or for the answer to their request.",
            [
                Sample(counts["queued_billing"], {"kind": "billing"}),
                Sample(counts["queued_flag_checks"], {"kind": "flag_check"}),
                Sample(pending, {"kind": "sending"}),
            ],
        ),
        Metric(
            "schematic.events.age",
            "gauge",
            "s",
            "How long the oldest events that left the queue are on their way.",
            [Sample(status.oldest_event_age or 0.0)],
        ),
        _one("events.sent", "counter", "{event}", "Events the service took.", status.sent_events),
        Metric(
            "schematic.events.dropped",
            "counter",
            "{event}",
            "Events that are lost: to a full queue, or refused by the service.",
            [
                Sample(counts["dropped_billing"], {"kind": "billing"}),
                Sample(counts["dropped_flag_checks"], {"kind": "flag_check"}),
                Sample(refused, {"kind": "refused"}),
            ],
        ),
        *_spool(status.spool),
        _one("stream.connected", "gauge", "1", "Whether the DataStream is open.", status.connected),
        _one("stream.ready", "gauge", "1", "Whether its flags have arrived.", status.ready),
        Metric(
            "schematic.stream.message.age",
            "gauge",
            "s",
            "Time since the last message of the DataStream's connection.",
            [] if age is None else [Sample(age)],
        ),
        Metric(
            "schematic.cache.entries",
            "gauge",
            "{entry}",
            "Flags, companies and users in memory.",
            [
                Sample(status.cached_flags, {"kind": "flag"}),
                Sample(status.cached_companies, {"kind": "company"}),
                Sample(status.cached_users, {"kind": "user"}),
            ],
        ),
        _one("cache.evicted", "counter", "{entry}", "Entities that made room.", counts["evicted"]),
        Metric(
            "schematic.requests",
            "counter",
            "{request}",
            "Requests to the service, each with its retries; a refusal is a failure.",
            [
                Sample(count, {"operation": operation, "outcome": outcome})
                for operation, each in sorted(waits.items())
                for outcome, count in (("done", each.done), ("failed", each.failed))
            ],
        ),
        Metric(
            "schematic.requests.time",
            "counter",
            "s",
            "Time that requests to the service took.",
            [Sample(each.seconds, {"operation": name}) for name, each in sorted(waits.items())],
        ),
        *_redis(client._store),  # noqa: SLF001 - the same package
    ]


def _redis(store: Store | None) -> Iterable[Metric]:
    """Yield the metrics of the exchanges with Redis; they have no samples without a lease store."""
    times = None if store is None else store.times
    outcomes = {} if times is None else {"done": times.done, "failed": times.failed}
    yield Metric(
        "schematic.redis.exchanges",
        "counter",
        "{exchange}",
        "Exchanges with the Redis of leases; one without replies or with a refusal is a failure.",
        [Sample(count, {"outcome": outcome}) for outcome, count in outcomes.items()],
    )
    yield Metric(
        "schematic.redis.time",
        "counter",
        "s",
        "Time that these exchanges took.",
        [] if times is None else [Sample(times.seconds)],
    )


def _one(
    name: str, kind: Literal["counter", "gauge"], unit: str, text: str, value: float
) -> Metric:
    return Metric(f"schematic.{name}", kind, unit, text, [Sample(value)])


def _spool(spool: SpoolStatus | None) -> list[Metric]:
    """Tell what is kept on disk; nothing without a spool."""
    if spool is None:
        return []
    return [
        _one("spool.events", "gauge", "{event}", "Usage on disk, not taken yet.", spool.events),
        _one("spool.size", "gauge", "By", "What the spool takes on disk.", spool.bytes),
        Metric(
            "schematic.spool.exceptions",
            "counter",
            "{event}",
            "Events that found no room on disk, were adopted, parked as too old, or damaged.",
            [
                Sample(spool.refused, {"kind": "refused"}),
                Sample(spool.adopted, {"kind": "adopted"}),
                Sample(spool.parked, {"kind": "parked"}),
                Sample(spool.damaged, {"kind": "damaged"}),
            ],
        ),
    ]


def _credits(client: Measured, companies: int) -> tuple[list[Sample], list[Sample]]:
    """Add up the live leases by credit type, and by company for up to `companies` companies."""
    core = client._core  # noqa: SLF001 - the same package
    leases: dict[tuple[str, str | None], int] = {}
    credits_: dict[tuple[str, str | None], tuple[float, float, float]] = {}
    named: set[str] = set()
    # The companies with the most credits are named; of equals, those with the lower ids.
    for lease in sorted(core.live_leases(), key=lambda each: (-each.granted, each.company_id)):
        company = None
        if companies > 0:
            if len(named) < companies:
                named.add(lease.company_id)
            company = lease.company_id if lease.company_id in named else OTHER
        key = (lease.credit_type_id, company)
        held = core.reserved_credits(lease.company_id, lease.credit_type_id)
        settled = max(0.0, lease.granted - lease.remaining - held)
        free, holds, used = credits_.get(key, (0.0, 0.0, 0.0))
        credits_[key] = (free + lease.remaining, holds + held, used + settled)
        leases[key] = leases.get(key, 0) + 1
    return (
        [Sample(count, _labels(*key)) for key, count in leases.items()],
        [
            Sample(amount, _labels(*key) | {"state": state})
            for key, amounts in credits_.items()
            for state, amount in zip(("free", "held", "settled"), amounts, strict=True)
        ],
    )


def _labels(credit_type_id: str, company: str | None) -> dict[str, str]:
    labels = {"credit_type": credit_type_id}
    return labels if company is None else labels | {"company": company}


def write(metrics: Iterable[Metric]) -> str:
    """Write metrics in the text format of Prometheus."""
    lines = []
    for metric in metrics:
        name = metric.name.replace(".", "_")
        if metric.unit == "s":
            name += "_seconds"
        if metric.kind == "counter":
            name += "_total"
        lines += [f"# HELP {name} {metric.text}", f"# TYPE {name} {metric.kind}"]
        for sample in metric.samples:
            labels = ",".join(f'{key}="{_escape(value)}"' for key, value in sample.labels.items())
            number = repr(float(sample.value)).removesuffix(".0")
            lines.append(f"{name}{{{labels}}} {number}" if labels else f"{name} {number}")
    return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
