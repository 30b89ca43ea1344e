"""The rights that leases need: enough for everything a client does, and no command that nothing sends."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
import redis
import redis.asyncio

import schematic_native.redis
from schematic_native import CreditLeaseConfig, LocalSlab, Schematic, SchematicConfig
from schematic_native.redis.rights import CALLED, COMMANDS, SENT, acl_rule
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, streaming
from tests.limits import give_stores

PREFIX = "schematic:"
LOGIN = "of-a-test"
SOURCES = Path(schematic_native.redis.__file__).parent
# Only clients of a cluster ask for its map, and the tracker is the replicator's.
ELSEWHERE = {"cluster_routing.py", "tracking.py"}


@pytest.fixture
def restricted(redis_server):
    """The URL of a user who has the rights of the rule, pasted as the docs show it."""
    rule = acl_rule(PREFIX).replace(">PASSWORD", f">{LOGIN}").split()
    version = redis_server.command("INFO", "server")["redis_version"]
    if tuple(int(part) for part in version.split(".")) >= (7, 2):  # as the docs say
        rule.append("+client|setinfo")
    redis_server.command(*rule)
    return f"redis://schematic:{LOGIN}@127.0.0.1:{redis_server.port}/0"


@pytest.mark.parametrize("slabs", [None, LocalSlab(min_credits=20, max_credits=40)])
@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
def test_a_user_with_these_rights_alone_does_everything(
    emulator, redis_server, restricted, slabs, kind, monkeypatch
):
    give_stores(monkeypatch, PATIENCE)
    leases = CreditLeaseConfig(
        mode="client",
        redis_client=kind.from_url(restricted),
        local_slab=slabs,
        default_lease_size=200,
        default_reservation_ttl=0.2,
        sweep_interval=0.05,
    )
    config = SchematicConfig(**streaming(emulator, credit_leases=leases))
    used = 0
    with Schematic(API_KEY, config) as client:
        for number in range(40):  # more than one lease has
            result = client.check("inference", ACME, usage=6)
            assert result.allowed, result
            client.track_with_reservation(result.reservation, number % 6)
            used += number % 6
        assert client.get_credit_balance(ACME, "credit_inference").reserved >= 0
        client.check("inference", ACME, usage=6)  # lapses, and is swept
        with redis_server.connect() as reader:
            eventually(lambda: reader.zcard(f"{PREFIX}credit-reservations:byExpiry") == 0)
        assert client.status().last_error is None
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": used}}
    assert redis_server.command("ACL", "LOG") == []


def test_such_a_user_can_do_nothing_else(redis_server, restricted):
    with redis.Redis.from_url(restricted) as client:
        for words in (("SET", "schematic:a", "1"), ("HSET", "other", "a", "1"), ("FLUSHALL",)):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*words)


@pytest.mark.parametrize("command", sorted(set(CALLED)))
@pytest.mark.parametrize(
    ("kind", "slabs"),
    [
        (redis.Redis, None),
        (redis.asyncio.Redis, None),
        (redis.Redis, LocalSlab(min_credits=20, max_credits=40)),
    ],
)
def test_a_missing_right_is_logged_once_for_each_step_that_needs_it_and_over_once_it_is_given(
    emulator, redis_server, caplog, kind, slabs, command
):
    user = "ACL", "SETUSER", "schematic", "reset", "on", f">{LOGIN}", "~*"
    redis_server.command(*user, "+@all", f"-{command}")
    url = f"redis://schematic:{LOGIN}@127.0.0.1:{redis_server.port}/0"
    leases = CreditLeaseConfig(
        mode="client",
        redis_client=kind.from_url(url),
        local_slab=slabs,
        default_lease_size=200,
        default_reservation_ttl=5,
        sweep_interval=0.05,
    )
    fields = streaming(emulator, credit_leases=leases, event_buffer_period=0.01)

    def use(client: Schematic) -> None:
        for usage in (6, 1000, 6):  # the large one is more than the lease has, and is denied
            reservation = client.check("inference", ACME, usage=usage).reservation
            if reservation is not None:
                client.track_with_reservation(reservation, 3)
        # The claim of a settle is made again before its usage is sent.
        eventually(lambda: client.status().queued_events == 0)

    def works(client: Schematic) -> bool:
        use(client)
        return client.status().last_error is None

    caplog.set_level("INFO", "schematic_native")
    with Schematic(API_KEY, SchematicConfig(**fields)) as client:
        for _ in range(8):
            use(client)
        begun = [line.message for line in caplog.records if line.levelname == "ERROR"]
        topics = [message.partition(": Redis")[0] for message in begun]
        assert sorted(set(topics)) == sorted(topics), begun
        redis_server.command(*user, "+@all")
        eventually(lambda: works(client))


def test_every_command_of_the_rule_is_sent_or_called_and_no_other_is():
    scripts = "".join(
        script.read_text()
        for script in files("schematic_native.redis.scripts").iterdir()
        if script.name.endswith(".lua")
    )
    assert set(re.findall(r"redis\.call\('(\w+)'", scripts)) == set(CALLED)
    texts = "".join(
        module.read_text() for module in SOURCES.rglob("*.py") if module.name not in ELSEWHERE
    )
    plain = set(re.findall(r'Command\(.*?, \("([A-Z]+)"', texts))
    assert plain | {"EVAL", "EVALSHA"} == set(SENT)
    assert set(COMMANDS) == {*SENT, *CALLED}


def test_the_docs_show_the_rule():
    page = Path(__file__).parents[2] / "docs" / "redis.md"
    assert acl_rule(PREFIX) in " ".join(page.read_text().split())
