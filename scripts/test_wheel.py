"""Test the wheel in a folder where it is installed: in a fresh environment, away from the sources.

    python scripts/test_wheel.py dist
    python scripts/test_wheel.py dist --platform musllinux_1_2 --python 3.14t

Only what the wheel itself brings is tested: the tests are copied, the package is not.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What needs neither the published SDK nor a server of its own.
TESTS = (
    "test_core.py",
    "test_core_clocks.py",
    "test_core_messages.py",
    "test_results.py",
    "ground/test_arguments.py",
    "leases/test_acquires.py",
    "leases/test_extends.py",
    "leases/test_lease_owners.py",
    "leases/test_prewarms.py",
    "leases/test_sweeps_and_closing.py",
    "leases/test_top_ups.py",
    "service/test_events.py",
    "service/test_datastream.py",
    "client/test_client_sync.py",
    "client/test_lifecycle.py",
    "client/test_server_holds.py",
    "client/test_service_failures.py",
    "client/test_without_stream.py",
    "client/test_wrong_arguments.py",
    "client/test_client_async.py",
)
# Images with every CPython, for platforms that are not this machine's; one for each architecture.
IMAGE = "quay.io/pypa/{platform}_{machine}"


def run(*command: str | Path, **options: object) -> None:
    """Run a command, shown, which must succeed."""
    print("+", *command, flush=True)
    subprocess.run([str(word) for word in command], check=True, **options)  # type: ignore[call-overload]


def test_here(wheel: Path) -> None:
    """Install the wheel into a fresh environment of this interpreter and test it there."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        scripts = home / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
        python = scripts / "python"
        pip = (python, "-m", "pip", "install", "--quiet")
        run(*pip, "--upgrade", "pip>=25.1")  # the first that knows groups
        shutil.copytree(ROOT / "tests", home / "tests")
        shutil.copy(ROOT / "pyproject.toml", home / "pyproject.toml")
        run(*pip, f"{wheel}[emulator]", "--group", "test", cwd=home)
        where = "import schematic_native as s; print(s.__version__, s.__file__)"
        run(python, "-c", where, cwd=home)
        run(python, "-m", "pytest", "-q", *(f"tests/{name}" for name in TESTS), cwd=home)
        run(scripts / "schematic-native", "demo", "--seconds", "1", cwd=home)


def test_in_container(wheel: Path, musl: str, version: str) -> None:
    """Do the same in a container, for a C library that this machine does not have."""
    image = IMAGE.format(platform=musl, machine=platform.machine())
    number = version.replace(".", "")
    python = f"/opt/python/cp{number.removesuffix('t')}-cp{number}/bin/python"
    inside = [python, "scripts/test_wheel.py", wheel.parent.name]
    run("docker", "run", "--rm", "-v", f"{ROOT}:/work", "-w", "/work", image, *inside)


def main() -> int:
    """Test the one wheel of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--platform", default="", help="the wheel's, as maturin was told")
    parser.add_argument("--python", default="3.10", help="the version, for example 3.14t")
    arguments = parser.parse_args()
    [wheel] = arguments.folder.resolve().glob("*.whl")
    if arguments.platform.startswith("musllinux"):
        test_in_container(wheel, arguments.platform, arguments.python)
    else:
        test_here(wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
