"""The Lua scripts, each atomic. Those with one key run on a cluster, the others on one server only."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from schematic_native.redis.reservation_row import FIELDS


class Script:
    """A script.

    Attributes:
        text: the script itself.
        by_digest: how a call begins, packed, for a server that knows the script.
        in_full: the same for a server that does not.

    """

    def __init__(self, text: str, keys: int = 1) -> None:
        self.text = text
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.by_digest = _packed("EVALSHA", digest, str(keys))
        self.in_full = _packed("EVAL", text, str(keys))


def _packed(*words: str) -> str:
    return "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)


def _field_arguments(first: int) -> str:
    """Return Lua's list of a reservation's fields and their values, which are arguments from `first` on."""
    return ", ".join(f"'{name}', ARGV[{at}]" for at, name in enumerate(FIELDS, first))


def _load(name: str, keys: int = 1, *, amounts: bool = True, fields: str = "") -> Script:
    folder = files(__package__)
    names = ["amounts.lua", f"{name}.lua"] if amounts else [f"{name}.lua"]
    text = "".join(folder.joinpath(file).read_text(encoding="utf-8") for file in names)
    return Script(text.replace("$FIELDS", fields), keys)


INSTALL = _load("install")
RESERVE = _load("reserve")
REFUND = _load("refund")
EXTEND = _load("extend")
LEASE = _load("lease")
RECORD = _load("record", amounts=False)
CLAIM = _load("claim", amounts=False)
NOTE = _load("note")
CLOSE = _load("close", amounts=False)
LOWER = _load("lower", amounts=False)
# Of several keys
HOLD = _load("hold", keys=4, fields=_field_arguments(first=4))
SETTLE = _load("settle", keys=4)
PROBE = _load("probe", amounts=False)
