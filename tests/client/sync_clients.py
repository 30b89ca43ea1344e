"""Synchronous clients of the emulated service, and what they have posted to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native import Schematic, SchematicConfig
from tests.conftest import API_KEY

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator

INFERENCE = "inference"
CREDIT = "credit_inference"


def make(fields: dict[str, object]) -> Schematic:
    return Schematic(API_KEY, SchematicConfig(**fields))


def at(url: str, **fields: object) -> SchematicConfig:
    return SchematicConfig(base_url=url, event_capture_url=url, **fields)


def posted(emulator: Emulator, kind: str) -> list[dict]:
    return [event for event in emulator.events() if event["type"] == kind]
