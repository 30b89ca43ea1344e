"""The spool of a client: what is on disk, what is adopted, what is reported."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    Schematic,
    SchematicConfig,
    SpoolConfig,
)
from schematic_native._native import Core
from schematic_native.emulator import Emulator
from tests.conftest import ACME, API_KEY, eventually, plain, streaming
from tests.forks import in_fork

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schematic_native.config.results import SpoolStatus

DAY = 86_400.0
forking = pytest.mark.filterwarnings("ignore:.*use of fork\\(\\):DeprecationWarning")


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator in a process of its own, so that no forked child has a copy of its sockets."""
    with Emulator() as running:
        yield running


def make(emulator: Emulator, spool: object, **fields: object) -> Schematic:
    return Schematic(API_KEY, SchematicConfig(**plain(emulator, spool=spool, **fields)))


def spool_of(client: Schematic | AsyncSchematic) -> SpoolStatus:
    spool = client.status().spool
    assert spool is not None
    return spool


def tracked(emulator: Emulator) -> list[str]:
    tracks = [event for event in emulator.events() if event["type"] == "track"]
    return sorted(event["body"]["event"] for event in tracks if not event.get("duplicate"))


def files(directory: Path, ending: str) -> list[Path]:
    return sorted(directory.rglob(f"*{ending}"))


def make_core(directory: Path, *, max_bytes: int = 1024 * 1024, **settings: Any) -> Core:
    return Core(api_key=API_KEY, spool=(str(directory), max_bytes, None), **settings)


def texts(core: Core) -> list[str]:
    """The names of the events that wait in a core."""
    names = []
    while (batch := core.take_batch()) is not None:
        names += [event["body"]["event"] for event in json.loads(batch.body)["events"]]
    return names


def adopted(core: Core, count: int) -> None:
    """Wait until the core has adopted so many events."""
    core.start_spool()
    eventually(lambda: (core.spool_counts() or {})["adopted"] >= count)


def test_usage_is_on_disk_when_the_call_returns_and_gone_when_it_is_delivered(
    emulator: Emulator, tmp_path: Path
) -> None:
    with make(emulator, tmp_path, event_buffer_period=0.05) as client:
        with emulator.fail("status", on="capture", status=503):
            client.track("a", ACME)
            client.identify({"id": "u"})
            assert spool_of(client).events == 2
            (segment,) = files(tmp_path, ".v1")
            content = segment.read_bytes()
            assert b'"event":"a"' in content
            assert API_KEY.encode() not in content
        eventually(lambda: spool_of(client).events == 0)
    assert tracked(emulator) == ["a"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_flag_checks_are_not_kept(emulator: Emulator, tmp_path: Path) -> None:
    with make(emulator, tmp_path) as client:
        client.check_flag("inference", ACME)
        assert spool_of(client).events == 0


def test_a_shutdown_leaves_what_it_cannot_deliver_to_the_next_client(
    emulator: Emulator, tmp_path: Path, dead_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with make(emulator, tmp_path, event_capture_url=dead_url) as client:
        client.track("a", ACME)
    assert "usage stays in the spool" in caplog.text
    with make(emulator, tmp_path, event_buffer_period=0.05) as client:
        client.initialize()
        eventually(lambda: tracked(emulator) == ["a"])
        assert spool_of(client).adopted == 1


def test_usage_that_found_no_room_is_kept_at_the_shutdown_if_there_is_room_then(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "spool"
    directory.write_text("")  # a file is in the way
    core = make_core(directory)
    core.track("sending")
    fault, _ = core.spool_report()
    assert fault is not None
    assert "cannot be written" in fault
    batch = core.take_batch()
    assert batch is not None
    core.track("queued")
    directory.unlink()
    assert (core.spool_counts() or {})["events"] == 0
    eventually(lambda: _keeps(core))
    assert core.close_spool([batch]) == 0
    next_core = make_core(directory)
    adopted(next_core, 3)
    assert {"sending", "queued"} < set(texts(next_core))


def _keeps(core: Core) -> bool:
    """Tell whether the spool works again, which it tries once in a second."""
    core.track("try")
    return (core.spool_counts() or {})["events"] > 0


async def test_an_async_client_has_one_too(emulator: Emulator, tmp_path: Path) -> None:
    config = AsyncSchematicConfig(**plain(emulator, spool=SpoolConfig(tmp_path, fsync="always")))
    async with AsyncSchematic(API_KEY, config) as client:
        await client.track("a", ACME)
        assert spool_of(client).events == 1
    assert tracked(emulator) == ["a"]


def test_settles_are_kept(emulator: Emulator, tmp_path: Path) -> None:
    fields = streaming(emulator, spool=str(tmp_path))
    with Schematic(API_KEY, SchematicConfig(**fields)) as client:
        client.initialize()
        reservation = client.check("inference", ACME, usage=5).reservation
        assert reservation is not None
        with emulator.fail("status", on="capture", status=503):
            client.track_with_reservation(reservation, 3)
            assert spool_of(client).events == 1
    assert len(tracked(emulator)) == 1


def test_a_full_spool_refuses_what_is_new_and_the_service_still_gets_everything(
    emulator: Emulator, tmp_path: Path
) -> None:
    spool = SpoolConfig(tmp_path, max_bytes=128 * 1024)
    with make(emulator, spool, event_buffer_period=0.05) as client:
        with emulator.fail("status", on="capture", status=503):
            for number in range(1000):
                client.track(f"{number:04}", ACME, None, {"text": "x" * 200})
            status = spool_of(client)
            assert status.refused > 0
            assert status.events + status.refused == 1000
            assert status.bytes <= 128 * 1024
            line = f'spool_exceptions_total{{kind="refused"}} {status.refused}'
            assert line in client.metrics_text()
        eventually(lambda: client.status().sent_events == 1000)
    assert tracked(emulator) == [f"{number:04}" for number in range(1000)]


def test_an_event_that_the_service_refuses_is_not_sent_again(
    emulator: Emulator, tmp_path: Path
) -> None:
    with (
        emulator.fail("status", on="capture", status=422, times=1),
        make(emulator, tmp_path) as client,
    ):
        client.track("a", ACME)
        eventually(lambda: client.status().dropped_events == 1)
        assert spool_of(client).events == 0
    assert tracked(emulator) == []


def test_two_clients_on_one_directory_leave_each_other_alone(
    emulator: Emulator, tmp_path: Path, dead_url: str
) -> None:
    with make(emulator, tmp_path, event_capture_url=dead_url) as first:
        first.track("first", ACME)
        with make(emulator, tmp_path) as second:
            second.track("second", ACME)
        assert tracked(emulator) == ["second"]
        assert second.status().spool == replace(spool_of(second), adopted=0, events=0)
        assert spool_of(first).events == 1


def test_the_usage_of_another_account_is_never_sent(emulator: Emulator, tmp_path: Path) -> None:
    config = SchematicConfig(**plain(emulator, spool=tmp_path))
    other = Schematic("sch_dev_other_account", config)
    same = Schematic(API_KEY, config)
    try:
        first, second = other._settings.spool, same._settings.spool
        assert first is not None
        assert second is not None
        assert first[0] != second[0]
        assert "other_account" not in first[0]
    finally:
        other.shutdown()
        same.shutdown()


def test_what_is_older_than_a_day_is_parked_and_reported(tmp_path: Path) -> None:
    dead = make_core(tmp_path, clock=lambda: 1000.0)
    dead.track("old", quantity=5)
    del dead
    core = make_core(tmp_path, clock=lambda: 1000.0 + DAY + 1.0)
    adopted(core, 1)
    assert texts(core) == []
    assert (core.spool_counts() or {})["parked"] == 1
    _, notices = core.spool_report()
    assert any("too old" in notice for notice in notices)
    (parked,) = files(tmp_path, ".parked.jsonl")
    line = json.loads(parked.read_text())
    assert (line["written_at"], line["event"]["body"]["quantity"]) == (1_000_000, 5)


def test_what_is_a_day_old_or_less_is_sent_with_the_key_it_had(tmp_path: Path) -> None:
    dead = make_core(tmp_path, clock=lambda: 1000.0)
    dead.track("event", idempotency_key="given")
    dead.track("event")
    batch = dead.take_batch()
    assert batch is not None
    body = batch.body
    del dead, batch
    core = make_core(tmp_path, clock=lambda: 1000.0 + DAY)
    adopted(core, 2)
    again = core.take_batch()
    assert again is not None
    assert json.loads(again.body) == json.loads(body)


def test_a_flipped_bit_costs_its_record_alone_and_is_reported(tmp_path: Path) -> None:
    dead = make_core(tmp_path)
    for name in ("a", "b", "c"):
        dead.track(name)
    del dead
    (segment,) = files(tmp_path, ".v1")
    content = segment.read_bytes()
    segment.write_bytes(content.replace(b'"event":"b"', b'"event":"B"'))
    core = make_core(tmp_path)
    adopted(core, 2)
    assert texts(core) == ["a", "c"]
    assert (core.spool_counts() or {})["damaged"] == 1
    _, notices = core.spool_report()
    assert any("damaged" in notice for notice in notices)
    (damaged,) = files(tmp_path, ".damaged")
    assert b'"event":"B"' in damaged.read_bytes()


def test_a_torn_tail_is_cut_and_reported(tmp_path: Path) -> None:
    dead = make_core(tmp_path)
    dead.track("a")
    dead.track("b" * 100)
    del dead
    (segment,) = files(tmp_path, ".v1")
    content = segment.read_bytes()
    segment.write_bytes(content[: content.index(b"b" * 100) + 50])
    core = make_core(tmp_path)
    adopted(core, 1)
    assert texts(core) == ["a"]
    eventually(lambda: (core.spool_counts() or {})["damaged"] == 1)


def test_a_queue_that_is_full_leaves_the_rest_on_disk_and_sends_it_later(tmp_path: Path) -> None:
    core = make_core(tmp_path, max_billing_events=10)
    for number in range(250):
        core.track(str(number))
    assert core.counts()["dropped_billing"] == 0
    assert core.counts()["queued_billing"] == 250
    assert texts(core) == [str(number) for number in range(250)]


@forking
def test_a_forked_child_has_files_of_its_own_and_leaves_its_parents_alone(
    emulator: Emulator, tmp_path: Path, dead_url: str
) -> None:
    client = make(emulator, tmp_path, event_capture_url=dead_url)
    client.track("parent", ACME)

    def child() -> list[int]:
        client.track("child", ACME)
        client.shutdown()
        return [spool_of(client).adopted, spool_of(client).events]

    assert in_fork(child) == [0, 0]
    assert spool_of(client).events == 1
    assert spool_of(client).adopted == 0
    client.shutdown()
    with make(emulator, tmp_path, event_buffer_period=0.05) as next_client:
        next_client.initialize()
        eventually(lambda: tracked(emulator) == ["child", "parent"])


@forking
def test_a_child_that_outlives_its_parent_does_not_keep_its_lock(tmp_path: Path) -> None:
    program = """
import os, sys
from schematic_native._native import Core
core = Core(api_key="sch_dev_emulator", spool=(sys.argv[1], 1048576, None))
core.track("a")
reading, writing = os.pipe()
if os.fork() == 0:
    os.read(0, 1)  # until the test ends
    os._exit(0)
os._exit(0)
"""
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as parent:
        parent.wait(60)
        core = make_core(tmp_path)
        adopted(core, 1)
        assert texts(core) == ["a"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few pages."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(mount, check=False).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_refuses_and_is_no_crash(small_disk: Path) -> None:
    core = make_core(small_disk, max_bytes=64 * 1024 * 1024)
    core.start_spool()
    for _ in range(50):
        core.track("event", traits=json.dumps({"text": "x" * 10_000}).encode())
    counts = core.spool_counts() or {}
    assert counts["refused"] > 0
    fault, _ = core.spool_report()
    assert fault is not None
    assert "cannot be written" in fault
    assert len(texts(core)) == 50
    core.close_spool([])


@pytest.mark.parametrize(
    ("spool", "error"),
    [
        (5, TypeError),
        ("", ValueError),
        (SpoolConfig("d", fsync="sometimes"), ValueError),  # type: ignore[arg-type]
        (SpoolConfig("d", fsync=0), ValueError),
        (SpoolConfig("d", fsync=True), TypeError),
        ("half a pair: \ud800", ValueError),
        ("nul: \0", ValueError),
        (SpoolConfig("d", max_bytes=2**64), ValueError),
        (SpoolConfig("d", max_bytes=1), ValueError),
    ],
)
def test_a_wrong_spool_is_refused_by_name(spool: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^spool"):
        Schematic(API_KEY, SchematicConfig(spool=spool))


def test_an_offline_client_has_no_spool(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        client = Schematic("", SchematicConfig(offline=True, spool=tmp_path))
    assert client.status().spool is None
    assert "spool has no effect" in caplog.text
