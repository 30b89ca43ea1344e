"""A vector, run: its leases are installed and its operations performed one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance.operations import Operations
from tests.conformance.vectors import Fields
from tests.conformance.world import World, install

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.conformance.vectors import Vector


def run(vector: Vector, world: World) -> None:
    """Run a vector; whatever is not as it says is an AssertionError that tells where."""
    for lease in vector.leases:
        fields = Fields(lease)
        install(world, fields)
        fields.check_all_read()
    operations = Operations(world)
    for number, operation in enumerate(vector.operations):
        operations.perform(operation, f"operation {number}")


def flags_of(vector: Vector) -> list[str]:
    """Name every flag that a vector's checks ask for and that the service knows."""
    unknown = vector.content.get("given", {}).get("unknown_flags", [])
    return [key for key in dict.fromkeys(_asked_flags(vector.operations)) if key not in unknown]


def _asked_flags(operations: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for operation in operations:
        if "flag_key" in operation:
            yield operation["flag_key"]
        yield from _asked_flags(operation.get("operations", []))
