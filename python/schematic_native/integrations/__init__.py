"""Holds in frameworks, and the tokens of model answers.

Each module needs its own extra, but for `tokens`. Nothing here is loaded by `schematic_native`.
"""

from schematic_native.integrations.tokens import TokenCount, units_of

__all__ = ["TokenCount", "units_of"]
