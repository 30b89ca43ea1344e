"""Schematic behind the OpenFeature SDK: `SchematicProvider`. It needs the extra `openfeature`.

A resolution is a plain check: it never reserves or bills anything.
"""

from schematic_native.openfeature.context import ContextMapping
from schematic_native.openfeature.provider import SchematicProvider

__all__ = ["ContextMapping", "SchematicProvider"]
