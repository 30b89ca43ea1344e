"""The Lua scripts. Each touches one key, so that it runs on a cluster, and is atomic."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Script:
    """A script's text and the digest that the server knows it by."""

    text: str
    digest: str


def _load(name: str, *, amounts: bool = True) -> Script:
    folder = files(__package__)
    names = ["amounts.lua", f"{name}.lua"] if amounts else [f"{name}.lua"]
    text = "".join(folder.joinpath(file).read_text(encoding="utf-8") for file in names)
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(text, digest)


INSTALL = _load("install")
RESERVE = _load("reserve")
REFUND = _load("refund")
EXTEND = _load("extend")
LEASE = _load("lease")
RECORD = _load("record", amounts=False)
CLAIM = _load("claim", amounts=False)
LOWER = _load("lower", amounts=False)
