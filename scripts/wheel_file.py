"""What a wheel must show as a file, read without installing it.

Each check takes a `WheelFile` and yields its faults: one sentence each, which begins with the
name of what is at fault.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
from email.parser import BytesParser
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import lief
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "python"
PACKAGE = "schematic_native"
# Suffixes of what the package consists of, apart from the extension.
PACKAGED = frozenset({".py", ".pyi", ".lua", ".json", ".css", ".js", ".typed"})
EXTENSION_SUFFIXES = (".so", ".pyd", ".dylib")
# The stub of what only a build for tests has.
UNPACKAGED = f"{PACKAGE}/_testing.pyi"
MAX_SIZE = 3_000_000  # bytes
EXTENSION_NAMES = {
    "abi3": r"_native\.(abi3\.so|pyd)",
    "abi3t": r"_native\.(abi3t[\w.-]*\.so|(abi3t[\w.-]*\.)?pyd)",
    "cp314t": r"_native\.(cpython-314t-[\w-]+\.so|cp314t-\w+\.pyd)",
}
# What every Linux (manylinux, musllinux), macOS and Windows that can run Python has.
SYSTEM_LIBRARIES = re.compile(
    r"""
    lib(c|m|dl|pthread|rt)\.so(\.\d+)? | libgcc_s\.so\.1 | ld-linux[\w-]*\.so\.\d+ | libc\.musl-\w+\.so\.1
    | /usr/lib/lib(System\.B|iconv\.2|resolv\.9)\.dylib
    | (kernel32|ntdll|vcruntime140|advapi32|ws2_32|userenv|bcrypt|bcryptprimitives)\.dll
    | api-ms-win-[\w-]+\.dll | python3\w*\.dll
    """,
    re.VERBOSE | re.IGNORECASE,
)
# musllinux has no compiler's library; a wheel for it brings its own, under a name of its own.
BUNDLED = re.compile(r"libgcc_s-[0-9a-f]{8}\.so\.1")
# What musl's loader takes for itself, wherever it lies and however it is called there.
MUSL = "libc.so"
# The stable ABI for free threads enters a module by this, which abi3audit does not know yet.
MODULE_EXPORT = "PyModExport__native"


class WheelFile:
    """A wheel, open for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip = ZipFile(path)
        self.names = [name for name in self._zip.namelist() if not name.endswith("/")]
        _, self.version, _, tags = parse_wheel_filename(path.name)
        self.abis = {tag.abi for tag in tags}
        self.platforms = {tag.platform for tag in tags}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> bytes:
        """Return a member's content."""
        return self._zip.read(name)

    @property
    def abi(self) -> str:
        """The ABI that decides which Python can load it."""
        return "abi3t" if "abi3t" in self.abis else min(self.abis)

    @property
    def extensions(self) -> list[str]:
        """The compiled members."""
        return [name for name in self.names if name.endswith(EXTENSION_SUFFIXES)]

    @property
    def info(self) -> str:
        """The directory of the metadata."""
        return f"{PACKAGE}-{self.version}.dist-info"

    @property
    def musl(self) -> bool:
        """Whether it is for systems with musl instead of glibc."""
        return any(platform.startswith("musllinux") for platform in self.platforms)

    def bundles(self, name: str) -> bool:
        """Tell whether a member is a library that its platform lacks and the wheel may bring."""
        directory, _, file = name.rpartition("/")
        return self.musl and directory in {"", f"{PACKAGE}.libs"} and bool(BUNDLED.fullmatch(file))

    @cached_property
    def binaries(self) -> list[Any]:
        """The compiled members, parsed; one that cannot be is None."""
        return [lief.parse(self.read(name)) for name in self.extensions]


def workspace_version() -> str:
    """Return the version that Cargo.toml says, which is the only place that says it."""
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text("utf-8"))["workspace"]
    return str(workspace["package"]["version"])


def packaged_files() -> set[str]:
    """Return what the checkout's package consists of, as members of a wheel."""
    files = {
        path.relative_to(SOURCE).as_posix()
        for path in (SOURCE / PACKAGE).rglob("*")
        if path.suffix in PACKAGED or path.name == "py.typed"
    }
    return files - {UNPACKAGED}


def contents(wheel: WheelFile) -> Iterator[str]:
    """One extension module, every file of the package, and nothing else."""
    count = len(wheel.extensions)
    if count != 1:
        yield f"contents: {count} extension modules instead of one: {wheel.extensions}"
    expected = packaged_files() | set(wheel.extensions)
    for missing in sorted(expected - set(wheel.names)):
        yield f"contents: {missing} is missing"
    for name in wheel.names:
        if not (name in expected or name.startswith(f"{wheel.info}/") or wheel.bundles(name)):
            yield f"contents: {name} is no part of the package"


def extension_name(wheel: WheelFile) -> Iterator[str]:
    """Hold the extension's file name against what the Pythons of the wheel's tag look for."""
    if wheel.abi not in EXTENSION_NAMES:
        yield f"tag: ABI {wheel.abi} is none of {', '.join(EXTENSION_NAMES)}"
        return
    for name in wheel.extensions:
        if not re.fullmatch(EXTENSION_NAMES[wheel.abi], PurePosixPath(name).name):
            yield f"tag: Python does not look for {name} in a wheel for {wheel.abi}"


def web_assembly(wheel: WheelFile) -> Iterator[str]:
    """No WebAssembly, no runtime for it."""
    for name in wheel.names:
        if name.endswith(".wasm"):
            yield f"wasm: {name} is WebAssembly"
        elif ".dist-info/" in name and b"wasmtime" in wheel.read(name).lower():
            yield f"wasm: {name} names wasmtime"


def record(wheel: WheelFile) -> Iterator[str]:
    """Every member with the digest that RECORD says."""
    rows = csv.reader(io.StringIO(wheel.read(f"{wheel.info}/RECORD").decode()))
    digests = {row[0]: row[1] for row in rows}
    for name in wheel.names:
        if name.endswith("/RECORD"):
            continue
        digest = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(name)).digest())
        if digests.get(name) != f"sha256={digest.rstrip(b'=').decode()}":
            yield f"record: {name} is not what RECORD says"


def metadata(wheel: WheelFile) -> Iterator[str]:
    """Compare version and dependencies with the checkout; the page must be one that PyPI can show."""
    told = BytesParser().parsebytes(wheel.read(f"{wheel.info}/METADATA"))
    if not told["Version"] == workspace_version() == str(wheel.version):
        yield f"metadata: version {told['Version']} is not the workspace's and the file name's"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {*project["dependencies"]}
    for extra, requirements in project["optional-dependencies"].items():
        wanted |= {f"{requirement} ; extra == '{extra}'" for requirement in requirements}
    required = {*told.get_all("Requires-Dist", [])}
    odd = {str(Requirement(r)) for r in wanted} ^ {str(Requirement(r)) for r in required}
    if odd:
        yield f"metadata: dependencies differ from pyproject.toml: {sorted(odd)}"
    done = _run("twine", "check", "--strict", str(wheel.path))
    if done.returncode != 0:
        yield f"metadata: twine: {' '.join(done.stdout.split())}"


def libraries(wheel: WheelFile) -> Iterator[str]:
    """No library that a system might lack, no symbol newer than the wheel's platform tag."""
    for name, binary in zip(wheel.extensions, wheel.binaries, strict=True):
        if binary is None:
            yield f"libraries: {name} is no ELF, Mach-O or PE file"
            continue
        for library in _linked(binary):
            if not (SYSTEM_LIBRARIES.fullmatch(library) or wheel.bundles(library)):
                yield f"libraries: {name} links {library}"
    if sys.platform == "linux" and any("linux" in platform for platform in wheel.platforms):
        yield from _auditwheel(wheel)


def _linked(binary: Any) -> list[str]:
    if isinstance(binary, lief.ELF.Binary):
        return [str(library) for library in binary.libraries]
    if isinstance(binary, lief.MachO.Binary):
        own_name = lief.MachO.LoadCommand.TYPE.ID_DYLIB
        return [library.name for library in binary.libraries if library.command != own_name]
    return [imported.name for imported in binary.imports]


def _auditwheel(wheel: WheelFile) -> Iterator[str]:
    # Libraries are judged by name: what this machine has of them says nothing about another.
    done = _run("auditwheel", "show", "--json", "--ldpaths", "/nowhere", str(wheel.path))
    if done.returncode != 0:
        yield f"libraries: auditwheel: {' '.join(done.stderr.split())[-300:]}"
        return
    found = json.loads(done.stdout)
    # Which auditwheel knows under its system's name only, and counts as a fault of the whole.
    known, told = ({MUSL}, "sym_tag") if wheel.musl else (set(), "overall_tag")
    for library in sorted(found["external_libs"].keys() - known):
        yield f"libraries: auditwheel finds {library}, which no platform tag allows"
    floor = _platform_version(found[told])
    tags = [version for tag in wheel.platforms if (version := _platform_version(tag))]
    if floor is None or not tags or floor > max(tags):
        yield f"libraries: it needs {found[told]}, its tags are {sorted(wheel.platforms)}"


def _platform_version(tag: str) -> tuple[int, int] | None:
    found = re.match(r"(?:many|musl)linux_(\d+)_(\d+)_", tag)
    return (int(found[1]), int(found[2])) if found else None


def stripped(wheel: WheelFile) -> Iterator[str]:
    """No symbol table and no debug information."""
    for name, binary in zip(wheel.extensions, wheel.binaries, strict=True):
        sections = [] if binary is None else [str(section.name) for section in binary.sections]
        debug = [s for s in sections if s == ".symtab" or re.match(r"[._]+z?debug", s)]
        if debug:
            yield f"stripped: {name} has {', '.join(debug)}"


def stable_abi(wheel: WheelFile) -> Iterator[str]:
    """Nothing but the stable ABI of the oldest Python that the wheel is for."""
    if wheel.abi not in {"abi3", "abi3t"}:
        return  # a wheel for one version
    done = _run("abi3audit", "--strict", "--report", str(wheel.path))
    if not done.stdout.strip():
        yield f"abi: abi3audit: {' '.join(done.stderr.split())[-300:]}"
        return
    (spec,) = json.loads(done.stdout)["specs"].values()
    allowed = {MODULE_EXPORT} if wheel.abi == "abi3t" else set()
    for audited in spec["wheel"]:
        result = audited["result"]
        foreign = sorted(set(result["non_abi3_symbols"]) - allowed)
        if foreign:
            yield f"abi: {audited['name']} uses {', '.join(foreign)}, not in the stable ABI"
        if not result["is_abi3_baseline_compatible"]:
            yield f"abi: {audited['name']} needs Python {result['computed']}, its tag says {result['baseline']}"


def size(wheel: WheelFile) -> Iterator[str]:
    """Below 3 MB."""
    actual = wheel.path.stat().st_size
    if actual >= MAX_SIZE:
        yield f"size: {actual:,} bytes, {MAX_SIZE:,} are too many"


def bill_of_materials(wheel: WheelFile) -> Iterator[str]:
    """One CycloneDX file, which names crates of the lock file alone, the core and pyo3 among them."""
    files = [name for name in wheel.names if name.startswith(f"{wheel.info}/sboms/")]
    if len(files) != 1:
        yield f"sbom: {len(files)} files in {wheel.info}/sboms instead of one"
        return
    bill = json.loads(wheel.read(files[0]))
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text("utf-8"))
    locked = {(package["name"], package["version"]) for package in lock["package"]}
    named = {(part["name"], part["version"]) for part in bill.get("components", [])}
    if bill.get("bomFormat") != "CycloneDX" or not {"schematic_core", "pyo3"} <= {
        n for n, _ in named
    }:
        yield f"sbom: {files[0]} does not list the core and pyo3 in CycloneDX"
    for name, version in sorted(named - locked):
        yield f"sbom: {name} {version} is not in Cargo.lock"


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of this interpreter's environment, in a directory where it finds nothing else."""
    with tempfile.TemporaryDirectory() as elsewhere:
        return subprocess.run(
            [sys.executable, "-m", tool, *arguments],
            cwd=elsewhere,
            capture_output=True,
            text=True,
            check=False,
        )


CHECKS: tuple[Callable[[WheelFile], Iterator[str]], ...] = (
    contents,
    extension_name,
    web_assembly,
    record,
    metadata,
    libraries,
    stripped,
    stable_abi,
    size,
    bill_of_materials,
)


def faults(path: Path) -> list[str]:
    """Return every fault of a wheel; none if it is good."""
    with WheelFile(path.resolve()) as wheel:
        return [fault for check in CHECKS for fault in check(wheel)]
