"""Holds for calls of language models through LiteLLM, settled with the tokens that were used.

`held` wraps functions of the SDK and of its Router; `HoldLogger` is a callback for the proxy. Both
hold an estimate before a call and bill what the answer says it has used. Loading this package loads
`litellm`, which is an extra.
"""

from schematic_native.integrations.litellm.calls import held
from schematic_native.integrations.litellm.proxy import HoldLogger
from schematic_native.integrations.tokens import TokenCount, units_of

__all__ = ["HoldLogger", "TokenCount", "held", "units_of"]
