"""What is installed on this machine, and how fast it does a check."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from typing import TYPE_CHECKING

from schematic_native import __build__, __version__
from schematic_native.tools.diagnosis.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPENDENCIES = ("httpx", "redis", "websockets", "starlette", "uvicorn", "schematichq")
# Packages that may be missing, and the extras that they come with.
OPTIONAL = {"starlette": "emulator", "uvicorn": "emulator", "schematichq": "management"}
ROUNDS, CALLS = 7, 2000
# Microseconds: many times what a release build takes on a slow machine.
SLOW = 25.0


def examine_machine() -> Iterator[Finding]:
    """Yield what is installed here, and whether it works."""
    yield Finding(
        "schematic_native",
        True,
        f"{__version__}, Python {platform.python_version()}, {platform.platform()}",
    )
    extension = _extension()
    yield extension
    for name in DEPENDENCIES:
        yield _dependency(name)
    if extension.ok:
        yield _speed()


def _dependency(name: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        extra = OPTIONAL.get(name)
        hint = "not installed" if extra is None else f"not installed (extra `{extra}`)"
        return Finding(name, extra is not None, hint, f"pip install {name}")


def _extension() -> Finding:
    """Check a flag with the extension, which shows that it works and not only that it can be loaded."""
    from schematic_native import _native  # noqa: PLC0415 - this checks whether it can be loaded

    core = _native.Core(api_key="doctor")
    answer = core.check_flag("doctor")
    works = answer == "flag" and _native.__version__ == __version__
    detail = f"{__build__}, engine {_native.ENGINE_VERSION_KEY}"
    return Finding(
        "extension",
        works,
        detail if works else f"{detail}, but a check returned {answer!r}",
        "files of two releases are mixed: pip install --force-reinstall schematic-native",
    )


def _speed() -> Finding:
    """Time checks that hold credits of a lease in memory, and their settles."""
    from schematic_native.tools.bench.scenarios import hot, stocked  # noqa: PLC0415 - loads the benchmarks' worlds
    from schematic_native.tools.bench.worlds import COMPANY, FLAG  # noqa: PLC0415

    client = hot(stocked("small", seed=7))
    checks, settles = [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        results = [client.check(FLAG, COMPANY, usage=10) for _ in range(CALLS)]
        checked = time.perf_counter()
        for result in results:
            client.track_with_reservation(result.reservation, 7)
        checks.append(checked - begun)
        settles.append(time.perf_counter() - checked)
    check, settle = (min(times) / CALLS * 1e6 for times in (checks, settles))
    return Finding(
        "speed",
        check < SLOW,
        f"a check takes {check:.2f} us and its settle {settle:.2f} us, from memory, on one thread",
        "use a release build (the extension above says which it is) and a processor that is not throttled",
    )
