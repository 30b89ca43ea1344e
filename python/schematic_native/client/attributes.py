"""The attributes of a client that programs, and above all their tests, read and set.

A wrong value is refused; nothing here does I/O.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from schematic_native.client.flag_defaults import FlagDefault, FlagDefaults, read_flag_defaults
from schematic_native.ground.arguments import check_bool, shown

if TYPE_CHECKING:
    import logging

    from schematic_native.config.providers import FlagCache
    from schematic_native.config.settings import Settings


class Attributes:
    """The attributes that can be changed on an existing client."""

    _settings: Settings
    _flag_defaults: dict[str, FlagDefault]
    _caches: list[FlagCache]

    if TYPE_CHECKING:

        def _open_memory(self) -> None: ...

    @property
    def offline(self) -> bool:
        """Whether checks return their defaults, and nothing is requested or queued.

        Events queued before are still sent, and a running DataStream keeps running.
        """
        return self._settings.offline

    @offline.setter
    def offline(self, value: bool) -> None:
        check_bool("offline", value)
        self._settings = dataclasses.replace(self._settings, offline=value)
        self._open_memory()

    @property
    def flag_defaults(self) -> FlagDefaults:
        """The values of flags that cannot be evaluated, by flag key; keys compare case-insensitively."""
        return FlagDefaults(self._flag_defaults)

    @flag_defaults.setter
    def flag_defaults(self, values: Mapping[str, bool]) -> None:
        self._flag_defaults = read_flag_defaults("flag_defaults", values)

    @property
    def flag_check_cache_providers(self) -> list[FlagCache]:
        """The caches of plain checks that were answered over REST."""
        return self._caches

    @flag_check_cache_providers.setter
    def flag_check_cache_providers(self, providers: Sequence[FlagCache]) -> None:
        self._caches = read_caches("flag_check_cache_providers", providers)

    @property
    def event_buffer_period(self) -> float:
        """Seconds between two flushes of the event queue."""
        return self._settings.event_buffer_period

    @property
    def logger(self) -> logging.Logger:
        """The logger that receives the client's faults."""
        logger: Any = self._settings.logger
        target: logging.Logger = getattr(logger, "target", logger)
        return target


def read_caches(name: str, providers: Sequence[FlagCache]) -> list[FlagCache]:
    """Require a list of objects that have the methods get and set."""
    if isinstance(providers, (str, Mapping)) or not isinstance(providers, Sequence):
        raise TypeError(f"{name} must be a list, got {type(providers).__name__}")
    for number, provider in enumerate(providers):
        if not callable(getattr(provider, "get", None)) or not callable(
            getattr(provider, "set", None)
        ):
            raise TypeError(f"{name}[{number}] must have get and set, got {shown(provider)}")
    return list(providers)
