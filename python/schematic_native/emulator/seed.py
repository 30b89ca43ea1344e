"""The seed: what the emulated service knows when it starts, read and checked.

The file is wire JSON: `{"api_key", "flags", "companies", "users"}`, each entity exactly as
DataStream sends it.
Every complaint names the place in the file and what would be right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schematic_native.emulator.seed_schema import (
    SeedError,
    as_object,
    check_company,
    check_flag,
    check_user,
    show,
)
from schematic_native.ground import json_text

if TYPE_CHECKING:
    import os

Entity = dict[str, Any]


@dataclass(frozen=True)
class Seed:
    """A checked seed."""

    api_key: str
    flags: list[Entity]
    companies: list[Entity]
    users: list[Entity]
    digest: str

    def content(self) -> Entity:
        """Return it as it was read."""
        return {
            "api_key": self.api_key,
            "flags": self.flags,
            "companies": self.companies,
            "users": self.users,
        }


def load_seed(source: str | os.PathLike[str] | Mapping[str, Any] | None = None) -> Seed:
    """Read a seed from a file or a mapping; the one that ships with the package by default.

    Raises:
        SeedError: The seed is malformed; the message names the field.
        OSError: The file cannot be read.

    """
    if source is None:
        content = (
            resources.files("schematic_native.emulator").joinpath("inference.json").read_bytes()
        )
    elif isinstance(source, Mapping):
        try:
            content = json_text.write(dict(source))
        except TypeError as error:
            raise SeedError(f"seed: must hold JSON values only: {error}") from error
    else:
        content = Path(source).read_bytes()
    try:
        value = json_text.read(content)
    except json_text.NotJSONError as error:
        raise SeedError(f"seed: not valid JSON: {error}") from error
    return _check_seed(value)


def _check_seed(value: object) -> Seed:
    seed = as_object(value, "seed")
    api_key = seed.get("api_key")
    if not isinstance(api_key, str) or not api_key:
        raise SeedError(f"api_key: expected a non-empty string, got {show(api_key)}")
    for name in ("flags", "companies", "users"):
        if seed.get(name) is None:
            seed[name] = []
        if not isinstance(seed[name], list):
            raise SeedError(f"{name}: expected a list, got {show(seed[name])}")
    unknown = set(seed) - {"api_key", "flags", "companies", "users"}
    if unknown:
        raise SeedError(f"{min(unknown)}: unknown; a seed has api_key, flags, companies and users")
    for name, check in (("flags", check_flag), ("companies", check_company), ("users", check_user)):
        for index, entity in enumerate(seed[name]):
            check(entity, f"{name}[{index}]")
        _check_unique(seed[name], name)
    digest = hashlib.sha256(json_text.write(seed, sort_keys=True)).hexdigest()
    return Seed(api_key, seed["flags"], seed["companies"], seed["users"], digest)


def _check_unique(entities: list[Entity], path: str) -> None:
    seen: dict[tuple[str, str], int] = {}
    for index, entity in enumerate(entities):
        names = [("id", entity["id"])]
        if path == "flags":
            names.append(("key", entity["key"].lower()))
        else:
            pairs = (entity.get("keys") or {}).items()
            names += [(f"key {name.lower()}", value.lower()) for name, value in pairs]
        for name in names:
            if name in seen:
                raise SeedError(
                    f"{path}[{index}]: {name[0]} {name[1]!r} is taken by {path}[{seen[name]}]"
                )
            seen[name] = index
