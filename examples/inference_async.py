"""Many requests at once on one event loop: the asynchronous client against the embedded emulator.

Run it with `python examples/inference_async.py`. With an account of your own, leave the emulator and the two URLs out.
"""

from __future__ import annotations

import asyncio

from schematic_native import AsyncSchematic, AsyncSchematicConfig, CreditLeaseConfig
from schematic_native.emulator import Emulator


async def serve(client: AsyncSchematic, tokens: int) -> int:
    """Serve one request: return the tokens that it used, none if it was denied."""
    result = await client.check("inference", company={"id": "acme"}, usage=2 * tokens)
    if not result.allowed:
        return 0
    await asyncio.sleep(0)  # the work
    await client.track_with_reservation(result.reservation, tokens)
    return tokens


async def run(url: str, api_key: str) -> int:
    """Serve a hundred requests at once and return the tokens they used."""
    config = AsyncSchematicConfig(
        base_url=url,
        event_capture_url=url,
        use_datastream=True,
        # A hundred requests hold some 20 000 credits at once: a lease should cover that.
        credit_leases=CreditLeaseConfig(default_lease_size=50_000),
    )
    async with AsyncSchematic(api_key, config) as client:
        await client.prewarm({"id": "acme"}, ["credit_inference"])
        return sum(await asyncio.gather(*(serve(client, tokens) for tokens in range(1, 101))))


def main() -> None:
    """Serve, and compare with what was billed."""
    with Emulator() as emulator:
        used = asyncio.run(run(emulator.base_url, emulator.api_key))
        print(f"used {used} tokens, billed {emulator.state()['billed']['comp_acme']}")


if __name__ == "__main__":
    main()
