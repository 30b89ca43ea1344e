"""The rules engine on its own, without a client: JSON in, JSON out, or compiled once and checked many times."""

from schematic_native._native import (
    ENGINE_VERSION_KEY,
    EngineError,
    check_flag_json,
    check_flags_json,
)

__all__ = ["ENGINE_VERSION_KEY", "EngineError", "check_flag_json", "check_flags_json"]
