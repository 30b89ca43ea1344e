"""The configuration: defaults, refused values and notices."""

from __future__ import annotations

import logging

import pytest
import redis

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckFlagOptions,
    CreditLeaseConfig,
    DataStreamConfig,
    LeaseConfigOverride,
    LocalSlab,
    Schematic,
    SchematicConfig,
)
from schematic_native.config.defaults import BASE_URL, EVENT_CAPTURE_URL
from schematic_native.config.settings import read_config
from schematic_native.ground.urls import is_loopback
from tests.callers import Caller, both_clients
from tests.conftest import ACME, API_KEY, plain, streaming

# It does not connect: a client connects at its first use.
REDIS = redis.Redis()


def test_defaults_are_the_published_ones():
    settings = read_config("key", SchematicConfig(credit_leases=CreditLeaseConfig()))
    assert settings.base_url == BASE_URL == "https://api.schematichq.com"
    assert settings.event_capture_url == EVENT_CAPTURE_URL == "https://c.schematichq.com"
    assert (settings.event_buffer_period, settings.timeout) == (5.0, 60.0)
    assert settings.max_message_size == 100 * 1024 * 1024
    leases = settings.leases
    assert leases is not None
    assert (leases.lease_duration, leases.reservation_ttl, leases.lease_size) == (
        300.0,
        60.0,
        10_000.0,
    )
    assert (leases.low_water_mark, leases.sweep_interval, leases.prewarm_resolve_timeout) == (
        0.25,
        1.0,
        5.0,
    )


def test_a_reservation_ttl_of_none_is_the_default_like_every_other_term():
    leases = CreditLeaseConfig(default_reservation_ttl=None)
    settings = read_config("key", SchematicConfig(credit_leases=leases))
    assert settings.leases.reservation_ttl == 60.0


@pytest.mark.parametrize("blank", [None, "", "   "])
def test_a_blank_url_counts_as_unset(blank):
    settings = read_config("key", SchematicConfig(base_url=blank, event_capture_url=blank))
    assert (settings.base_url, settings.event_capture_url) == (BASE_URL, EVENT_CAPTURE_URL)


@pytest.mark.parametrize(
    ("fields", "error", "names"),
    [
        ({"base_url": "ftp://x"}, ValueError, "base_url"),
        ({"base_url": "http://x:99999"}, ValueError, "base_url"),
        ({"base_url": 3}, TypeError, "base_url"),
        ({"event_capture_url": "nonsense"}, ValueError, "event_capture_url"),
        ({"event_buffer_period": 0}, ValueError, "event_buffer_period"),
        ({"event_buffer_period": "5"}, TypeError, "event_buffer_period"),
        ({"max_event_requests": 0}, ValueError, "max_event_requests must be between 1 and 1000"),
        ({"max_event_requests": 1001}, ValueError, "max_event_requests must be between"),
        ({"max_event_requests": 2.0}, TypeError, "max_event_requests must be an int"),
        ({"max_event_requests": True}, TypeError, "max_event_requests must be an int"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
        ({"timeout": True}, TypeError, "timeout"),
        ({"flag_defaults": ["a"]}, TypeError, "flag_defaults"),
        ({"flag_defaults": {"a": 1}}, TypeError, "flag_defaults"),
        ({"flag_defaults": {1: True}}, TypeError, "flag_defaults"),
        ({"flag_defaults": 0}, TypeError, "flag_defaults"),
        ({"flag_defaults": []}, TypeError, "flag_defaults"),
        ({"follow_redirects": "no"}, TypeError, "follow_redirects"),
        ({"httpx_client": 123}, TypeError, "httpx_client must be a client of httpx"),
        ({"timeout": 10**400}, ValueError, "timeout must be a finite number"),
        ({"event_buffer_period": 10**5000}, ValueError, "event_buffer_period must be a finite"),
        ({"credit_leases": CreditLeaseConfig(local_slab=5)}, TypeError, "local_slab"),
        (
            {"credit_leases": CreditLeaseConfig(local_slab=LocalSlab(lifetime=0))},
            ValueError,
            "local_slab.lifetime",
        ),
        (
            {"credit_leases": CreditLeaseConfig(default_lease_size=10**400)},
            ValueError,
            "default_lease_size must be a finite number",
        ),
        (
            {"credit_leases": CreditLeaseConfig(default_lease_size=1e300)},
            ValueError,
            "credit_leases.default_lease_size must be at most",
        ),
        (
            {"credit_leases": CreditLeaseConfig(default_reservation_ttl=1e10)},
            ValueError,
            "credit_leases.default_reservation_ttl must be at most",
        ),
        ({"credit_leases": CreditLeaseConfig(mode=[])}, ValueError, "credit_leases.mode"),
        (
            {"credit_leases": CreditLeaseConfig(default_reservation_ttl="60")},
            TypeError,
            "credit_leases.default_reservation_ttl must be a number of seconds",
        ),
        (
            {"credit_leases": CreditLeaseConfig(overrides={"\ud800": LeaseConfigOverride()})},
            ValueError,
            "a key of credit_leases.overrides must be text",
        ),
        (
            {"credit_leases": CreditLeaseConfig(redis_key_prefix="\ud800")},
            ValueError,
            "credit_leases.redis_key_prefix must be text",
        ),
        ({"logger": "root"}, TypeError, "logger"),
        ({"log_level": "LOUD"}, ValueError, "log_level"),
        ({"log_level": 1.5}, TypeError, "log_level"),
        ({"offline": "yes"}, TypeError, "offline"),
        ({"use_datastream": 1}, TypeError, "use_datastream"),
        ({"cache_providers": [object()]}, TypeError, r"cache_providers\[0\]"),
        ({"cache_providers": 3}, TypeError, "cache_providers"),
        ({"datastream": {}}, TypeError, "datastream"),
        ({"datastream": DataStreamConfig(replicator_mode=True)}, ValueError, "company_cache"),
        ({"datastream": DataStreamConfig(flag_cache=object())}, TypeError, "flag_cache"),
        ({"datastream": DataStreamConfig(max_message_size=0)}, ValueError, "max_message_size"),
        ({"credit_leases": {}}, TypeError, "credit_leases"),
        ({"credit_leases": CreditLeaseConfig(mode="both")}, ValueError, "credit_leases.mode"),
        ({"credit_leases": CreditLeaseConfig(redis_client=object())}, TypeError, "redis_client"),
        (
            {"credit_leases": CreditLeaseConfig(redis_client=REDIS, redis_key_prefix=3)},
            TypeError,
            "redis_key_prefix",
        ),
        (
            {"credit_leases": CreditLeaseConfig(redis_client=REDIS, local_slab=100)},
            TypeError,
            "local_slab",
        ),
        (
            {
                "credit_leases": CreditLeaseConfig(
                    redis_client=REDIS, local_slab=LocalSlab(min_credits=9, max_credits=8)
                )
            },
            ValueError,
            "local_slab.max_credits",
        ),
        (
            {
                "credit_leases": CreditLeaseConfig(
                    redis_client=REDIS, local_slab=LocalSlab(lifetime=0)
                )
            },
            ValueError,
            "local_slab.lifetime",
        ),
        (
            {"credit_leases": CreditLeaseConfig(default_lease_size=0)},
            ValueError,
            "default_lease_size",
        ),
        (
            {"credit_leases": CreditLeaseConfig(default_lease_duration=3601)},
            ValueError,
            "default_lease_duration",
        ),
        ({"credit_leases": CreditLeaseConfig(low_water_mark=1.5)}, ValueError, "low_water_mark"),
        ({"credit_leases": CreditLeaseConfig(sweep_interval=0)}, ValueError, "sweep_interval"),
        (
            {"credit_leases": CreditLeaseConfig(prewarm_resolve_timeout=-1)},
            ValueError,
            "prewarm_resolve_timeout",
        ),
        ({"credit_leases": CreditLeaseConfig(overrides={"c": {}})}, TypeError, r"overrides\['c'\]"),
        (
            {
                "credit_leases": CreditLeaseConfig(
                    overrides={"c": LeaseConfigOverride(lease_size=-1)}
                )
            },
            ValueError,
            r"overrides\['c'\].lease_size",
        ),
    ],
)
@pytest.mark.parametrize(
    ("client", "config"), [(Schematic, SchematicConfig), (AsyncSchematic, AsyncSchematicConfig)]
)
def test_a_wrong_field_is_refused_by_name(client, config, fields, error, names):
    with pytest.raises(error, match=names):
        client("key", config(**fields))


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("", ValueError),
        ("  ", ValueError),
        (None, TypeError),
        ("k\n", ValueError),
        ("ké", ValueError),
    ],
)
def test_a_wrong_api_key_is_refused_by_name(key, error):
    with pytest.raises(error, match="api_key"):
        Schematic(key)


def test_a_config_of_the_other_client_is_refused():
    with pytest.raises(TypeError, match="SchematicConfig"):
        Schematic("key", AsyncSchematicConfig())
    with pytest.raises(TypeError, match="AsyncSchematicConfig"):
        AsyncSchematic("key", SchematicConfig())


def test_an_offline_client_needs_no_api_key():
    assert Schematic("", SchematicConfig(offline=True)).check_flag("any") is False


def test_the_api_key_is_in_no_repr():
    settings = read_config("sch_secret", SchematicConfig())
    assert "sch_secret" not in repr(settings)
    assert "sch_secret" not in repr(Schematic("sch_secret"))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"offline": True, "use_datastream": True}, "offline=True"),
        ({"credit_leases": CreditLeaseConfig(mode="client")}, "needs use_datastream=True"),
        ({"credit_leases": CreditLeaseConfig()}, "every check reserves on the server"),
        (
            {"credit_leases": CreditLeaseConfig(mode="server", default_lease_size=5)},
            "default_lease_size has no effect with mode='server'",
        ),
        (
            {"credit_leases": CreditLeaseConfig(mode="server", default_reservation_ttl=4000)},
            "capped at 3540 s",
        ),
        ({"datastream": DataStreamConfig(cache_ttl=5)}, "cache_ttl has no effect"),
        (
            {"use_datastream": True, "credit_leases": CreditLeaseConfig(local_slab=True)},
            "local_slab has no effect without redis_client",
        ),
        (
            {"credit_leases": CreditLeaseConfig(mode="server", redis_client=REDIS)},
            "redis_client has no effect with mode='server'",
        ),
    ],
)
def test_a_setting_without_effect_is_logged_once_at_construction(fields, says, caplog):
    Schematic("key", SchematicConfig(**fields))
    said = [r for r in caplog.records if says in r.message and r.levelno == logging.WARNING]
    assert len(said) == 1


def test_an_own_logger_replaces_the_package_logger(caplog):
    own = logging.getLogger("mine")
    Schematic("key", SchematicConfig(offline=True, use_datastream=True, logger=own))
    assert {record.name for record in caplog.records} == {"mine"}


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:80", True),
        ("http://localhost", True),
        ("http://[::1]:8080/x", True),
        ("https://api.schematichq.com", False),
        ("http://127.example.com", False),
    ],
)
def test_loopback_addresses_are_recognized(url, loopback):
    assert is_loopback(url) is loopback


@pytest.mark.parametrize("use_datastream", [True, False])
def test_a_very_long_timeout_of_a_client_is_accepted(emulator, use_datastream):
    fields = streaming(emulator) if use_datastream else plain(emulator)
    fields |= {"timeout": 1e10, "event_buffer_period": 1e300}
    with Schematic(API_KEY, SchematicConfig(**fields)) as client:
        assert client.check_flag("inference", ACME) is True
        assert client.check("inference", ACME).allowed
        assert client.check("inference", ACME, usage=1).allowed


def test_a_very_long_timeout_of_a_call_is_accepted(emulator):
    fields = plain(emulator, credit_leases=CreditLeaseConfig())
    with Schematic(API_KEY, SchematicConfig(**fields)) as client:
        options = CheckFlagOptions(timeout=1e300)
        assert client.check_flag("inference", ACME, None, options) is True
        assert client.check("inference", ACME, usage=1, timeout=1e300).allowed
        for timeout in (10**400, 10**5000):
            with pytest.raises(ValueError, match="timeout must be a finite number of seconds"):
                client.check("inference", ACME, timeout=timeout)


async def test_a_very_long_timeout_of_an_asynchronous_call_is_accepted(emulator):
    fields = plain(emulator, timeout=1e300)
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
        assert (await client.check("inference", ACME, timeout=1e300)).allowed
        assert len(await client.check_flags(None, ACME)) == 3


@both_clients
@pytest.mark.parametrize("interval", [5e-324, 1e-9])
def test_the_shortest_intervals_leave_time_for_other_work(emulator, kind, interval):
    leases = CreditLeaseConfig(sweep_interval=interval)
    fields = streaming(emulator, event_buffer_period=interval, credit_leases=leases)
    with Caller(kind, fields) as person:
        held = person.do("check", "inference", ACME, usage=1).reservation
        person.do("track_with_reservation", held, 1)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 1}}
