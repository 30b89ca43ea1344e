"""The command line: help on each subcommand, and exit status 0 only on success."""

from __future__ import annotations

import subprocess
import sys

import pytest

from schematic_native import __build__
from schematic_native.emulator import Emulator
from schematic_native.tools.subcommands import SUBCOMMANDS, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "schematic_native.tools.subcommands", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_help_names_every_subcommand() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in SUBCOMMANDS)
    assert {"emulator", "demo", "bench", "doctor"} <= set(SUBCOMMANDS)


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_each_subcommand_has_help(subcommand: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([subcommand, "--help"])
    assert ended.value.code == 0
    assert f"schematic-native {subcommand}" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
@pytest.mark.parametrize(
    "program",
    [
        "import schematic_native.emulator",
        *[
            f"from schematic_native.tools.subcommands import main; sys.exit(main([{n!r}]))"
            for n in ("demo", "bench")
        ],
    ],
)
def test_missing_dependencies_of_the_emulator_are_named_with_the_extra(
    program: str, missing: str
) -> None:
    blocked = f"import sys; sys.modules[{missing!r}] = None; {program}"
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert missing in done.stderr
    assert done.stderr.rstrip().endswith("; pip install 'schematic-native[emulator]'")


def test_an_unknown_subcommand_is_refused() -> None:
    assert run("dance").returncode == 2


def test_the_doctor_finds_a_reachable_service() -> None:
    with Emulator() as emulator:
        done = run("doctor", "--base-url", emulator.base_url, "--api-key", emulator.api_key)
        assert done.returncode == 0, done.stdout
        assert f"extension: {__build__}, engine " in done.stdout
        assert emulator.api_key not in done.stdout
        refused = run("doctor", "--base-url", emulator.base_url, "--api-key", "sch_wrong")
    assert refused.returncode == 1
    assert "the API key was refused" in refused.stdout
    assert "sch_wrong" not in refused.stdout


def test_the_doctor_says_what_cannot_be_reached() -> None:
    done = run("doctor", "--base-url", "http://127.0.0.1:1", "--redis-url", "redis://127.0.0.1:1")
    assert done.returncode == 1
    assert "FAIL  API: http://127.0.0.1:1 cannot be reached" in done.stdout
    assert "FAIL  Redis: cannot be reached" in done.stdout


def test_the_doctor_does_not_print_a_malformed_redis_url() -> None:
    for url in ("redi://:s3cret@localhost", "redis://localhost:s3cret", "s3cret"):
        done = run("doctor", "--base-url", "http://127.0.0.1:1", "--redis-url", url)
        assert done.returncode == 1
        assert "FAIL  Redis: --redis-url is no Redis URL" in done.stdout
        assert "s3cret" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_the_doctor_explains_what_is_wrong_with_a_key_that_does_not_fit_a_header() -> None:
    done = run("doctor", "--base-url", "http://127.0.0.1:1", "--api-key", "s3cr\u00e9t")
    assert done.returncode == 1
    assert "FAIL  API: the API key must be printable ASCII" in done.stdout
    assert "s3cr" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
