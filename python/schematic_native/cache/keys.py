"""The keys of shared caches: the layout that every SDK and the replicator use.

A key carries the version of the engine that wrote the entity. Changing a key cuts this process off from the
others.
"""

from __future__ import annotations

from typing import NamedTuple


class CacheKeys(NamedTuple):
    """The keys of one version. Names and values of lookup keys compare case-insensitively."""

    version: str

    def flag(self, flag_key: str) -> str:
        """Return the key of a flag."""
        return f"flags:{self.version}:{flag_key.lower()}"

    def entity(self, kind: str, entity_id: str) -> str:
        """Return the key of a "company" or a "user"."""
        return f"{kind}:{self.version}:{entity_id}"

    def lookup(self, kind: str, name: str, value: str) -> str:
        """Return the key under which the id of a "company" or a "user" is found by a lookup key."""
        return f"{kind}:{self.version}:{name.lower()}:{value.lower()}"
