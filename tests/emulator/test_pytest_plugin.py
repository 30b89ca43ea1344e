"""The fixtures for pytest, in test suites of their own: what people write, run as they run it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

SUITE = """
import pytest

ACME = {"id": "acme"}


@pytest.mark.parametrize("number", range(1, 201))
def test_each_begins_anew(schematic_client, schematic_emulator, number):
    state = schematic_emulator.state()
    assert state["leases"] == {}
    assert state["events"] == 0
    assert state["companies"]["comp_acme"]["balances"] == {"credit_inference": 1_000_000_000}
    result = schematic_client.check("inference", company=ACME, usage=number)
    assert result.allowed
    schematic_client.track_with_reservation(result.reservation, number)
    if number % 50 == 0:  # the last thing that a client does is to send what it has
        schematic_client.shutdown()
        billed = schematic_emulator.state()["billed"]
        assert billed == {"comp_acme": {"inference_tokens": number}}
"""

# Writes down how long each test took, with what its fixtures did before and after.
TIMES = """
import collections, json

times = collections.Counter()


def pytest_runtest_logreport(report):
    times[report.nodeid] += report.duration


def pytest_sessionfinish():
    with open("times", "w") as file:
        json.dump(list(times.values()), file)
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest on files, in a process and a folder of their own."""

    def run(*arguments: str, **files: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("PYTEST_ADDOPTS", None)
        # As one of this suite's own workers, pytest would take the variables of its parent.
        environment = {k: v for k, v in environment.items() if not k.startswith("PYTEST_XDIST")}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )

    return run


def counts(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Read how many tests ended in which way."""
    last = done.stdout.rstrip().splitlines()[-1]
    return {word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", last)}


def test_it_is_an_entry_point() -> None:
    [point] = [each for each in entry_points(group="pytest11") if each.name == "schematic_native"]
    assert point.value == "schematic_native.pytest_plugin"


def test_loading_it_loads_neither_the_emulator_nor_anything_that_waits() -> None:
    program = (
        "import sys, schematic_native.pytest_plugin\n"
        "print([name for name in sys.modules if 'emulator' in name]\n"
        "      + sorted({'httpx', 'starlette', 'uvicorn', 'websockets'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=250, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_suite_that_uses_no_fixture_starts_no_emulator(run: Run) -> None:
    done = run(
        test_plain="import sys\ndef test_plain():\n"
        "    assert not [name for name in sys.modules if 'emulator' in name]\n"
    )
    assert counts(done) == {"passed": 1}, done.stdout


def test_a_users_suite_of_200_tests(
    run: Run, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    done = run(test_suite=SUITE, conftest=TIMES)
    assert counts(done) == {"passed": 200}, done.stdout[-3000:]
    times = json.loads((tmp_path / "times").read_text())
    assert len(times) == 200
    # The first starts the emulator. Whether the others are fast is for people to judge: no test asserts a time.
    middle = sorted(times)[100] * 1000
    record_property("milliseconds_a_test", middle)
    print(f"{middle:.1f} ms a test (median), emulator and client together")  # noqa: T201


def test_each_worker_has_an_emulator_of_its_own(run: Run, tmp_path: Path) -> None:
    suite = SUITE.replace("range(1, 201)", "range(1, 21)") + (
        "\n\n"
        "def test_where(schematic_emulator, worker_id, tmp_path_factory):\n"
        f"    with open({str(tmp_path)!r} + '/' + worker_id, 'w') as file:\n"
        "        file.write(str(schematic_emulator.port))\n"
    )
    done = run("-n", "2", "--dist", "loadfile", test_one=suite, test_two=suite)
    assert counts(done) == {"passed": 42}, done.stdout[-3000:]
    ports = {(tmp_path / name).read_text() for name in ("gw0", "gw1")}
    assert len(ports) == 2


def test_a_marker_says_the_seed(run: Run, tmp_path: Path) -> None:
    seed: dict[str, Any] = {
        "api_key": "sch_file",
        "companies": [
            {
                "id": "comp_file",
                "account_id": "a",
                "environment_id": "e",
                "keys": {"id": "filed"},
                "credit_balances": {"coins": 5},
            }
        ],
    }
    (tmp_path / "seed.json").write_text(json.dumps(seed))
    done = run(
        conftest=(
            "import pytest\n"
            "@pytest.fixture\n"
            "def schematic_seed():\n"
            "    return {'api_key': 'sch_conftest'}\n"
        ),
        test_seeds=(
            "import pathlib, pytest\n"
            "@pytest.mark.schematic_seed('seed.json')\n"
            "def test_a_file(schematic_emulator, schematic_client):\n"
            "    assert schematic_emulator.api_key == 'sch_file'\n"
            "    balance = schematic_client.get_credit_balance({'id': 'filed'}, 'coins')\n"
            "    assert balance.remaining == 5\n"
            "    schematic_emulator.set_balance('comp_file', 'coins', 1)\n"
            "@pytest.mark.schematic_seed(pathlib.Path('seed.json'))\n"
            "def test_the_same_file_again(schematic_emulator):\n"
            "    company = schematic_emulator.state()['companies']['comp_file']\n"
            "    assert company['balances'] == {'coins': 5}\n"
            "@pytest.mark.schematic_seed({'api_key': 'sch_mapping'})\n"
            "def test_a_mapping(schematic_emulator):\n"
            "    assert schematic_emulator.api_key == 'sch_mapping'\n"
            "@pytest.mark.schematic_seed(None)\n"
            "def test_the_one_that_ships(schematic_client):\n"
            "    assert schematic_client.check_flag('beta', {'id': 'acme'}) in {True, False}\n"
            "def test_the_one_of_the_conftest(schematic_emulator):\n"
            "    assert schematic_emulator.api_key == 'sch_conftest'\n"
            "@pytest.mark.schematic_seed()\n"
            "def test_none(schematic_emulator):\n"
            "    pass\n"
        ),
    )
    assert counts(done) == {"passed": 5, "error": 1}, done.stdout[-3000:]
    assert "schematic_seed takes one argument" in done.stdout


def test_a_ledger_that_does_not_balance_fails_its_test_and_no_other(run: Run) -> None:
    done = run(
        test_books=(
            "def test_wrong(monkeypatch, schematic_emulator):\n"
            "    report = {'balanced': False, 'problems': ['a credit was minted']}\n"
            "    monkeypatch.setattr(type(schematic_emulator), 'audit', lambda self: report)\n"
            "def test_right(schematic_client):\n"
            "    result = schematic_client.check('inference', company={'id': 'acme'}, usage=5)\n"
            "    schematic_client.track_with_reservation(result.reservation, 3)\n"
        )
    )
    assert done.returncode == 1
    assert "the emulator's ledger does not balance:\n  a credit was minted" in done.stdout
    assert counts(done) == {"passed": 2, "error": 1}, done.stdout[-3000:]


def test_what_a_test_leaves_behind_does_not_reach_the_next(run: Run) -> None:
    leave = (
        "emulator.kill()",
        "emulator.stop()",
        "emulator.restart()",
        "emulator.fail('freeze')",
        "emulator.fail('refuse')",
        "emulator.advance(10**6)",
        "emulator.freeze_clock()",
        "emulator.delete_company('comp_acme')",
    )
    tests = [
        f"def test_{number}(schematic_emulator, schematic_client):\n"
        "    emulator, client = schematic_emulator, schematic_client\n"
        "    state = emulator.state()\n"
        "    assert abs(state['now'] - time.time()) < 1000\n"
        "    result = client.check('inference', company={'id': 'acme'}, usage=5)\n"
        "    assert result.allowed, result\n"
        "    client.track_with_reservation(result.reservation, 5)\n"
        f"    {what}\n"
        for number, what in enumerate([*leave, "pass"])
    ]
    done = run(test_left="import time\n" + "".join(tests))
    assert counts(done)["passed"] == len(leave) + 1, done.stdout[-3000:]
    assert "error" not in counts(done), done.stdout[-3000:]


def test_an_asynchronous_client_works_on_the_loop_of_each_test(run: Run) -> None:
    body = (
        "    result = await async_schematic_client.check(\n"
        "        'inference', company={'id': 'acme'}, usage=5\n"
        "    )\n"
        "    assert result.allowed\n"
        "    await async_schematic_client.track_with_reservation(result.reservation, 4)\n"
    )
    done = run(
        test_asyncio="".join(
            f"async def test_{number}(async_schematic_client):\n{body}" for number in range(3)
        ),
        test_anyio=(
            "import pytest\n"
            "@pytest.fixture\n"
            "def anyio_backend():\n"
            "    return 'asyncio'\n"
            f"@pytest.mark.anyio\nasync def test_anyio(async_schematic_client, anyio_backend):\n{body}"
        ),
        test_billed=(
            "import pytest\n"
            "@pytest.fixture\n"
            "def events(schematic_emulator):\n"
            "    found = []\n"
            "    yield found\n"
            "    found += schematic_emulator.events()\n"
            "    assert [e['body'].get('quantity') for e in found if e['type'] == 'track'] == [4]\n"
            f"async def test_it_sends_its_events(events, async_schematic_client):\n{body}"
        ),
    )
    assert counts(done) == {"passed": 5}, done.stdout[-3000:]
    assert done.returncode == 0


def test_a_conftest_may_configure_the_clients(run: Run) -> None:
    done = run(
        conftest=(
            "import dataclasses, pytest\n"
            "@pytest.fixture\n"
            "def schematic_config(schematic_config):\n"
            "    return dataclasses.replace(schematic_config, flag_defaults={'gone': True})\n"
            "@pytest.fixture\n"
            "def async_schematic_config(async_schematic_config):\n"
            "    return dataclasses.replace(async_schematic_config, flag_defaults={'gone': True})\n"
        ),
        test_config=(
            "def test_sync(schematic_client):\n"
            "    assert schematic_client.check_flag('gone', {'id': 'acme'})\n"
            "async def test_async(async_schematic_client):\n"
            "    assert await async_schematic_client.check_flag('gone', {'id': 'acme'})\n"
        ),
    )
    assert counts(done) == {"passed": 2}, done.stdout[-3000:]


def test_without_the_extra_a_fixture_says_what_to_install(run: Run) -> None:
    done = run(
        conftest="import sys\nsys.modules['uvicorn'] = None\n",
        test_missing="def test_it(schematic_emulator):\n    pass\ndef test_other():\n    pass\n",
    )
    assert counts(done) == {"passed": 1, "error": 1}, done.stdout[-3000:]
    assert "pip install 'schematic-native[emulator]'" in done.stdout


def test_its_names_do_not_clash_with_the_fixtures_of_this_suite() -> None:
    from schematic_native import pytest_plugin  # noqa: PLC0415
    from tests import conftest  # noqa: PLC0415
    from tests.emulator import conftest as inner  # noqa: PLC0415

    ours = {name for name in vars(pytest_plugin) if "schematic" in name}
    assert ours
    assert not ours & (set(vars(conftest)) | set(vars(inner)))
