"""A program that imports the package in a second interpreter, and prints how that is refused."""

from __future__ import annotations

import json
import sys

import schematic_native  # noqa: F401 - this interpreter is the first

IMPORTING = "import schematic_native"


def refusal() -> str:
    """Return what the import raised; empty if it went well."""
    if sys.version_info >= (3, 14):
        from concurrent import interpreters

        try:
            interpreters.create().exec(IMPORTING)
        except interpreters.ExecutionFailed as error:
            return str(error.excinfo.msg)
        return ""
    if sys.version_info >= (3, 13):
        import _interpreters

        failure = _interpreters.exec(_interpreters.create(), IMPORTING)
        return "" if failure is None else failure.msg
    import _xxsubinterpreters

    try:
        _xxsubinterpreters.run_string(_xxsubinterpreters.create(), IMPORTING)
    except _xxsubinterpreters.RunFailedError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    json.dump({"refusal": refusal()}, sys.stdout)
