"""From here on, `from schematic.client import ...` gives this package's clients.

`install()` does it for a program that calls it before it imports them;
`python -m schematic_native.install program.py` does it for a program that is left as it is.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["install", "uninstall"]

PACKAGE = "schematic"
CLIENT = "schematic.client"
# What the published package's users import from its top.
_AT_THE_TOP = (
    "AsyncSchematic",
    "AsyncSchematicConfig",
    "EventBodyIdentifyCompany",
    "LocalCache",
    "Schematic",
    "SchematicConfig",
)

# What stood in sys.modules under the names that were taken; None where nothing did.
_replaced: dict[str, types.ModuleType | None] = {}


def install() -> None:
    """Let `schematic.client` stand for this package, also in modules of other people.

    Names that this package does not have stay those of the published one, which need not be
    installed. A second call does nothing. Call it first: names that a module has imported before
    stay what they were, and a `RuntimeWarning` names such modules.
    """
    if _replaced:
        return
    for late in _holders():
        warnings.warn(
            f"schematic_native.install() came too late for {late}, which has imported "
            f"{CLIENT} already: call it before such imports",
            RuntimeWarning,
            stacklevel=2,
        )
    try:
        published: types.ModuleType | None = importlib.import_module(CLIENT)
    except ModuleNotFoundError as error:
        if error.name not in (PACKAGE, CLIENT):
            raise
        published = None
    for name, module in _stand_ins(published).items():
        _replaced[name] = sys.modules.get(name)
        _place(name, module)


def uninstall() -> None:
    """Undo `install()`; what was imported meanwhile stays what it is."""
    for name, module in _replaced.items():
        _place(name, module)
    _replaced.clear()


def _stand_ins(published: types.ModuleType | None) -> dict[str, types.ModuleType]:
    """Return the modules that take the place of the published ones, by name."""
    from schematic_native import cache, client, webhooks  # noqa: PLC0415 - imported by it in turn

    stand_in = types.ModuleType(CLIENT, client.__doc__)
    if published is not None:
        # A module of its own: clients that were made before go on with the names that they know.
        vars(stand_in).update(vars(published))
    ours = {name: getattr(client, name) for name in client.__all__}
    vars(stand_in).update(ours)
    if published is not None:
        return {CLIENT: stand_in}
    package = types.ModuleType(PACKAGE)
    package.__path__ = []
    package.__spec__ = ModuleSpec(PACKAGE, None, is_package=True)
    vars(package).update({name: ours[name] for name in _AT_THE_TOP})
    return {
        PACKAGE: package,
        CLIENT: stand_in,
        f"{PACKAGE}.cache": cache,
        f"{PACKAGE}.webhook_utils": webhooks,
    }


def _place(name: str, module: types.ModuleType | None) -> None:
    """Let a name stand for a module, for the import statement and as an attribute of its package."""
    parent, _, attribute = name.rpartition(".")
    package = sys.modules.get(parent)
    if module is None:
        sys.modules.pop(name, None)
        if package is not None and hasattr(package, attribute):
            delattr(package, attribute)
        return
    sys.modules[name] = module
    if package is not None:
        setattr(package, attribute, module)


def _holders() -> Iterator[str]:
    """Name the modules that hold classes of the published client."""
    published = sys.modules.get(CLIENT)
    if published is None:
        return
    classes = {
        id(value)
        for value in vars(published).values()
        # Those of its other modules are taken by ours as they are.
        if isinstance(value, type) and value.__module__ == CLIENT
    }
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in (PACKAGE, "schematic_native"):
            continue
        # Modules may be anything that somebody has put there.
        if any(id(value) in classes for value in list(getattr(module, "__dict__", {}).values())):
            yield name
