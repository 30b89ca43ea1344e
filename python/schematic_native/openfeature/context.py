"""Which company and user an evaluation context is about.

Nothing here looks anybody up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import InvalidContextError

from schematic_native.ground.arguments import read_keys, read_text, shown

if TYPE_CHECKING:
    from schematic_native.config.options import LookupKeys
    from schematic_native.ground.arguments import Keys

# Returns the lookup keys of the company and of the user that an evaluation context is about.
ContextMapping: TypeAlias = Callable[
    [EvaluationContext], "tuple[LookupKeys | None, LookupKeys | None]"
]


class Subject(NamedTuple):
    """What to check or track, and for whom."""

    name: str  # the key of a flag, or the name of an event
    company: Keys | None
    user: Keys | None


class ContextReader:
    """Reads evaluation contexts by the rules that a provider is made with.

    Args:
        targeting_key: what the targeting key of a context is, such as "user.id"; None ignores it.
        map_context: returns the lookup keys of a context, instead of the usual rules; None for those.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it.

    """

    def __init__(self, targeting_key: object, map_context: ContextMapping | None) -> None:
        if map_context is not None and not callable(map_context):
            raise TypeError(f"map_context must be a function, got {shown(map_context)}")
        self._subject, self._subject_key = _read_targeting_key(targeting_key)
        self._map_context = map_context

    def read(self, name: str, context: EvaluationContext | None) -> Subject:
        """Return whom a flag or an event is about.

        Raises:
            InvalidContextError: the context has a lookup key that is none.

        """
        read_text("flag_key", name)
        if context is None:
            return Subject(name, None, None)
        try:
            if self._map_context is None:
                return Subject(name, *self._keys_of(context))
            company, user = self._map_context(context)
            return Subject(name, read_keys("company", company), read_keys("user", user))
        except (TypeError, ValueError) as error:
            raise InvalidContextError(str(error)) from error

    def _keys_of(self, context: EvaluationContext) -> tuple[Keys | None, Keys | None]:
        """Read `company` and `user` as mappings, `company.<key>` and `user.<key>` as values."""
        found: dict[str, dict[str, str]] = {"company": {}, "user": {}}
        if context.targeting_key and self._subject is not None:
            found[self._subject][self._subject_key] = context.targeting_key
        dotted = []
        for name, value in context.attributes.items():
            if name in found:
                if value is not None and not isinstance(value, Mapping):
                    raise TypeError(f"{name} must hold lookup keys by name, got {shown(value)}")
                for key, item in (value or {}).items():
                    _add(found[name], name, key, item)
            elif "." in name and name.partition(".")[0] in found:
                dotted.append((name, value))
        for name, value in dotted:
            subject, _, key = name.partition(".")
            _add(found[subject], subject, key, value)
        return found["company"] or None, found["user"] or None


def _read_targeting_key(name: object) -> tuple[str | None, str]:
    if name is None:
        return None, ""
    subject, _, key = name.partition(".") if isinstance(name, str) else ("", "", "")
    if subject not in {"company", "user"} or not key:
        raise ValueError(
            f'targeting_key must be "user." or "company." and a lookup key, or None, got {name!r}'
        )
    return subject, key


def _add(keys: dict[str, str], subject: str, key: object, value: object) -> None:
    """Add a lookup key. A number becomes its digits; None is left out."""
    if value is None:
        return
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and isinstance(key, str) and (key + value).isascii():
        keys[key] = value
    else:
        keys.update(read_keys(subject, {key: value}) or {})
