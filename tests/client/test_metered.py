"""The decorator `metered`: functions, generators and coroutines that hold credits for each call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditsDenied,
    Schematic,
    SchematicConfig,
)
from tests.conftest import ACME, API_KEY, streaming

INFERENCE = "inference"
EVENT = "inference_tokens"


def test_a_metered_function_and_generator_are_billed(emulator):
    config = SchematicConfig(**streaming(emulator, event_buffer_period=0.05))
    with Schematic(API_KEY, config) as client:

        @client.metered(
            INFERENCE,
            company=lambda who, _: {"id": who},
            usage=lambda _, text: len(text),
            units=len,
        )
        def answer(who, text):
            """Answer."""
            return text * 2

        @client.metered(INFERENCE, company=ACME, usage=10, units=lambda units: units)
        def numbers():
            yield from (1, 2, 3)

        assert answer("acme", "four") == "fourfour"
        assert answer.__doc__ == "Answer."
        assert list(numbers()) == [1, 2, 3]
        with pytest.raises(CreditsDenied):
            answer("nobody", "four")
        generator = numbers()
        assert next(generator) == 1
        generator.close()
        assert client.status().open_holds == 0
    assert emulator.state()["billed"] == {"comp_acme": {EVENT: 8 + 6 + 1}}


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_metered_coroutines_and_asynchronous_generators_are_billed(emulator, kind):
    fields = streaming(emulator, event_buffer_period=0.05)
    client: Any
    if kind == "sync":
        client = Schematic(API_KEY, SchematicConfig(**fields))
    else:
        client = AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields))
    if kind == "async":
        with pytest.raises(TypeError, match="asynchronous"):
            client.metered(INFERENCE, company=ACME, usage=1, units=len)(lambda: "x")

    @client.metered(INFERENCE, company=ACME, usage=10, units=len)
    async def answer(text):
        await asyncio.sleep(0)
        return text * 2

    @client.metered(INFERENCE, company=ACME, usage=10, units=lambda units: units)
    async def numbers():
        for number in (1, 2, 3):
            yield number

    assert await answer("four") == "fourfour"
    assert [number async for number in numbers()] == [1, 2, 3]
    generator = numbers()
    assert await generator.__anext__() == 1
    await generator.aclose()
    assert client.status().open_holds == 0
    done = client.shutdown()
    if kind == "async":
        await done
    assert emulator.state()["billed"] == {"comp_acme": {EVENT: 8 + 6 + 1}}
