"""The command line, as a person runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import eventually

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "schematic_native.tools.subcommands"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=250, check=False
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_tells_where_it_is_and_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    arguments = ["emulator", "--journal", str(tmp_path / "journal")]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"(http://127\.0\.0\.1:\d+).* (sch_\w+)$", line)
        assert found is not None, line
        headers = {"X-Schematic-Api-Key": found[2]}
        with httpx.Client(
            base_url=found[1], headers=headers, trust_env=False, timeout=60
        ) as client:
            assert client.post("/flags/check", json={}).status_code == 200
            process.send_signal(number)
            assert process.wait(60) == 0


# A signal that is given to another thread does not wake the main thread, nor does one that comes in the
# instant before the main thread waits.
ELSEWHERE = """
import signal, sys, threading
from schematic_native.tools.subcommands import main

threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
sys.exit(main(["emulator"]))
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="threads block no signals here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_does_not_wake_the_main_thread_ends_it_all_the_same(
    number: signal.Signals,
) -> None:
    command = [sys.executable, "-c", ELSEWHERE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "Dashboard: " in [process.stdout.readline() for _ in range(2)][1]
            process.send_signal(number)
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_it_opens_the_dashboard_on_request(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser.py"
    browser.write_text(f"import sys; open({str(opened)!r}, 'w').write(sys.argv[1])")
    environment = {**os.environ, "BROWSER": f"{sys.executable} {browser} %s"}
    with subprocess.Popen(
        [*COMMAND, "emulator", "--open"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        url = lines[1].removeprefix("Dashboard: ").rstrip()
        eventually(lambda: opened.exists() and opened.read_text() == url)
        answer = httpx.get(url, trust_env=False, timeout=60)
        assert "<h1>Schematic emulator</h1>" in answer.text
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "/nonexistent.json"], "No such file"),
        (["--host", "0.0.0.0"], "allow_remote"),  # noqa: S104
        (["--port", "99999"], "port"),
    ],
)
def test_what_it_cannot_do_it_says_and_fails(arguments: list[str], message: str) -> None:
    result = run("emulator", *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_help_lists_every_subcommand_and_argument() -> None:
    assert "emulator" in run("--help").stdout
    result = run("emulator", "--help")
    assert result.returncode == 0
    assert all(
        name in result.stdout for name in ("--port", "--seed", "--host", "--journal", "--open")
    )


def test_no_subcommand_and_an_unknown_one_fail() -> None:
    assert run().returncode == 2
    assert run("juggle").returncode == 2
