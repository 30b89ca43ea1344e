"""The values of flags that cannot be evaluated, as the user configures and changes them.

It decides nothing: `plain_checks` applies them.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, NamedTuple

from schematic_native.ground.arguments import check_bool, shown

if TYPE_CHECKING:
    from collections.abc import Iterator


class FlagDefault(NamedTuple):
    """The default value of one flag; `flag_key` is spelled as the user wrote it."""

    flag_key: str
    value: bool


def read_flag_defaults(name: str, values: object) -> dict[str, FlagDefault]:
    """Validate a mapping of flag defaults, and return it keyed by the flag keys in lower case."""
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{name} must be a mapping of flag key to bool, got {type(values).__name__}"
        )
    defaults: dict[str, FlagDefault] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise TypeError(f"{name} must have str keys, got {shown(key)}")
        check_bool(f"{name}[{shown(key)}]", value)
        defaults[key.lower()] = FlagDefault(key, value)
    return defaults


class FlagDefaults(MutableMapping[str, bool]):
    """A live view of a client's flag defaults: setting one here changes the client."""

    def __init__(self, defaults: dict[str, FlagDefault]) -> None:
        self._defaults = defaults

    def __getitem__(self, flag_key: str) -> bool:
        return self._defaults[flag_key.lower()].value

    def __setitem__(self, flag_key: str, value: bool) -> None:
        self._defaults.update(read_flag_defaults("flag_defaults", {flag_key: value}))

    def __delitem__(self, flag_key: str) -> None:
        del self._defaults[flag_key.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter([default.flag_key for default in self._defaults.values()])

    def __len__(self) -> int:
        return len(self._defaults)

    def __repr__(self) -> str:
        return repr(dict(self))
