"""The command line: help on each subcommand, and exit status 0 only on success."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from schematic_native import __build__
from schematic_native.emulator import Emulator
from schematic_native.redis.rights import COMMANDS, acl_rule
from schematic_native.tools.diagnosis.finding import clock
from schematic_native.tools.subcommands import SUBCOMMANDS, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "schematic_native.tools.subcommands", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


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
        [sys.executable, "-c", blocked], capture_output=True, text=True, timeout=250, check=False
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


def test_the_doctor_says_what_to_do_about_each_failure() -> None:
    done = run("doctor", "--base-url", "http://127.0.0.1:1", "--redis-url", "redis://127.0.0.1:1")
    lines = done.stdout.splitlines()
    failed = [number for number, line in enumerate(lines) if line.startswith("FAIL")]
    assert len(failed) == 2
    assert all(lines[number + 1].startswith("      -> ") for number in failed)


def test_the_doctor_tells_the_speed_the_clocks_and_what_redis_allows(redis_server) -> None:
    with Emulator() as emulator:
        given = ["--base-url", emulator.base_url, "--api-key", emulator.api_key]
        done = run("doctor", *given, "--redis-url", redis_server.url)
        assert done.returncode == 0, done.stdout
        assert re.search(r"ok    speed: a check takes \d+\.\d\d us", done.stdout)
        assert "ok    clock of the service: unknown, as the response has no date" in done.stdout
        assert re.search(r"ok    clock of Redis: \d+\.\d+ s (ahead of|behind) this", done.stdout)
        assert f"ok    commands of leases: all {len(COMMANDS)} are allowed" in done.stdout
        assert redis_server.command("KEYS", "*") == []
        rule = acl_rule("schematic:").replace(">PASSWORD", ">of-a-test").replace("+evalsha ", "")
        redis_server.command(*rule.split())
        url = f"redis://schematic:of-a-test@127.0.0.1:{redis_server.port}"
        refused = run("doctor", *given, "--redis-url", url)
    assert refused.returncode == 1
    assert "FAIL  commands of leases: refused: EVALSHA (" in refused.stdout
    assert (
        f"      -> on the server, with a password of yours: {acl_rule('schematic:')}"
        in refused.stdout
    )
    assert "of-a-test" not in refused.stdout


class Dated(BaseHTTPRequestHandler):
    """A service whose clock is a minute ahead."""

    def do_POST(self) -> None:
        self.send_response_only(200)
        self.send_header("Date", formatdate(time.time() + 60, usegmt=True))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_doctor_says_that_the_clocks_differ() -> None:
    with HTTPServer(("127.0.0.1", 0), Dated) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = run("doctor", "--base-url", f"http://127.0.0.1:{server.server_port}")
        thread.join()
    assert done.returncode == 1
    assert re.search(
        r"FAIL  clock of the service: (5[5-9]|6[0-5]) s ahead of this machine", done.stdout
    )


@pytest.mark.parametrize(
    ("ahead", "accuracy", "ok"), [(0.4, 0.01, True), (-10.5, 0.6, True), (-11.0, 0.5, False)]
)
def test_a_clock_that_leases_do_not_allow_for_fails(
    ahead: float, accuracy: float, ok: bool
) -> None:
    finding = clock("Redis", ahead, accuracy)
    assert finding.ok is ok
    assert ("behind" in finding.detail) is (ahead < 0)
    assert "NTP" in finding.remedy


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
