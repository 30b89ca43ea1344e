"""The Lua scripts, each atomic. Those with one key run on a cluster, the others on one server only."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from schematic_native.redis.reservation_row import FIELDS, GRACE


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


def _load(name: str, *parts: str, keys: int = 1, **values: object) -> Script:
    """Read a script, after the parts whose functions it uses: it makes every one of them anew at each call."""
    folder = files(__package__)
    names = [f"{file}.lua" for file in (*parts, name)]
    text = "".join(folder.joinpath(file).read_text(encoding="utf-8") for file in names)
    for placeholder, value in values.items():
        text = text.replace(f"${placeholder}", str(value))
    return Script(text, keys)


INSTALL = _load("install", "amounts", "terms", "clock", "reconcile")
RESERVE = _load("reserve", "amounts", "terms", "debit")
REFUND = _load("refund", "amounts", "terms", "give_back")
EXTEND = _load("extend", "amounts", "terms", "reconcile")
LEASE = _load("lease", "amounts", "terms", "clock")
RECORD = _load("record")
CLAIM = _load("claim")
NOTE = _load("note", "amounts")
CLOSE = _load("close")
LAPSED = _load("lapsed", "clock")
LOWER = _load("lower")
# Of several keys
HOLD = _load(
    "hold", "amounts", "terms", "debit", keys=4, FIELDS=_field_arguments(first=3), GRACE=GRACE
)
SETTLE = _load("settle", "amounts", "terms", "give_back", keys=4)
PROBE = _load("probe")
