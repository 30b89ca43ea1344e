"""Makes `from schematic.client import ...` return this package's clients.

A program calls `install()` before such imports; `python -m schematic_native.install program.py` runs a program
that is not changed at all. Nothing is replaced before one of them is called.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["install", "uninstall"]

PACKAGE = "schematic"
CLIENT = "schematic.client"
LEASES = "schematic.leases"
# What programs import from the top of the published package.
_AT_THE_TOP = (
    "AsyncSchematic",
    "AsyncSchematicConfig",
    "EventBodyIdentifyCompany",
    "LocalCache",
    "Schematic",
    "SchematicConfig",
)

# What was in sys.modules under the replaced names; None if nothing was.
_replaced: dict[str, types.ModuleType | None] = {}


def install() -> None:
    """Replace `schematic.client` by this package, for all modules of the program.

    Names that this package does not have stay those of the published one, which need not be
    installed. A second call does nothing. Call it first: what a module has imported before stays what
    it was, and a `RuntimeWarning` names such modules.
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
    """Undo `install()`; what has been imported in the meantime stays what it is."""
    for name, module in _replaced.items():
        _place(name, module)
    _replaced.clear()


def _stand_ins(published: types.ModuleType | None) -> dict[str, types.ModuleType]:
    """Return the modules that replace the published ones, by name."""
    from schematic_native import cache, client, webhooks  # noqa: PLC0415 - they import this module

    ours = {name: getattr(client, name) for name in client.__all__}
    # Programs import the overrides of a lease from here.
    of_leases = {"LeaseConfigOverride": client.LeaseConfigOverride}
    if published is not None:
        stand_ins = {CLIENT: _stand_in(published, ours)}
        # The published client has imported it, if that version has it.
        if LEASES in sys.modules:
            stand_ins[LEASES] = _stand_in(sys.modules[LEASES], of_leases)
        return stand_ins
    package = types.ModuleType(PACKAGE)
    package.__path__ = []
    package.__spec__ = ModuleSpec(PACKAGE, None, is_package=True)
    vars(package).update({name: ours[name] for name in _AT_THE_TOP})
    return {
        PACKAGE: package,
        CLIENT: _stand_in(types.ModuleType(CLIENT, client.__doc__), ours),
        LEASES: _stand_in(types.ModuleType(LEASES), of_leases),
        f"{PACKAGE}.cache": cache,
        f"{PACKAGE}.webhook_utils": webhooks,
    }


def _stand_in(module: types.ModuleType, ours: dict[str, Any]) -> types.ModuleType:
    """Return a copy of a module, with our names in place of its own.

    The module itself is not changed, because objects that were made before keep using it.
    """
    stand_in = types.ModuleType(module.__name__)
    vars(stand_in).update({**vars(module), **ours})
    return stand_in


def _place(name: str, module: types.ModuleType | None) -> None:
    """Make a name refer to a module, in sys.modules and as an attribute of its package."""
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
    """Yield the names of modules that have imported classes of the published client."""
    published = sys.modules.get(CLIENT)
    if published is None:
        return
    classes = {
        id(value)
        for value in vars(published).values()
        # Ours uses those of its other modules as they are.
        if isinstance(value, type) and value.__module__ == CLIENT
    }
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in (PACKAGE, "schematic_native"):
            continue
        # sys.modules may contain objects of any kind.
        if any(id(value) in classes for value in list(getattr(module, "__dict__", {}).values())):
            yield name
