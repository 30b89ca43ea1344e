"""A program on an event loop: asyncio's own, or uvloop's."""

from __future__ import annotations

import asyncio
import json
import sys

from schematic_native import AsyncSchematic, AsyncSchematicConfig
from tests.under.programs.common import API_KEY, COMPANY, fields


async def main() -> int:
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields())) as client:
        return sum(await asyncio.gather(*[use(client, number) for number in range(8)]))


async def use(client: AsyncSchematic, number: int) -> int:
    units = 0
    for used in range(1, 6):
        result = await client.check("inference", COMPANY, usage=6)
        if result.reservation is None:
            raise SystemExit(f"a check held nothing: {result.error}: {result.reason}")
        await client.track_with_reservation(result.reservation, used)
        units += used
        await asyncio.sleep(0)
    return units


if __name__ == "__main__":
    if sys.argv[1] == "uvloop":
        import uvloop

        units = uvloop.run(main())
    else:
        units = asyncio.run(main())
    json.dump({"units": units}, sys.stdout)
