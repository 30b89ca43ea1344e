"""The exception of a required hold that was denied."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schematic_native._native import CheckResult


class CreditsDenied(Exception):  # noqa: N818 - a name of the public API
    """A required hold was denied; `result` is the answer of its check."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(f"{result.flag_key} is denied: {result.reason}")
        self.result = result

    def __reduce__(self) -> tuple[type[CreditsDenied], tuple[CheckResult]]:
        return CreditsDenied, (self.result,)
