"""A default or a limit stands in one place: what README.md and docs/ say of it is compared with that place."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from schematic_native import CreditLeaseConfig, LocalSlab
from schematic_native._native import Core
from schematic_native.config import defaults
from schematic_native.config.client_config import AsyncSchematicConfig, DataStreamConfig

ROOT = Path(__file__).parent.parent.parent
LEASE_TABLE = {
    "default_lease_size": defaults.LEASE_SIZE,
    "default_lease_duration": defaults.LEASE_DURATION,
    "default_reservation_ttl": defaults.RESERVATION_TTL,
    "low_water_mark": defaults.LOW_WATER_MARK,
    "sweep_interval": defaults.SWEEP_INTERVAL,
    "prewarm_resolve_timeout": defaults.PREWARM_RESOLVE_TIMEOUT,
}
SLAB_TABLE = {"min_credits": defaults.SMALLEST_SLAB, "lifetime": defaults.SLAB_LIFETIME}
TABLES = [
    *(("README.md", name, value) for name, value in LEASE_TABLE.items()),
    *(("docs/leases.md", name, value) for name, value in LEASE_TABLE.items()),
    *(("docs/redis.md", name, value) for name, value in SLAB_TABLE.items()),
]
QUEUES = {
    parameter.name: parameter.default
    for parameter in inspect.signature(Core).parameters.values()
    if parameter.name.startswith("max_")
}
# Each text must be there, and each figure in it be the value.
SENTENCES = [
    ("README.md", r"at acquire and extend; at most (\d+)", defaults.LONGEST_LEASE),
    ("docs/leases.md", r"at acquire and extend; at most (\d+)", defaults.LONGEST_LEASE),
    ("docs/leases.md", r"releases the leases, all within (\d+) s", defaults.SHUTDOWN_BUDGET),
    ("README.md", r"releases the leases and \w+ within (\d+) s", defaults.SHUTDOWN_BUDGET),
    ("docs/operations.md", r"waits up to (\d+) s for the DataStream", defaults.INITIAL_WAIT),
    ("docs/operations.md", r"`event_buffer_period` \((\d+) s\)", defaults.EVENT_BUFFER_PERIOD),
    ("docs/operations.md", r"`max_event_requests` \((\d+)\)", defaults.MAX_EVENT_REQUESTS),
    (
        "docs/operations.md",
        r"\| companies, and as many users \| ([\d ]+) ",
        QUEUES["max_companies"],
    ),
    ("docs/operations.md", r"\| companies, and as many users \| ([\d ]+) ", QUEUES["max_users"]),
    (
        "docs/operations.md",
        r"\| queued flag_check events \| ([\d ]+) ",
        QUEUES["max_flag_check_events"],
    ),
    (
        "docs/operations.md",
        r"\| queued track and identify events \| ([\d ]+),",
        QUEUES["max_billing_events"],
    ),
]
DOCSTRINGS = {
    CreditLeaseConfig: LEASE_TABLE,
    AsyncSchematicConfig: {
        "event_buffer_period": defaults.EVENT_BUFFER_PERIOD,
        "timeout": defaults.REQUEST_TIMEOUT,
        "max_event_requests": defaults.MAX_EVENT_REQUESTS,
    },
    DataStreamConfig: {
        "max_message_size": defaults.MAX_MESSAGE_SIZE / 1024**2,
        "replicator_health_check": defaults.REPLICATOR_HEALTH_CHECK,
    },
}


def number(text: str) -> float:
    return float(text.replace(" ", ""))


@pytest.mark.parametrize(("page", "name", "value"), TABLES)
def test_the_tables_of_the_documentation_say_the_defaults(
    page: str, name: str, value: float
) -> None:
    row = re.compile(rf"^\| `{name}` \| ([\d .]*\d)(?: s)? \|", re.MULTILINE)
    assert [number(found) for found in row.findall((ROOT / page).read_text())] == [value]


@pytest.mark.parametrize(("page", "pattern", "value"), SENTENCES)
def test_the_sentences_of_the_documentation_say_the_limits(
    page: str, pattern: str, value: float
) -> None:
    found = re.findall(pattern, (ROOT / page).read_text())
    assert found
    assert {number(each) for each in found} == {value}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(kind, name, value) for kind, told in DOCSTRINGS.items() for name, value in told.items()],
)
def test_the_docstrings_of_the_configuration_say_the_defaults(
    kind: type, name: str, value: float
) -> None:
    text = re.sub(r"\s+", " ", kind.__doc__ or "")
    (said,) = re.findall(rf" {name}: [^:]*?([\d .]*\d)(?: MiB)? if None", text)
    assert number(said) == value


@pytest.mark.parametrize(
    ("kind", "told"), [(CreditLeaseConfig, LEASE_TABLE), (LocalSlab, SLAB_TABLE)]
)
def test_a_field_with_a_value_has_the_default(kind: type, told: dict[str, float]) -> None:
    for field in fields(kind):
        if field.name in told:
            assert field.default in (None, told[field.name])
