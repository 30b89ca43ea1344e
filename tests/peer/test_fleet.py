"""A mixed fleet on one Redis: any SDK reads, settles, sweeps and extends what another has written."""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
from contextlib import asynccontextmanager
from fractions import Fraction
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
import redis

from schematic_native.emulator import Emulator
from tests.conftest import eventually_async
from tests.peer.fleet import (
    COMPANY_ID,
    CREDIT,
    SLOT,
    Async,
    Hold,
    Node,
    Place,
    Published,
    Sync,
    install_node,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.peer.fleet import Member
    from tests.stores.servers import RedisServer

pytest.importorskip("schematic.client", reason="the published SDK is not installed")

OURS, THEIRS = ("sync", "async"), ("published", "node")
NAMES = (*OURS, *THEIRS)
LEASE = f"schematic:credit-lease:{COMPANY_ID}:{CREDIT}"
BY_EXPIRY = "schematic:credit-reservations:byExpiry"
BY_CREDIT = f"schematic:credit-reservations:byCredit:{COMPANY_ID}:{CREDIT}"


def seed(rate: float) -> dict[str, Any]:
    """Return the emulator's seed with another consumption rate."""
    text = files("schematic_native.emulator").joinpath("inference.json").read_text()
    seed: dict[str, Any] = copy.deepcopy(json.loads(text))
    flag = next(flag for flag in seed["flags"] if flag["key"] == "inference")
    companies = (company["entitlements"] for company in seed["companies"])
    conditions = (rule["conditions"] for rule in flag["rules"])
    for part in itertools.chain(*companies, *conditions):
        if part.get("credit_id") == CREDIT:
            part["consumption_rate"] = rate
    acme = next(company for company in seed["companies"] if company["id"] == COMPANY_ID)
    acme["credit_balances"][CREDIT] = 1_000_000
    return seed


@pytest.fixture
def rate() -> float:
    return 2.0


@pytest.fixture
def emulator(rate: float) -> Iterator[Emulator]:
    with Emulator(seed=seed(rate), process=False) as started:
        yield started


@pytest.fixture(scope="session")
def node_folder(pytestconfig: pytest.Config) -> Path:
    assert pytestconfig.cache is not None
    return install_node(pytestconfig.cache.mkdir("node-sdk"))


@asynccontextmanager
async def fleet(
    names: tuple[str, ...], place: Place, request: pytest.FixtureRequest
) -> AsyncIterator[dict[str, Member]]:
    """Run one member of each name."""
    members: dict[str, Any] = {}
    try:
        for name in names:
            if name == "node":
                member: Any = Node(place, request.getfixturevalue("node_folder"))
            else:
                member = {"sync": Sync, "async": Async, "published": Published}[name](place)
            members[name] = await member.start()
        yield members
    finally:
        for member in members.values():
            await member.close()


class Account:
    """What ought to be in Redis, kept with exact amounts."""

    def __init__(self, server: RedisServer, tolerance: float = 0.0) -> None:
        self.reader = redis.Redis.from_url(server.url, decode_responses=True)
        self.open: dict[str, Hold] = {}
        self.spent = Fraction(0)
        self.units = 0
        self._tolerance = tolerance

    def row(self) -> dict[str, str]:
        row: dict[str, str] = self.reader.hgetall(LEASE)
        return row

    def held(self) -> Fraction:
        return sum((Fraction(hold.credits_reserved) for hold in self.open.values()), Fraction(0))

    def settled(self, hold: Hold, quantity: float) -> None:
        self.open.pop(hold.id)
        self.units += math.ceil(quantity)
        used = Fraction(math.ceil(quantity) * hold.consumption_rate)
        self.spent += min(used, Fraction(hold.credits_reserved))

    def check(self) -> None:
        """Compare with what is there, read in one transaction."""
        reading = self.reader.pipeline(transaction=True)
        row, by_credit, by_expiry = (
            reading.hgetall(LEASE).hgetall(BY_CREDIT).zrange(BY_EXPIRY, 0, -1).execute()
        )
        granted, remaining = Fraction(row["grantedAmount"]), Fraction(row["localRemainingCredits"])
        remaining += Fraction(row.get("localRemainingCarry", "0"))
        assert abs(granted - self.spent - self.held() - remaining) <= self._tolerance
        assert {key: float(held) for key, held in by_credit.items()} == {
            key: hold.credits_reserved for key, hold in self.open.items()
        }
        assert sorted(by_expiry) == sorted("|".join((*SLOT, key)) for key in self.open)

    def lapse(self) -> None:
        """Move every open hold's end into the past."""
        for hold in self.open.values():
            self.reader.zadd(BY_EXPIRY, {"|".join((*SLOT, hold.id)): 1})
            self.reader.hset(f"schematic:credit-reservation:{hold.id}", "expiresAt", 1)


async def audited(emulator: Emulator, account: Account) -> None:
    """Wait for the last event, then hold the emulator's books against the account."""

    def billed() -> int:
        bills: dict[str, int] = emulator.state()["billed"].get(COMPANY_ID, {})
        return bills.get("inference_tokens", 0)

    await eventually_async(lambda: billed() == account.units)
    state, report = emulator.state(), emulator.audit()
    assert report["balanced"], report["problems"]
    assert state["anomalies"] == {}
    [lease] = state["leases"].values()
    assert lease["status"] == "active", "a shared lease is left to expire"
    assert lease["granted"] == float(account.row()["grantedAmount"])
    account.reader.close()


PAIRS = [("sync", "published"), ("async", "node"), ("sync", "node"), ("async", "published")]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("first", [0, 1], ids=["ours-first", "theirs-first"])
async def test_two_sdks_settle_and_sweep_each_others_holds_on_one_lease(
    pair, first, emulator, redis_server, request
):
    account = Account(redis_server)
    place = Place(emulator, redis_server.url, lease_size=100)
    async with fleet(pair[::-1] if first else pair, place, request) as members:
        one, other = members.values()
        for reserving, settling in ((one, other), (other, one), (one, one), (other, other)):
            # More than the lease holds, so that either has to extend what the other acquired; none
            # costs more than one extend brings, for which Node's check does not always wait.
            for usage, used in ((10, 7), (40, 40), (48, 0), (3, 5)):
                hold = await reserving.check(usage)
                account.open[hold.id] = hold
                account.check()
                await settling.settle(hold, used)
                account.settled(hold, used)
                account.check()
        for reserving, sweeping in ((one, other), (other, one)):
            for usage in (1, 2, 3):
                hold = await reserving.check(usage)
                account.open[hold.id] = hold
            assert [await member.reserved() for member in (one, other)] == [12, 12]
            account.lapse()
            assert await sweeping.sweep() == 3
            account.open.clear()
            account.check()
        assert float(account.row()["grantedAmount"]) > place.lease_size, "nobody extended it"
    await audited(emulator, account)


@pytest.mark.parametrize("rate", [2.0, 0.1])
@pytest.mark.parametrize("names", [NAMES[:-1], NAMES], ids=["without-node", "with-node"])
async def test_a_whole_fleet_at_random_spends_one_lease_to_the_unit(
    names, rate, emulator, redis_server, request
):
    steps, choose = 120, random.Random(11)
    # The published scripts print fourteen digits: each of their writes may round a balance so far.
    rounding = 0.0 if float(rate).is_integer() else steps * 1e-10
    account = Account(redis_server, rounding)
    place = Place(emulator, redis_server.url, lease_size=2000 * rate)
    async with fleet(names, place, request) as members:
        crew = list(members.values())
        for _ in range(steps):
            member = choose.choice(crew)
            if account.open and choose.random() < 0.5:
                hold = choose.choice(list(account.open.values()))
                used = choose.choice([0, choose.randint(0, 30), hold.quantity_reserved])
                await member.settle(hold, used)
                account.settled(hold, used)
            elif account.open and choose.random() < 0.1:
                account.lapse()
                assert await member.sweep() == len(account.open)
                account.open.clear()
            else:
                hold = await member.check(choose.choice([choose.randint(1, 30), 2.5, 400]))
                account.open[hold.id] = hold
            account.check()
    await audited(emulator, account)


@pytest.mark.parametrize("rate", [2.0, 0.1])
@pytest.mark.parametrize("theirs", THEIRS)
@pytest.mark.parametrize("ours", OURS)
async def test_the_rows_that_we_write_read_the_same_as_theirs(
    ours, theirs, rate, emulator, redis_server, request
):
    place = Place(emulator, redis_server.url, lease_size=1000)
    async with fleet((theirs, ours), place, request) as members:
        written = []
        with redis.Redis.from_url(redis_server.url, decode_responses=True) as reader:
            for name in (theirs, ours):
                hold = await members[name].check(2.5)
                written.append(describe(reader, hold))
                await members[name].settle(hold, 0)
    assert written[1] == written[0]


@pytest.mark.parametrize("theirs", THEIRS)
@pytest.mark.parametrize("ours", OURS)
async def test_the_leases_that_we_write_read_the_same_as_theirs(
    ours, theirs, redis_server, request
):
    rows = []
    for name in (theirs, ours):
        with Emulator(seed=seed(2.0), process=False) as emulator:
            place = Place(emulator, redis_server.url, lease_size=1000)
            async with fleet((name,), place, request) as members:
                await members[name].check(2)
                with redis.Redis.from_url(redis_server.url, decode_responses=True) as reader:
                    rows.append(describe_lease(reader))
        redis_server.flush()
    assert rows[1] == rows[0]


def describe(reader: redis.Redis, hold: Hold) -> dict[str, Any]:
    """Read all that Redis has of one hold; what differs by nature is told by its form."""
    key = f"schematic:credit-reservation:{hold.id}"
    row = reader.hgetall(key)
    expires_at = row["expiresAt"]
    assert row["id"] == hold.id
    assert expires_at == str(hold.expires_at)
    # The times to live differ by the moments of writing.
    return {
        "types": [reader.type(name) for name in (key, BY_EXPIRY, BY_CREDIT)],
        "fields": sorted(row),
        "values": {name: text for name, text in row.items() if name not in {"id", "expiresAt"}},
        "outlives the hold by": reader.pexpiretime(key) - int(expires_at),
        "score is the end": reader.zscore(BY_EXPIRY, "|".join((*SLOT, hold.id))) == hold.expires_at,
        "by credit": reader.hget(BY_CREDIT, hold.id),
        "expiries": [reader.ttl(BY_EXPIRY), reader.ttl(BY_CREDIT)],
    }


def describe_lease(reader: redis.Redis) -> dict[str, Any]:
    """Read all that Redis has of the lease."""
    row = reader.hgetall(LEASE)
    outlives = reader.pexpiretime(LEASE) - int(row["expiresAt"])
    assert row["leaseId"].startswith("lse_")
    rest = {name: text for name, text in row.items() if name not in {"leaseId", "expiresAt"}}
    return {"type": reader.type(LEASE), "outlives its end by": outlives, **rest}
