"""Both packages in replicator mode on one Redis: the same answers in random worlds, as they change.

`SCHEMATIC_WORLDS` sets how many worlds there are, and changes of one.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis
import redis.asyncio

from schematic_native import AsyncSchematic, AsyncSchematicConfig, DataStreamConfig
from schematic_native.cache import RedisCache
from schematic_native.rulesengine import ENGINE_VERSION_KEY
from tests.cache.replicators import CACHES, Replicator
from tests.conftest import ACME, API_KEY, PATIENCE, eventually_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schematic_native.emulator import Emulator
    from tests.stores.servers import RedisServer

published = pytest.importorskip("schematic.client", reason="dependency group `peer`")
published_cache = pytest.importorskip("schematic.cache")

WORLDS = int(os.environ.get("SCHEMATIC_WORLDS", "40"))
PLACE = {"account_id": "acct", "environment_id": "env"}
NAMES, VALUES, PLANS = ["id", "slug", "Email"], ["a", "b", "C", "d e"], ["free", "pro", "max"]
EVENTS, CREDITS = ["opened", "tokens"], ["coins"]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, half a second is too short for a Redis that is there."""
    monkeypatch.setattr("schematic_native.cache.replicator.READ_TIMEOUT", PATIENCE)


class World:
    """Flags, companies and users, made up by chance."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.flags = [self.flag(number) for number in range(3)]
        self.companies = [self.company(number) for number in range(4)]
        self.users = [self.user(number) for number in range(2)]

    def pick(self, pool: list[Any], most: int = 2) -> list[Any]:
        return self.random.sample(pool, self.random.randint(0, min(most, len(pool))))

    def definition(self, kind: str) -> dict[str, str]:
        name, comparable = self.random.choice([("size", "int"), ("city", "string")])
        return {"id": f"{kind}_{name}", "comparable_type": comparable, "entity_type": kind}

    def condition(self, number: int) -> dict[str, Any]:
        kind = self.random.choice(["plan", "trait", "metric", "credit", "company", "user"])
        condition: dict[str, Any] = {
            "id": f"cond_{number}", **PLACE, "condition_type": kind, "operator": "eq",
            "resource_ids": [], "trait_value": "",
        }  # fmt: skip
        if kind == "plan":
            condition["resource_ids"] = self.pick(PLANS)
            condition["operator"] = self.random.choice(["eq", "ne"])
        elif kind in {"company", "user"}:
            condition["resource_ids"] = [f"{kind}_{self.random.randrange(3)}"]
            condition["operator"] = self.random.choice(["eq", "ne"])
        elif kind == "trait":
            definition = self.definition(self.random.choice(["company", "user"]))
            condition["trait_definition"] = definition
            condition["trait_value"] = str(self.random.randint(0, 3))
            condition["operator"] = self.random.choice(["eq", "ne", "lt", "gte"])
        elif kind == "metric":
            condition |= {
                "event_subtype": self.random.choice(EVENTS), "metric_value": 5,
                "metric_period": "all_time", "metric_period_month_reset": "first_of_month",
                "operator": self.random.choice(["lt", "gte"]),
            }  # fmt: skip
        else:
            condition |= {
                "credit_id": CREDITS[0], "event_subtype": EVENTS[1], "consumption_rate": 2.0,
                "operator": self.random.choice(["lt", "gte"]),
            }  # fmt: skip
        return condition

    def rule(self, name: str) -> dict[str, Any]:
        def conditions() -> list[dict[str, Any]]:
            return [self.condition(number) for number in range(self.random.randint(0, 2))]

        groups = [{"conditions": conditions()} for _ in range(self.random.randint(0, 1))]
        return {
            "id": f"rule_{name}", **PLACE, "flag_id": None, "name": name,
            "rule_type": self.random.choice(["standard", "plan_entitlement", "global_override"]),
            "priority": self.random.randint(0, 3), "value": self.random.random() < 0.6,
            "conditions": conditions(), "condition_groups": groups,
        }  # fmt: skip

    def flag(self, number: int) -> dict[str, Any]:
        rules = [self.rule(f"{number}_{nth}") for nth in range(self.random.randint(0, 3))]
        default = self.random.random() < 0.3
        return {
            "id": f"flag_{number}", **PLACE, "key": f"Flag-{number}", "rules": rules,
            "default_value": default,
        }  # fmt: skip

    def traits(self, kind: str) -> list[dict[str, Any]]:
        definitions = {each["id"]: each for each in [self.definition(kind) for _ in range(2)]}
        return [
            {"value": str(self.random.randint(0, 3)), "trait_definition": each}
            for each in definitions.values()
        ]

    def keys(self) -> dict[str, str]:
        names = self.random.sample(NAMES, self.random.randint(1, 2))
        return {name: self.random.choice(VALUES) for name in names}

    def company(self, number: int) -> dict[str, Any]:
        plans, balance = self.pick(PLANS), self.random.randint(0, 10)
        metrics = [
            {
                **PLACE, "company_id": f"company_{number}", "event_subtype": event,
                "period": "all_time", "month_reset": "first_of_month",
                "value": self.random.randint(0, 9), "created_at": "2025-01-01T00:00:00Z",
                "valid_until": None,
            }
            for event in self.pick(EVENTS)
        ]  # fmt: skip
        entitlement = {
            "feature_id": "feat_0", "feature_key": "Flag-0", "value_type": "numeric",
            "allocation": 5, "usage": 2, "event_name": EVENTS[0], "event_subtype": EVENTS[0],
            "metric_period": "all_time", "month_reset": "first_of_month",
        }  # fmt: skip
        return {
            "id": f"company_{number}", **PLACE, "keys": self.keys(), "plan_ids": plans,
            "base_plan_id": plans[0] if plans else None, "plan_version_ids": [],
            "billing_product_ids": [], "credit_balances": {CREDITS[0]: balance},
            "metrics": metrics, "traits": self.traits("company"), "rules": [],
            "entitlements": self.pick([entitlement], 1),
        }  # fmt: skip

    def user(self, number: int) -> dict[str, Any]:
        return {
            "id": f"user_{number}", **PLACE, "keys": self.keys(), "rules": [],
            "traits": self.traits("user"),
        }  # fmt: skip

    def write(self, replicator: Replicator) -> None:
        for flag in self.flags:
            replicator.flag(flag)
        for company in self.companies:
            replicator.entity("company", company)
        for user in self.users:
            replicator.entity("user", user)

    def change(self, replicator: Replicator) -> None:
        """Change something: an entity, its keys, what a key names, or whether it is there."""
        what, number = self.random.randrange(6), self.random.randrange(4)
        if what == 0:
            replicator.flag(self.flag(number % 3))
        elif what == 1:
            replicator.entity("user", self.user(number % 2))
        elif what == 2:
            replicator.delete(f"company:{replicator.version}:company_{number}")
        elif what == 3:
            (name, value), *_ = self.keys().items()
            key = f"company:{replicator.version}:{name.lower()}:{value.lower()}"
            if self.random.random() < 0.5:
                replicator.delete(key)
            else:
                replicator.write(key, f"company_{number}")
        else:
            replicator.entity("company", self.company(number))

    def question(self) -> tuple[str, dict[str, str] | None, dict[str, str] | None]:
        company = self.keys() if self.random.random() < 0.9 else None
        user = self.keys() if self.random.random() < 0.5 else None
        return self.random.choice(["flag-0", "Flag-1", "FLAG-2"]), company, user


def told(answer: Any) -> tuple[Any, ...]:
    """Return what both packages must tell."""
    if answer.reason == "key conflict":
        return ("key conflict",)  # the value is a default, which each has its own of
    entitlement = answer.entitlement
    if entitlement is not None:
        entitlement = (entitlement.feature_key, entitlement.allocation, entitlement.usage)
    reason = answer.reason, answer.rule_id, answer.company_id, answer.user_id
    return (answer.value, *reason, entitlement)


@asynccontextmanager
async def both(
    server: RedisServer, replicator: Replicator
) -> AsyncIterator[tuple[AsyncSchematic, Any]]:
    """Run both clients; only events are taken by their API."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if request.url.path == "/batch" else 400, json={"data": {}})

    mode = {"replicator_mode": True, "replicator_health_url": replicator.url}
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as connections,
        server.connect(redis.asyncio) as own,
        server.connect(redis.asyncio) as others,
    ):
        caches = dict.fromkeys(CACHES, RedisCache[Any](own))
        ours = AsyncSchematic(
            API_KEY,
            AsyncSchematicConfig(
                httpx_client=connections,
                use_datastream=True,
                datastream=DataStreamConfig(**caches, **mode),
            ),
        )
        theirs = published.AsyncSchematic(
            API_KEY,
            published.AsyncSchematicConfig(
                httpx_client=connections,
                use_datastream=True,
                datastream=published.DataStreamConfig(
                    **dict.fromkeys(CACHES, published_cache.RedisCache(others)), **mode
                ),
            ),
        )
        async with ours:
            await theirs.initialize()
            try:
                await eventually_async(lambda: ours._runtime and ours._runtime.replica.is_tracked)
                yield ours, theirs
            finally:
                await theirs.shutdown()
                health = (
                    theirs._datastream_client and theirs._datastream_client._health_check_client
                )
                if health is not None:
                    await health.aclose()


async def agree(
    ours: AsyncSchematic, theirs: Any, question: Any, seconds: float = PATIENCE
) -> None:
    """Wait until both answer the same."""
    began = time.monotonic()
    expected = told(await theirs.check_flag_with_entitlement(*question))
    while (answer := told(await ours.check_flag_with_entitlement(*question))) != expected:
        assert time.monotonic() < began + seconds, (question, answer, expected)
        await asyncio.sleep(0)


async def test_random_worlds_are_decided_the_same(redis_server: RedisServer) -> None:
    with redis_server.connect(redis) as client:
        replicator = Replicator(client)
        try:
            async with both(redis_server, replicator) as (ours, theirs):
                for seed in range(WORLDS):
                    client.flushall()
                    world = World(seed)
                    world.write(replicator)
                    for _ in range(6):
                        await agree(ours, theirs, world.question())
        finally:
            replicator.stop()


class Heard:
    """Tells when Redis has reported every change that was made before.

    It reports them in their order: a key that is written last is reported last.
    """

    def __init__(self, ours: AsyncSchematic, replicator: Replicator) -> None:
        assert ours._runtime is not None
        replica = ours._runtime.replica
        assert replica is not None
        self._replicator, self._forget = replicator, replica.forget
        self._last: str | None = None
        self._reported = asyncio.Event()
        replica.forget = self._note  # type: ignore[method-assign]

    def _note(self, name: str | None) -> None:
        self._forget(name)
        if name == self._last:
            self._reported.set()

    async def every_change(self) -> None:
        self._reported.clear()
        self._last = f"company:{self._replicator.version}:the-last-key"
        self._replicator.write(self._last, None)
        await asyncio.wait_for(self._reported.wait(), PATIENCE)


async def test_each_change_of_a_world_is_decided_by_once_redis_has_told_it(
    redis_server: RedisServer,
) -> None:
    with redis_server.connect(redis) as client:
        replicator, world = Replicator(client), World(1)
        try:
            world.write(replicator)
            async with both(redis_server, replicator) as (ours, theirs):
                heard = Heard(ours, replicator)
                for _ in range(WORLDS):
                    world.change(replicator)
                    await heard.every_change()
                    for _ in range(4):
                        question = world.question()
                        expected = told(await theirs.check_flag_with_entitlement(*question))
                        answer = told(await ours.check_flag_with_entitlement(*question))
                        assert answer == expected, question
        finally:
            replicator.stop()


async def test_ours_decides_by_what_the_published_client_has_written(
    emulator: Emulator, redis_server: RedisServer
) -> None:
    with redis_server.connect(redis) as client:
        replicator = Replicator(client, ENGINE_VERSION_KEY)
        try:
            async with (
                httpx.AsyncClient() as connections,
                redis_server.connect(redis.asyncio) as others,
                both(redis_server, replicator) as (ours, theirs),
            ):
                writer = published.AsyncSchematic(
                    API_KEY,
                    published.AsyncSchematicConfig(
                        base_url=emulator.base_url,
                        event_capture_url=emulator.base_url,
                        httpx_client=connections,
                        use_datastream=True,
                        datastream=published.DataStreamConfig(
                            **dict.fromkeys(CACHES, published_cache.RedisCache(others))
                        ),
                    ),
                )
                await writer.initialize()
                try:
                    flag = f"schematic:flags:{ENGINE_VERSION_KEY}:inference"
                    await eventually_async(lambda: client.exists(flag))
                    for company in (ACME, {"id": "few"}, {"id": "override"}):
                        await writer.check_flag("inference", company, {"id": "ada"})
                        for name in ("inference", "exports", "beta"):
                            await agree(ours, theirs, (name, company, {"id": "ada"}))
                    seeded = json.loads(
                        client.get(f"schematic:company:{ENGINE_VERSION_KEY}:comp_few")
                    )
                    assert seeded["credit_balances"] == {"credit_inference": 50}
                    emulator.set_balance("comp_few", "credit_inference", 0)
                    few = ("inference", {"id": "few"}, None)
                    while (await ours.check_flag_with_entitlement(*few)).value:
                        await asyncio.sleep(0.005)
                    await agree(ours, theirs, few)
                finally:
                    await writer.shutdown()
        finally:
            replicator.stop()
