"""Members of a mixed fleet: our clients and the published ones, on one Redis and one emulator.

All speak the same few words, and hand holds over as a common `Hold`, so that any member can settle
what another has reserved.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import pytest
import redis
import redis.asyncio
from typing_extensions import Self

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Reservation,
    Schematic,
    SchematicConfig,
)
from schematic_native.redis import AsyncStore, SyncStore, open_store
from tests.conftest import PATIENCE
from tests.stores.inspection import sweep_all

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator

FLAG, CREDIT, COMPANY_ID = "inference", "credit_inference", "comp_acme"
COMPANY, USER = {"id": "acme"}, {"id": "ada"}
SLOT = (COMPANY_ID, CREDIT)
PREFIX = "schematic:"
# A sweep is made when it is asked for, and at no other time.
NEVER = 3600.0
NODE_FOLDER = Path(__file__).parent / "node"


@dataclass(frozen=True)
class Hold:
    """A reservation as any SDK has it; instants in epoch milliseconds."""

    id: str
    lease_id: str
    company_id: str
    credit_type_id: str
    event_subtype: str
    quantity_reserved: float
    credits_reserved: float
    consumption_rate: float
    expires_at: int
    company: dict[str, str] | None
    user: dict[str, str] | None


@dataclass(frozen=True)
class Place:
    """Where a fleet meets."""

    emulator: Emulator
    redis_url: str
    lease_size: float


class Member(Protocol):
    """One client of the fleet."""

    async def check(self, usage: float) -> Hold:
        """Check, which must be allowed, and return the hold."""

    async def settle(self, hold: Hold, quantity: float) -> None:
        """Settle a hold, whoever reserved it."""

    async def sweep(self) -> int:
        """Give expired holds back, whoever reserved them."""

    async def reserved(self) -> float:
        """Add up the slot's open holds, as this member reads them."""

    async def close(self) -> None:
        """Deliver what is queued and end."""


def _hold_of(reservation: Any) -> Hold:
    """Read a reservation of a Python SDK, ours or theirs."""
    return Hold(
        reservation.id,
        reservation.lease_id,
        reservation.company_id,
        reservation.credit_type_id,
        reservation.event_subtype,
        reservation.quantity_reserved,
        reservation.credits_reserved,
        reservation.consumption_rate,
        round(reservation.expires_at.timestamp() * 1000),
        reservation.company,
        reservation.user,
    )


def _fields_of(hold: Hold) -> dict[str, Any]:
    """Return the arguments that a Python SDK's reservation is made of."""
    expires_at = datetime.fromtimestamp(hold.expires_at / 1000, timezone.utc)
    return asdict(hold) | {"mode": "client", "expires_at": expires_at}


def _config(place: Place, redis_client: object) -> dict[str, Any]:
    return {
        "base_url": place.emulator.base_url,
        "event_capture_url": place.emulator.base_url,
        "use_datastream": True,
        "credit_leases": CreditLeaseConfig(
            mode="client",
            redis_client=redis_client,
            default_lease_size=place.lease_size,
            sweep_interval=NEVER,
        ),
    }


class Sync:
    """Our synchronous client."""

    def __init__(self, place: Place) -> None:
        self._redis = redis.Redis.from_url(place.redis_url)
        config = SchematicConfig(**_config(place, self._redis))
        self._client = Schematic(place.emulator.api_key, config)
        store = open_store(self._redis, PREFIX)
        assert isinstance(store, SyncStore)
        self._store = store

    async def start(self) -> Self:
        await asyncio.to_thread(self._client.initialize)
        return self

    async def check(self, usage: float) -> Hold:
        result = await asyncio.to_thread(self._client.check, FLAG, COMPANY, USER, usage=usage)
        assert result.reservation is not None, result
        return _hold_of(result.reservation)

    async def settle(self, hold: Hold, quantity: float) -> None:
        reservation = Reservation(**_fields_of(hold))
        await asyncio.to_thread(self._client.track_with_reservation, reservation, quantity)

    async def sweep(self) -> int:
        return self._store.run(sweep_all(self._store.operations, time.time()))

    async def reserved(self) -> float:
        return self._store.run(self._store.operations.reserved_credits(SLOT))

    async def close(self) -> None:
        await asyncio.to_thread(self._client.shutdown)
        self._store.close()
        self._redis.close()


class Async:
    """Our asynchronous client."""

    def __init__(self, place: Place) -> None:
        self._redis = redis.asyncio.Redis.from_url(place.redis_url)
        config = AsyncSchematicConfig(**_config(place, self._redis))
        self._client = AsyncSchematic(place.emulator.api_key, config)
        store = open_store(self._redis, PREFIX)
        assert isinstance(store, AsyncStore)
        self._store = store

    async def start(self) -> Self:
        await self._client.initialize()
        return self

    async def check(self, usage: float) -> Hold:
        result = await self._client.check(FLAG, COMPANY, USER, usage=usage)
        assert result.reservation is not None, result
        return _hold_of(result.reservation)

    async def settle(self, hold: Hold, quantity: float) -> None:
        await self._client.track_with_reservation(Reservation(**_fields_of(hold)), quantity)

    async def sweep(self) -> int:
        return await self._store.run(sweep_all(self._store.operations, time.time()))

    async def reserved(self) -> float:
        return await self._store.run(self._store.operations.reserved_credits(SLOT))

    async def close(self) -> None:
        await self._client.shutdown()
        await self._store.close()
        await self._redis.aclose()


async def streaming(client: Any, flag: str = FLAG) -> None:
    """Wait for the flags of the published SDK: its start does not, and without them it asks the API."""
    until = time.monotonic() + PATIENCE
    while await client._datastream_client.get_flag(flag) is None:
        assert time.monotonic() < until, "no flag has come"
        await asyncio.sleep(0.005)


class Published:
    """The published Python SDK."""

    def __init__(self, place: Place) -> None:
        self._module = pytest.importorskip("schematic.client", reason="no peer group is installed")
        self._redis = redis.asyncio.Redis.from_url(place.redis_url)
        # Its shutdown leaves its own connections open, so it is given some.
        self._connections = httpx.AsyncClient(timeout=60)
        leases = self._module.CreditLeaseConfig(
            mode="client",
            redis_client=self._redis,
            default_lease_size=place.lease_size,
            sweep_interval=NEVER,
        )
        config = self._module.AsyncSchematicConfig(
            base_url=place.emulator.base_url,
            event_capture_url=place.emulator.base_url,
            httpx_client=self._connections,
            use_datastream=True,
            credit_leases=leases,
        )
        self._client = self._module.AsyncSchematic(place.emulator.api_key, config)

    async def start(self) -> Self:
        await self._client.initialize()
        await streaming(self._client)
        await self._client.prewarm(COMPANY, [CREDIT])
        return self

    async def check(self, usage: float) -> Hold:
        options = self._module.CheckOptions(usage=usage)
        result = await self._client.check(FLAG, COMPANY, USER, options)
        assert result.reservation is not None, result
        return _hold_of(result.reservation)

    async def settle(self, hold: Hold, quantity: float) -> None:
        reservation = self._module.Reservation(**_fields_of(hold))
        await self._client.track_with_reservation(reservation, quantity)

    async def sweep(self) -> int:
        swept: int = await self._client._reservations.sweep_expired()
        return swept

    async def reserved(self) -> float:
        reserved: float = await self._client._reservations.reserved_credits(*SLOT)
        return reserved

    async def close(self) -> None:
        await self._client.shutdown()
        await self._connections.aclose()
        await self._redis.aclose()


class Node:
    """The published Node SDK, in a process of its own."""

    def __init__(self, place: Place, folder: Path) -> None:
        self._place = place
        self._folder = folder
        self._process: asyncio.subprocess.Process

    async def start(self) -> Self:
        settings = {
            "redis": self._place.redis_url,
            "url": self._place.emulator.base_url,
            "apiKey": self._place.emulator.api_key,
            "leaseSize": self._place.lease_size,
        }
        command = ["node", str(self._folder / "member.mjs"), json.dumps(settings)]
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        await self._do("stream", flag=FLAG)
        await self._do("prewarm", company=COMPANY, credit=CREDIT)
        return self

    async def check(self, usage: float) -> Hold:
        answer = await self._do("check", flag=FLAG, company=COMPANY, user=USER, usage=usage)
        held = answer["hold"]
        assert held is not None, answer
        return Hold(
            held["id"],
            held["leaseId"],
            held["companyId"],
            held["creditTypeId"],
            held["eventSubtype"],
            held["quantityReserved"],
            held["creditsReserved"],
            held["consumptionRate"],
            round(datetime.fromisoformat(held["expiresAt"][:-1] + "+00:00").timestamp() * 1000),
            held["evalCtx"].get("company"),
            held["evalCtx"].get("user"),
        )

    async def settle(self, hold: Hold, quantity: float) -> None:
        reservation = {
            "id": hold.id,
            "leaseId": hold.lease_id,
            "companyId": hold.company_id,
            "creditTypeId": hold.credit_type_id,
            "eventSubtype": hold.event_subtype,
            "quantityReserved": hold.quantity_reserved,
            "creditsReserved": hold.credits_reserved,
            "consumptionRate": hold.consumption_rate,
            "expiresAt": hold.expires_at,
            "evalCtx": {"company": hold.company, "user": hold.user},
        }
        await self._do("settle", hold=reservation, quantity=quantity)

    async def sweep(self) -> int:
        swept: int = await self._do("sweep")
        return swept

    async def reserved(self) -> float:
        reserved: float = await self._do("reserved", companyId=COMPANY_ID, credit=CREDIT)
        return reserved

    async def close(self) -> None:
        await self._do("close")
        await self._process.wait()

    async def _do(self, action: str, **given: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"action": action, **given}).encode() + b"\n")
        await stdin.drain()
        line = await asyncio.wait_for(stdout.readline(), 60)
        assert line, "the Node process has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer
        return answer["value"]


def install_node(folder: Path) -> Path:
    """Install the Node SDK into a folder, once; skips the test where that cannot be."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed: the fleet goes without the Node SDK")
    for file in NODE_FOLDER.iterdir():
        shutil.copy(file, folder)
    wanted = (folder / "package.json").read_text()
    installed = folder / "installed.json"
    if not installed.exists() or installed.read_text() != wanted:
        command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm cannot install the Node SDK: {done.stderr.strip()[-200:]}")
        installed.write_text(wanted)
    return folder
