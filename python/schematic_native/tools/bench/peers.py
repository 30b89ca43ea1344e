"""Other libraries, measured in the same rounds: each checks the same flag, from memory and without a network.

Any of them may be missing, which raises `ImportError`. The flag is on for companies of one plan; the published SDK
knows the same entities as our clients.
"""

from __future__ import annotations

import asyncio
import json
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from schematic_native.tools.bench import blocks
from schematic_native.tools.bench.subjects import (
    CHECK,
    CHECK_FLAG,
    EVALUATE,
    SETTLE,
    Seconds,
    Subject,
    timed,
)
from schematic_native.tools.bench.worlds import (
    API_KEY,
    COMPANY,
    CREDIT,
    FLAG,
    LEASE_SIZE,
    USAGE,
    USED,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

PLAN = "plan_pro"
# Calls of the published SDK in one sample, and before it: the events of more calls would disturb the next subject.
FEW, WARM = 10, range(3)


async def published(url: str, stack: AsyncExitStack) -> Subject:
    """Return the published SDK's client, with its lease."""
    from schematic import client as peer  # noqa: PLC0415 - it may not be installed

    leases = peer.CreditLeaseConfig(mode="client", default_lease_size=LEASE_SIZE)
    config = peer.AsyncSchematicConfig(
        base_url=url, event_capture_url=url, use_datastream=True, credit_leases=leases
    )
    client = await stack.enter_async_context(peer.AsyncSchematic(API_KEY, config))
    await client.prewarm(COMPANY, [CREDIT])
    options = peer.CheckOptions(usage=USAGE)

    async def check() -> Any:
        result = await client.check(FLAG, COMPANY, options=options)
        if result.reservation is None:
            raise SystemExit("a check of the published SDK did not hold credits")
        return result.reservation

    async def sample(count: int) -> Seconds:
        rounds = range(count)
        for _ in WARM:
            await client.check_flag(FLAG, COMPANY)
        start = time.perf_counter()
        for _ in rounds:
            await client.check_flag(FLAG, COMPANY)
        flagged = time.perf_counter() - start
        early = [await check() for _ in WARM]
        start = time.perf_counter()
        holds = [await check() for _ in rounds]
        checked = time.perf_counter() - start
        for hold in early:
            await client.track_with_reservation(hold, USED)
        start = time.perf_counter()
        for hold in holds:
            await client.track_with_reservation(hold, USED)
        settled = time.perf_counter() - start
        await asyncio.sleep(0.05)
        block = await blocks.of_published(check, client.track_with_reservation, rounds)
        await asyncio.sleep(0.05)
        return {CHECK_FLAG: flagged, CHECK: checked, SETTLE: settled, **block}

    return Subject(f"schematichq {version('schematichq')}", sample, FEW, FEW)


async def published_engine(world: dict[str, Any]) -> Subject:
    """Return the published SDK's engine alone."""
    from schematic.datastream.rules_engine import RulesEngineClient  # noqa: PLC0415
    from schematic.types import RulesengineCompany, RulesengineFlag  # noqa: PLC0415

    engine = RulesEngineClient()
    await engine.initialize()
    flag = RulesengineFlag(**world["flags"][0])
    company = RulesengineCompany(**world["companies"][0])
    name = f"schematichq {version('schematichq')}"
    return timed(name, EVALUATE, lambda: engine.check_flag(flag, company), FEW, FEW)


async def eppo(stack: AsyncExitStack) -> Subject:
    """Return eppo-server-sdk: a Rust core too. Its assignments are not logged."""
    del stack
    import eppo_client  # noqa: PLC0415 - it may not be installed

    rule = {"conditions": [{"attribute": "plan", "operator": "ONE_OF", "value": [PLAN]}]}
    flag = {
        "key": FLAG,
        "enabled": True,
        "variationType": "BOOLEAN",
        "variations": {"on": {"key": "on", "value": True}},
        "allocations": [
            {
                "key": "pro",
                "rules": [rule],
                "splits": [{"variationKey": "on", "shards": []}],
                "doLog": False,
            }
        ],
        "totalShards": 10_000,
    }
    configuration = {
        "createdAt": "2026-01-01T00:00:00.000Z",
        "format": "SERVER",
        "environment": {"name": "bench"},
        "flags": {FLAG: flag},
        "bandits": {},
    }
    config = eppo_client.ClientConfig(
        api_key="bench",
        assignment_logger=eppo_client.AssignmentLogger(),
        poll_interval_seconds=None,
        initial_configuration=eppo_client.Configuration(
            flags_configuration=json.dumps(configuration).encode()
        ),
    )
    client = eppo_client.init(config)
    plan = {"plan": PLAN}
    ask = client.get_boolean_assignment
    return _plain("eppo-server-sdk", lambda: ask(FLAG, "acme", plan, False))


async def statsig(stack: AsyncExitStack) -> Subject:
    """Return statsig-python-core: a Rust core too. Its gates come from a data store in memory."""
    import statsig_python_core as core  # noqa: PLC0415 - it may not be installed

    now = int(time.time() * 1000)
    rule = {
        "name": "pro",
        "id": "rule_pro",
        "salt": "s",
        "idType": "userID",
        "conditions": ["on_plan"],
        "passPercentage": 100,
        "returnValue": True,
    }
    gate = {
        "type": "feature_gate",
        "entity": "feature_gate",
        "salt": "s",
        "enabled": True,
        "defaultValue": False,
        "idType": "userID",
        "version": 1,
        "rules": [rule],
    }
    condition = {
        "type": "user_field",
        "field": "plan",
        "operator": "any",
        "targetValue": [PLAN],
        "additionalValues": {},
        "idType": "userID",
    }
    specs = {"has_updates": True, "time": now, "company_id": "bench", "response_format": "dcs-v2"}
    specs |= {"feature_gates": {FLAG: gate}, "condition_map": {"on_plan": condition}}
    for nothing in (
        "dynamic_configs",
        "experiment_to_layer",
        "layer_configs",
        "layers",
        "id_lists",
    ):
        specs[nothing] = {}

    class Store(core.DataStore):  # type: ignore[misc]
        def get(self, key: str) -> Any:
            del key
            return core.DataStoreResponse(result=json.dumps(specs), time=now)

    options = core.StatsigOptions()
    options.data_store = Store()
    options.disable_network = options.disable_all_logging = True
    options.output_log_level = "none"
    client = core.Statsig("secret-bench", options)
    await asyncio.to_thread(client.initialize().wait)
    stack.push_async_callback(asyncio.to_thread, lambda: client.shutdown().wait())
    user = core.StatsigUser("acme", custom={"plan": PLAN})
    return _plain("statsig-python-core", lambda: client.check_gate(user, FLAG))


async def growthbook(stack: AsyncExitStack) -> Subject:
    """Return growthbook, which is all Python."""
    from growthbook import GrowthBook  # noqa: PLC0415 - it may not be installed

    rule = {"condition": {"plan": {"$in": [PLAN]}}, "force": True}
    book = GrowthBook(
        attributes={"id": "acme", "plan": PLAN},
        features={FLAG: {"defaultValue": False, "rules": [rule]}},
    )
    stack.callback(book.destroy)
    return _plain("growthbook", lambda: book.is_on(FLAG))


def _plain(package: str, ask: Callable[[], object]) -> Subject:
    if ask() is not True:
        raise SystemExit(f"{package} did not find the flag to be on: its figures would be wrong")
    return timed(f"{package} {version(package)}", CHECK_FLAG, ask)


OTHERS: dict[str, Callable[[AsyncExitStack], Awaitable[Subject]]] = {
    "eppo-server-sdk": eppo,
    "statsig-python-core": statsig,
    "growthbook": growthbook,
}
