"""Vector files: where they are, and what a vector may say."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OWN = Path(__file__).parent / "vectors"


class BrokenVectorError(Exception):
    """A vector says something that cannot be run."""


class Fields:
    """The fields of one JSON object of a vector, each read by somebody or misspelt."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        self._read.add(name)
        value = self._values.get(name)
        return default if value is None else value

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str):
            raise BrokenVectorError(f"{name} must be a text in {dict(self._values)}")
        return value

    def number(self, name: str) -> float:
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BrokenVectorError(f"{name} must be a number in {dict(self._values)}")
        return value

    def optional_number(self, name: str) -> float | None:
        return self.number(name) if name in self else self.get(name)

    def fields(self, name: str) -> Fields:
        """Return an object within this one; whoever asks reads all of it, or has it checked."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            raise BrokenVectorError(f"{name} must be an object in {dict(self._values)}")
        return Fields(value)

    def all(self) -> dict[str, Any]:
        self._read.update(self._values)
        return dict(self._values)

    def check_all_read(self) -> None:
        unread = set(self._values) - self._read
        if unread:
            raise BrokenVectorError(f"nobody reads {sorted(unread)} of {dict(self._values)}")


@dataclass(frozen=True)
class Vector:
    """One story about leases."""

    name: str
    content: Mapping[str, Any]

    @property
    def config(self) -> Fields:
        return Fields(self.content.get("given", {}).get("config", {}))

    @property
    def leases(self) -> list[dict[str, Any]]:
        leases: list[dict[str, Any]] = self.content.get("given", {}).get("leases", [])
        return leases

    @property
    def meters(self) -> dict[str, Any]:
        """What the flags measure that are on only for companies that have used little."""
        meters: dict[str, Any] = self.content.get("given", {}).get("meters", {})
        return meters

    @property
    def operations(self) -> list[dict[str, Any]]:
        operations: list[dict[str, Any]] = self.content["operations"]
        return operations

    def runs_on(self, backend: str) -> bool:
        backends = self.content.get("backends")
        # A cluster is Redis too: a vector that names one means both.
        return backends is None or {"cluster": "redis"}.get(backend, backend) in backends


def folders() -> list[Path]:
    named = os.environ.get("SCHEMATIC_VECTORS", "").split(":")
    return [OWN, *(Path(folder) for folder in named if folder)]


def read_vectors() -> list[Vector]:
    """Read every vector of every folder; a folder that cannot be read is an error."""
    return [vector for folder in folders() for vector in _read_folder(folder)]


def _read_folder(folder: Path) -> Iterator[Vector]:
    if not folder.is_dir():
        raise BrokenVectorError(f"the folder {folder} cannot be read")
    for path in sorted(folder.glob("*.json")):
        yield from _read_file(path)


def _read_file(path: Path) -> Iterator[Vector]:
    contents = json.loads(path.read_bytes()).get("vectors", [])
    if not contents:
        raise BrokenVectorError(f"{path} holds no vectors")
    for content in contents:
        if not any(_expects(operation) for operation in content["operations"]):
            raise BrokenVectorError(f"the vector {content['name']} in {path} expects nothing")
        if content.get("layer") not in {None, "client"}:
            raise BrokenVectorError(f"the vector {content['name']} in {path} is of no known layer")
        yield Vector(f"{path.stem}::{content['name']}", content)


def _expects(operation: Mapping[str, Any]) -> bool:
    return "expect" in operation or any(map(_expects, operation.get("operations", [])))
