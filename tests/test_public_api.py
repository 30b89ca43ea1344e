"""What users import stays: a changed line here is a change that they will see.

`SCHEMATIC_WRITE_API=1 pytest tests/test_public_api.py` writes the file anew.
"""

from __future__ import annotations

import importlib
import inspect
import os
from pathlib import Path

FILE = Path(__file__).parent / "public_api.txt"
MODULES = (
    "schematic_native",
    "schematic_native.cache",
    "schematic_native.emulator",
    "schematic_native.openfeature",
    "schematic_native.rulesengine",
    "schematic_native.telemetry",
    "schematic_native.webhooks",
)


def described(path: str, value: object) -> list[str]:
    """Return a line for a name, and one for each public method and property of a class."""
    if not inspect.isclass(value):
        return [
            f"{path}{signature(value)}" if callable(value) else f"{path}: {type(value).__name__}"
        ]
    if issubclass(value, BaseException):
        return [f"class {path}({value.__base__.__name__})"]
    lines = [f"class {path}{signature(value)}"]
    for name in sorted(set(dir(value)) - set(dir(object))):
        member = inspect.getattr_static(value, name)
        if name.startswith("_"):
            continue
        if callable(getattr(value, name)):
            lines.append(f"  {path}.{name}{signature(getattr(value, name))}")
        elif inspect.isdatadescriptor(member):
            lines.append(f"  {path}.{name}")
    return lines


def signature(value: object) -> str:
    """Return names and defaults; annotations are the type checker's."""
    try:
        parameters = inspect.signature(value).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(...)"
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters if p.name != "self"]
    return str(inspect.Signature(plain))


def described_modules() -> str:
    lines = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        lines.append(f"# {module_name}")
        for name in sorted(module.__all__):
            lines += described(name, getattr(module, name))
    return "\n".join(lines) + "\n"


def test_the_public_names_and_signatures_are_those_of_the_snapshot() -> None:
    found = described_modules()
    if os.environ.get("SCHEMATIC_WRITE_API"):
        FILE.write_text(found)
    assert found.splitlines() == FILE.read_text().splitlines()
