"""What a wheel must show once it is installed: in a fresh virtual environment, with no compiler."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMPORT_LIMIT = 0.025  # seconds
IMPORT_RUNS = 15

# Seconds that the import takes on top of an interpreter that has just started. An import waits for
# nothing, so processor time tells them, whatever else the machine does; Windows counts that too coarsely.
IMPORT_PROBE = """\
import os, time
clock = time.perf_counter if os.name == "nt" else time.process_time
start = clock()
import schematic_native
print(clock() - start)
"""

# Reserve, settle, and what the emulated service then says was billed.
CHECK_PROBE = """\
import json, sys
from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig, __build__, __version__
from schematic_native.emulator import Emulator

with Emulator() as emulator:
    url = emulator.base_url
    config = SchematicConfig(
        base_url=url, event_capture_url=url, use_datastream=True, credit_leases=CreditLeaseConfig()
    )
    with Schematic(emulator.api_key, config) as client:
        result = client.check("inference", company={"id": "acme"}, usage=1200)
        client.track_with_reservation(result.reservation, 950)
    billed = emulator.state()["billed"]
print(json.dumps({
    "allowed": result.allowed,
    "billed": billed,
    "version": __version__,
    "build": {"version": __build__.version, "profile": __build__.profile, "features": __build__.features},
    "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
}))
"""
BILLED = {"comp_acme": {"inference_tokens": 950}}


class Installation:
    """A virtual environment of this interpreter's version, in which no compiler can be found."""

    def __init__(self, directory: Path) -> None:
        venv.create(directory, with_pip=True)
        self._bin = directory / ("Scripts" if os.name == "nt" else "bin")

    def install(self, *arguments: str) -> None:
        """Install with pip, from wheels alone; RuntimeError with pip's words if that fails."""
        done = self._run("-m", "pip", "install", "--quiet", "--only-binary", ":all:", *arguments)
        if done.returncode != 0:
            raise RuntimeError(f"pip install {' '.join(arguments)}: {done.stderr.strip()[-500:]}")

    def faults(self, version: str, abi: str) -> Iterator[str]:
        """Yield what is wrong with the installed package: one sentence each."""
        yield from self._import_faults()
        yield from self._check_faults(version, abi)

    def _import_faults(self) -> Iterator[str]:
        runs = [self._run("-I", "-c", IMPORT_PROBE) for _ in range(IMPORT_RUNS)]
        failed = [run for run in runs if run.returncode != 0]
        if failed:
            yield f"import: {failed[0].stderr.strip()[-500:]}"
            return
        # The best of several, as a busy machine only ever adds to it.
        best = min(float(run.stdout) for run in runs)
        if best > IMPORT_LIMIT:
            yield f"import: takes {best * 1000:.1f} ms, {IMPORT_LIMIT * 1000:.0f} ms are allowed"

    def _check_faults(self, version: str, abi: str) -> Iterator[str]:
        done = self._run("-I", "-c", CHECK_PROBE)
        if done.returncode != 0:
            yield f"check: {done.stderr.strip()[-500:]}"
            return
        told = json.loads(done.stdout)
        if not told["allowed"] or told["billed"] != BILLED:
            yield f"check: allowed={told['allowed']}, billed {told['billed']} instead of {BILLED}"
        yield from _build_faults(told, version, abi)
        if "t" in abi.removeprefix("abi3") and self._free_threaded() and told["gil"]:
            yield "free-threading: the GIL is on once the package has been used"

    def _free_threaded(self) -> bool:
        probe = "import sysconfig; print(int(bool(sysconfig.get_config_var('Py_GIL_DISABLED'))))"
        return self._run("-I", "-c", probe).stdout.strip() == "1"

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in {"CC", "CXX"}}
        python = self._bin / ("python.exe" if os.name == "nt" else "python")
        return subprocess.run(
            [python, *arguments],
            env={**inherited, "PATH": str(self._bin)},
            capture_output=True,
            text=True,
            check=False,
        )


def _build_faults(told: dict[str, Any], version: str, abi: str) -> Iterator[str]:
    build = told["build"]
    if not told["version"] == build["version"] == version:
        yield f"build: __version__ {told['version']} and __build__ {build['version']}, the wheel is {version}"
    if build["profile"] != "release":
        yield f"build: profile {build['profile']} instead of release"
    if "testing" in build["features"]:
        yield "build: it has what only tests need: no wheel is built with the feature testing"
    feature = abi if abi.startswith("abi3") else "version-specific"
    if feature not in build["features"]:
        yield f"build: features {build['features']} without {feature}"


def faults(wheel: Path, version: str, abi: str, directory: Path) -> list[str]:
    """Install a wheel with the emulator into `directory` and return what is wrong with it."""
    installation = Installation(directory)
    try:
        installation.install(f"{wheel}[emulator]")
    except RuntimeError as error:
        return [f"install: {error}"]
    return list(installation.faults(version, abi))
