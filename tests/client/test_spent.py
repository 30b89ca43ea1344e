"""Companies with few credits or none left: what they can spend, and how often the service is asked."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest
import redis

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native._native import Core, PendingCheck
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, streaming
from tests.limits import give_stores

INFERENCE = "inference"
CREDIT = "credit_inference"
FEW = {"id": "few"}  # 50 credits
NONE = {"id": "none"}


@pytest.fixture(params=["memory", "redis"])
def client(request, emulator, monkeypatch):
    give_stores(monkeypatch, PATIENCE)
    options = {}
    if request.param == "redis":
        options["redis_client"] = redis.Redis.from_url(request.getfixturevalue("redis_server").url)
    leases = CreditLeaseConfig(mode="client", **options)
    config = SchematicConfig(**streaming(emulator, credit_leases=leases, event_buffer_period=0.05))
    with Schematic(API_KEY, config) as client:
        yield client
    for each in options.values():
        each.close()


@pytest.fixture
def requests(client, monkeypatch):
    """The requests to acquire and extend leases, in order."""
    asked = []
    api = client._runtime._api
    acquire, extend = api.acquire_lease, api.extend_lease

    async def acquire_lease(*arguments):
        asked.append(("acquire", arguments[2]))
        return await acquire(*arguments)

    async def extend_lease(*arguments):
        asked.append(("extend", arguments[1]))
        return await extend(*arguments)

    monkeypatch.setattr(api, "acquire_lease", acquire_lease)
    monkeypatch.setattr(api, "extend_lease", extend_lease)
    return asked


def acquires(requests):
    return [amount for kind, amount in requests if kind == "acquire"]


def test_the_last_credits_can_be_spent(client, requests):
    verdicts = [client.check(INFERENCE, FEW, usage=4) for _ in range(7)]
    assert verdicts[0].reservation.consumption_rate == 2
    assert [verdict.allowed for verdict in verdicts] == [True] * 6 + [False]
    assert verdicts[6].error == "insufficient_lease_balance"
    assert acquires(requests) == [10_000, 50]


def test_an_acquire_is_not_repeated_if_the_rest_of_the_credits_would_not_suffice(client, requests):
    denied = client.check(INFERENCE, FEW, usage=26)
    assert (denied.allowed, denied.error) == (False, "lease_acquire_failed")
    assert requests == [("acquire", 10_000)]
    assert client.check(INFERENCE, FEW, usage=25).allowed


def test_an_extend_is_repeated_for_the_rest_of_the_credits(emulator, client, requests):
    assert client.check(INFERENCE, FEW, usage=20).allowed
    assert acquires(requests) == [10_000, 50]
    emulator.set_balance("comp_few", CREDIT, 33)
    eventually(lambda: client._core.company_balance("comp_few", CREDIT) == 33)
    assert client.check(INFERENCE, FEW, usage=20).allowed
    assert not client.check(INFERENCE, FEW, usage=2).allowed
    assert acquires(requests) == [10_000, 50]


def test_a_company_without_credits_is_denied_without_a_request(client, requests):
    for _ in range(50):
        denied = client.check(INFERENCE, NONE, usage=3)
        assert (denied.allowed, denied.reason) == (False, "lease_acquire_failed")
    assert requests == [("acquire", 10_000)]
    # The failure mode applies as usual.
    opened = client.check(INFERENCE, NONE, usage=3, on_acquire_failure="fail-open")
    assert opened.error == "lease_acquire_failed"
    assert len(requests) == 1


def test_a_smaller_check_makes_its_own_request(client, requests):
    client.check(INFERENCE, NONE, usage=3)
    client.check(INFERENCE, NONE, usage=4)
    assert len(requests) == 1
    client.check(INFERENCE, NONE, usage=2)
    assert len(requests) == 2


def test_refunded_credits_can_be_held_again(client):
    held = [client.check(INFERENCE, FEW, usage=5) for _ in range(5)]
    assert not client.check(INFERENCE, FEW, usage=5).allowed
    client.track_with_reservation(held[0].reservation, 0)
    assert client.check(INFERENCE, FEW, usage=5).allowed


def test_the_first_check_after_a_pushed_top_up_is_allowed(emulator, client, requests):
    assert not client.check(INFERENCE, NONE, usage=3).allowed
    emulator.set_balance("comp_none", CREDIT, 100)
    eventually(lambda: client._core.company_balance("comp_none", CREDIT) == 100)
    assert client.check(INFERENCE, NONE, usage=3).allowed


def test_many_threads_of_a_company_without_credits_cost_two_requests_at_most(client, requests):
    start = threading.Barrier(8)
    verdicts = []

    def work():
        start.wait()
        verdicts.extend(client.check(INFERENCE, NONE, usage=3).allowed for _ in range(500))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(verdicts) == 4000
    assert not any(verdicts)
    assert len(requests) <= 2


def test_a_refused_acquire_is_not_logged_as_an_error(client, caplog):
    with caplog.at_level(logging.ERROR):
        for who in (NONE, FEW, ACME):
            client.check(INFERENCE, who, usage=100)
    assert caplog.records == []
    assert client.status().last_error is None


def test_an_outage_is_not_remembered(emulator, client, requests):
    emulator.fail("status", "acquire", status=503)
    assert not client.check(INFERENCE, ACME, usage=3, timeout=0.2).allowed
    assert not client._core.was_refused("comp_acme", CREDIT, 1e9)


# With a clock that the test controls


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def core(clock):
    core = Core(api_key=API_KEY, clock=clock, steady=clock)
    seed = json.loads(Path("examples/inference.json").read_text())
    for kind, entity in [("Flags", seed["flags"]), *(("Company", c) for c in seed["companies"])]:
        message = {"entity_type": f"rulesengine.{kind}", "message_type": "full", "data": entity}
        assert core.ingest(json.dumps(message)).skipped == []
    return core


def asks(core, usage=4):
    """Whether a check of the company without credits would ask the service."""
    answer = core.check(INFERENCE, NONE, None, usage)
    assert isinstance(answer, PendingCheck) or answer.error == "lease_acquire_failed"
    return isinstance(answer, PendingCheck)


def test_after_five_seconds_one_check_asks_again_and_the_others_are_denied(core, clock):
    assert asks(core)
    core.note_spent("comp_none", CREDIT, 8, 0.0)
    assert [asks(core), asks(core, 5), asks(core, 3)] == [False, False, True]
    clock.now += 4.9
    assert not asks(core)
    clock.now += 0.2
    assert [asks(core), asks(core)] == [True, False]
    assert not core.was_refused(
        "comp_none", CREDIT, 8
    )  # the check that asks is not denied in advance
    core.note_spent("comp_none", CREDIT, 8, 0.0)
    assert core.was_refused("comp_none", CREDIT, 8)
    assert not asks(core)


def test_a_clock_that_is_set_back_does_not_prolong_denials(core, clock):
    core.note_spent("comp_none", CREDIT, 8, 0.0)
    clock.now -= 3600
    assert asks(core)


def test_a_balance_that_rose_while_the_service_was_asked_counts(core):
    core.note_spent("comp_none", CREDIT, 8, -1.0)
    assert [asks(core), asks(core)] == [True, True]


@pytest.mark.parametrize(("balance", "was_refused"), [(-5.0, True), (0.0, True), (33.0, False)])
def test_a_refusal_counts_for_those_who_wait_until_the_balance_rises(core, balance, was_refused):
    core.note_spent("comp_none", CREDIT, 8, 0.0)
    message = {
        "entity_type": "rulesengine.Company",
        "message_type": "partial",
        "entity_id": "comp_none",
        "data": {"id": "comp_none", "credit_balances": {CREDIT: balance}},
    }
    assert core.ingest(json.dumps(message)).skipped == []
    assert core.was_refused("comp_none", CREDIT, 8) is was_refused


def test_a_balance_that_was_lower_than_known_when_it_was_refused_ends_the_denials_when_it_rises(
    core,
):
    core.note_spent("comp_none", CREDIT, 8, 50.0)
    assert not asks(core)
    balances = {"credit_balances": {CREDIT: 33.0}}
    message = {
        "entity_type": "rulesengine.Company",
        "message_type": "partial",
        "entity_id": "comp_none",
        "data": {"id": "comp_none", **balances},
    }
    assert core.ingest(json.dumps(message)).skipped == []
    assert core.company_balance("comp_none", CREDIT) == 33
    assert asks(core)


def test_a_lease_ends_the_denials(core, clock):
    core.note_spent("comp_none", CREDIT, 8, 0.0)
    core.install_lease("comp_none", CREDIT, "lse", 8, clock.now + 300)
    assert core.check(INFERENCE, NONE, None, 4).allowed
    short = core.check(INFERENCE, NONE, None, 4)
    assert isinstance(short, PendingCheck)
    core.note_spent("comp_none", CREDIT, 8, 0.0)
    denied = core.check(INFERENCE, NONE, None, 4)
    assert denied.error == "insufficient_lease_balance"
