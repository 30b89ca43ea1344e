"""Holds for calls of language models through LiteLLM, settled with the tokens that were used.

`held` wraps functions of the SDK and of its Router; `CallHoldLogger` is a callback for the SDK and
`HoldLogger` one for the proxy. They hold an estimate before a call and bill what the answer says it
has used. Loading this package loads `litellm`, which is an extra.
"""

from schematic_native.integrations.litellm.callbacks import CallHoldLogger
from schematic_native.integrations.litellm.calls import held
from schematic_native.integrations.litellm.proxy import HoldLogger
from schematic_native.integrations.tokens import TokenCount, units_of

__all__ = ["CallHoldLogger", "HoldLogger", "TokenCount", "held", "units_of"]
