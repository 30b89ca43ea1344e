"""The settings of the spool: its configuration, checked, as the core takes them.

Nothing here touches the disk: a directory that cannot be used is reported by the running client.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, TypeAlias

from schematic_native.config.client_config import SpoolConfig
from schematic_native.config.defaults import (
    LARGEST_SPOOL,
    LONGEST_FSYNC,
    SMALLEST_SPOOL,
    SPOOL_BYTES,
)
from schematic_native.config.fields import read_number, read_whole
from schematic_native.ground.arguments import shown

if TYPE_CHECKING:
    from schematic_native.config.client_config import AsyncSchematicConfig, SchematicConfig

# A directory, the most bytes, and seconds until a sync: 0 for at once, None for never.
SpoolSettings: TypeAlias = tuple[str, int, "float | None"]

_WORDS: dict[object, float | None] = {"always": 0.0, "never": None}


def read_spool(
    api_key: str, config: SchematicConfig | AsyncSchematicConfig
) -> SpoolSettings | None:
    """Check where usage is kept on disk; None if nowhere."""
    given = config.spool
    if given is None or config.offline:
        return None
    spool = given if isinstance(given, SpoolConfig) else SpoolConfig(given)
    max_bytes = read_whole("spool.max_bytes", spool.max_bytes, SPOOL_BYTES, "bytes")
    if not SMALLEST_SPOOL <= max_bytes <= LARGEST_SPOOL:
        raise ValueError(
            f"spool.max_bytes must be from {SMALLEST_SPOOL} to {LARGEST_SPOOL}, got {shown(max_bytes)}"
        )
    directory = os.path.join(_read_directory(spool.directory), _account(api_key))  # noqa: PTH118
    return directory, max_bytes, _read_fsync(spool.fsync)


def _account(api_key: str) -> str:
    """Name an account's own directory: usage must never be sent with the key of another."""
    return hashlib.sha256(api_key.encode()).hexdigest()[:16]


def _read_directory(value: object) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"spool must be a directory or a SpoolConfig, got {shown(value)}")
    path = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError(f"spool must be a path of text, got {shown(value)}")
    if not path.strip():
        raise ValueError("spool must not be blank")
    if not _is_file_name(path):
        raise ValueError(f"spool must be a path that a directory can have, got {shown(path)}")
    # Relative to where the client is made, wherever the program goes later.
    return os.path.abspath(path)  # noqa: PTH100 - the path is not to be resolved


def _is_file_name(path: str) -> bool:
    """Tell whether the file system can have such a path."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _read_fsync(value: object) -> float | None:
    if isinstance(value, str):
        if value not in _WORDS:
            raise ValueError(
                f"spool.fsync must be 'always', 'never' or a number of seconds, got {shown(value)}"
            )
        return _WORDS[value]
    seconds = read_number("spool.fsync", value, "seconds")
    if not 0 < seconds <= LONGEST_FSYNC:
        raise ValueError(
            f"spool.fsync must be above 0 and at most {LONGEST_FSYNC:g} seconds, got {shown(value)}"
        )
    return seconds
