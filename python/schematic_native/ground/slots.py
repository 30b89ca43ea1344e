"""A slot: the place of one company's lease for one credit type."""

from __future__ import annotations

from typing import TypeAlias

Slot: TypeAlias = tuple[str, str]  # company id, credit type id
