"""Holds in frameworks, and the tokens of model responses.

Each module but `tokens` needs the framework that it is named after. `schematic_native` never imports a module from
here by itself.
"""

from schematic_native.integrations.tokens import TokenCount, units_of

__all__ = ["TokenCount", "units_of"]
