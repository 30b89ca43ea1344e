"""The rules engine without a client: checks JSON directly, or compiles it once to check many times.

It must do no I/O, and give the same answers as version `ENGINE_VERSION_KEY` of the published engine.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from schematic_native._native import (
    ENGINE_VERSION_KEY,
    CompiledCompany,
    CompiledFlag,
    CompiledUser,
    EngineError,
    check_flag_json,
    check_flags_json,
)
from schematic_native.config.options import CheckFlagOptions
from schematic_native.ground.arguments import check_options
from schematic_native.leases.requests import NO_PREFLIGHT, read_preflight

if TYPE_CHECKING:
    from schematic_native._native import CheckFlagResult

__all__ = [
    "ENGINE_VERSION_KEY",
    "CompiledCompany",
    "CompiledFlag",
    "CompiledUser",
    "EngineError",
    "RulesEngine",
    "check_flag_json",
    "check_flags_json",
]


class RulesEngine:
    """Compiles flags, companies and users, and checks flags against them.

    A compiled object is immutable, so any number of threads may use it at the same time.
    """

    def load_flag(self, json: str | bytes) -> CompiledFlag:
        """Compile a flag from its JSON, or raise EngineError."""
        return CompiledFlag(json)

    def load_company(self, json: str | bytes) -> CompiledCompany:
        """Compile a company from its JSON, or raise EngineError."""
        return CompiledCompany(json)

    def load_user(self, json: str | bytes) -> CompiledUser:
        """Compile a user from its JSON, or raise EngineError."""
        return CompiledUser(json)

    def check_flag(
        self,
        flag: CompiledFlag,
        company: CompiledCompany | None = None,
        user: CompiledUser | None = None,
        options: CheckFlagOptions | None = None,
        now: float | None = None,
    ) -> CheckFlagResult:
        """Check a flag for a company and a user, either of which may be missing.

        Args:
            flag: a flag from `load_flag`.
            company: a company from `load_company`.
            user: a user from `load_user`.
            options: further conditions of the check; default_value and timeout are ignored here.
            now: epoch seconds; None for the current time.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: an option or `now` has a wrong value.

        """
        if not isinstance(flag, CompiledFlag):
            raise TypeError(f"flag must be what load_flag gives, not {type(flag).__name__}")
        check_options(options, CheckFlagOptions)
        preflight = NO_PREFLIGHT if options is None else read_preflight(options)
        return flag.check(
            company,
            user,
            time.time() if now is None else now,
            usage=preflight.usage,
            event_usage=preflight.event_usage,
            event_quantities=preflight.event_quantities,
            credit_cost=preflight.credit_cost,
        )
