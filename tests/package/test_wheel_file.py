"""A good wheel has no fault; each way of breaking it is told by name."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import lief
import pytest
from scripts.wheel_file import faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.package.conftest import Members


def second_extension(members: Members) -> None:
    members["schematic_native/_other.abi3.so"] = members[members.extension]


def no_extension(members: Members) -> None:
    del members[members.extension]


def missing(name: str) -> Callable[[Members], None]:
    return lambda members: members.pop(name) and None


def stray_file(members: Members) -> None:
    members["schematic_native/notes.txt"] = b"not for users"


def extension_of_one_python(members: Members) -> None:
    members["schematic_native/_native.cpython-310-x86_64-linux-gnu.so"] = members.pop(
        members.extension
    )


def web_assembly(members: Members) -> None:
    members["schematic_native/engine.wasm"] = b"\0asm\1\0\0\0"


def wasmtime(members: Members) -> None:
    members.metadata(b"Requires-Dist: httpx", b"Requires-Dist: wasmtime>=30\nRequires-Dist: httpx")


def foreign_library(members: Members) -> None:
    binary = lief.parse(members[members.extension])
    binary.add_library("libsodium.so.23")
    members[members.extension] = binary.write_to_bytes()


def debug_information(members: Members) -> None:
    binary = lief.parse(members[members.extension])
    section = lief.ELF.Section(".debug_info")
    section.content = [0] * 64
    binary.add(section, loaded=False)
    members[members.extension] = binary.write_to_bytes()


def unstable_abi(members: Members) -> None:
    # Two names of one length: one of the stable ABI, one that it leaves out.
    stable, private = b"\0PyObject_GetIter\0", b"\0_PyObject_GetState"[:17] + b"\0"
    assert members[members.extension].count(stable) == 1
    members[members.extension] = members[members.extension].replace(stable, private)


def too_large(members: Members) -> None:
    members[members.extension] += os.urandom(2_500_000)


def no_page(members: Members) -> None:
    name = f"{members.info}/METADATA"
    members[name] = members[name].partition(b"\n\n")[0] + b"\n"


def other_version(members: Members) -> None:
    members.metadata(b"\nVersion: ", b"\nVersion: 9.")


def no_bill_of_materials(members: Members) -> None:
    del members[next(name for name in members if "/sboms/" in name)]


def unlocked_crate(members: Members) -> None:
    name = next(name for name in members if "/sboms/" in name)
    bill = members[name]
    assert b'"name": "libc"' in bill or b'"name":"libc"' in bill
    members[name] = bill.replace(b'"libc"', b'"libd"')


BROKEN = {
    "contents: 2 extension modules": second_extension,
    "contents: 0 extension modules": no_extension,
    "contents: schematic_native/py.typed is missing": missing("schematic_native/py.typed"),
    "contents: schematic_native/_native.pyi is missing": missing("schematic_native/_native.pyi"),
    "contents: schematic_native/redis/reserve.lua is missing": missing(
        "schematic_native/redis/reserve.lua"
    ),
    "contents: schematic_native/notes.txt is no part": stray_file,
    "tag: Python does not look for": extension_of_one_python,
    "wasm: schematic_native/engine.wasm": web_assembly,
    "wasm: schematic_native-": wasmtime,
    "metadata: dependencies differ from pyproject.toml: ['wasmtime>=30']": wasmtime,
    "metadata: version 9.": other_version,
    "metadata: twine: ": no_page,
    "libraries: schematic_native/_native.abi3.so links libsodium.so.23": foreign_library,
    "libraries: auditwheel finds libsodium.so.23": foreign_library,
    "stripped: schematic_native/_native.abi3.so has .debug_info": debug_information,
    "abi: _native.abi3.so uses": unstable_abi,
    "size: ": too_large,
    "sbom: 0 files": no_bill_of_materials,
    "sbom: libd ": unlocked_crate,
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_wheel_is_told_by_its_fault(fault: str, members: Members, tmp_path: Path) -> None:
    BROKEN[fault](members)
    members.record()
    found = faults(members.write(tmp_path))
    assert any(told.startswith(fault) for told in found), found


def test_a_good_wheel_has_no_fault(good: Path) -> None:
    assert faults(good) == []


def test_a_good_wheel_written_anew_has_no_fault(members: Members, tmp_path: Path) -> None:
    members.record()
    assert faults(members.write(tmp_path)) == []


def test_a_changed_file_is_told(members: Members, tmp_path: Path) -> None:
    members["schematic_native/client.py"] += b"\n"
    assert faults(members.write(tmp_path)) == [
        "record: schematic_native/client.py is not what RECORD says"
    ]


def musl_extension(directory: Path) -> bytes:
    """Return a library that is linked to musl, as cross compilers link it: to `libc.so`."""
    source, library = directory / "extension.c", directory / "extension.so"
    source.write_text('int puts(const char *); int PyInit__native(void) { return puts(""); }')
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl"]
    subprocess.run([*zig, "-shared", "-s", "-o", library, source], check=True)
    return library.read_bytes()


def for_musl(members: Members) -> str:
    return f"{members.info.removesuffix('.dist-info')}-cp310-abi3-musllinux_1_2_x86_64.whl"


@pytest.mark.skipif(sys.platform != "linux", reason="zig is installed on Linux")
def test_a_wheel_for_musl_has_no_fault(members: Members, tmp_path: Path) -> None:
    members[members.extension] = musl_extension(tmp_path)
    members.record()
    assert faults(members.write(tmp_path, for_musl(members))) == []


@pytest.mark.skipif(sys.platform != "linux", reason="auditwheel is installed on Linux")
def test_a_wheel_for_musl_that_wants_glibc_is_told(members: Members, tmp_path: Path) -> None:
    found = faults(members.write(tmp_path, for_musl(members)))
    assert any(told.startswith("libraries: ") for told in found), found


def test_a_platform_tag_that_promises_too_much_is_told(members: Members, tmp_path: Path) -> None:
    older = members.good.name.replace("manylinux2014_x86_64.manylinux_2_17", "manylinux_2_5")
    found = faults(members.write(tmp_path, older))
    assert found == [
        "libraries: it needs manylinux_2_17_x86_64, its tags are ['manylinux_2_5_x86_64']"
    ]


def test_a_stable_abi_tag_that_promises_too_much_is_told(members: Members, tmp_path: Path) -> None:
    older = members.good.name.replace("cp310-abi3", "cp33-abi3")
    found = faults(members.write(tmp_path, older))
    assert any(told.startswith("abi: _native.abi3.so needs Python 3.") for told in found), found
