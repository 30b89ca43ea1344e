"""Pods that are killed, in short, and one that is frozen; and that the audit can fail."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
import redis

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native.emulator import Emulator
from tests.conftest import ACME, API_KEY, eventually, streaming
from tests.pods import __main__ as pods
from tests.pods import journal
from tests.pods.audit import Books, Pods, audit
from tests.pods.journal import Settle, Story
from tests.pods.pod import Job
from tests.pods.watch import CREDIT, RATE, Row, Seen, read_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize("slabs", [False, True], ids=["holds", "slabs"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])
def test_the_promises_hold_while_pods_are_killed(asynchronous: bool, slabs: bool) -> None:
    said: list[str] = []
    options = {"seconds": 3.0, "pods": 3, "workers": 4, "every": 0.7, "seed": 7}
    held = pods.run(**options, asynchronous=asynchronous, slabs=slabs, say=said.append)
    assert held, "\n".join(said)


# A frozen pod

WHOLE = 2000.0


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """One whose company has but one lease's worth of credits."""
    seed = pods.seed_file()
    seed["companies"][0]["credit_balances"][CREDIT] = WHOLE
    with Emulator(seed=seed) as started:
        yield started


@contextlib.contextmanager
def running(emulator: Emulator, redis_url: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run one pod whose holds and slabs are short-lived, until it has ended in order."""
    job = Job(
        emulator.base_url,
        emulator.api_key,
        redis_url,
        str(path),
        asynchronous=False,
        slabs=True,
        workers=1,
        seed=1,
        lease_size=WHOLE,
        reservation_ttl=0.5,
        slab_lifetime=0.5,
    )
    pod = subprocess.Popen([sys.executable, "-m", "tests.pods.pod", job.to_json()])
    try:
        yield pod
        pod.send_signal(signal.SIGTERM)
        assert pod.wait(60) == 0
    finally:
        pod.kill()
        pod.wait()


def test_a_frozen_pod_does_not_spend_what_was_taken_back_from_it(emulator, redis_server, tmp_path):
    path = tmp_path / "journal"
    reader = redis.Redis.from_url(redis_server.url, decode_responses=True)
    leases = CreditLeaseConfig(
        mode="client", redis_client=reader, default_lease_size=WHOLE, sweep_interval=0.05
    )
    config = SchematicConfig(**streaming(emulator, credit_leases=leases))

    def slabs() -> list[str]:
        rows = reader.scan_iter("schematic:credit-reservation:*")
        return [row for row in rows if reader.hget(row, "eventSubtype") == "schematic_native.slab"]

    with reader, running(emulator, redis_server.url, path) as pod:
        eventually(slabs)
        pod.send_signal(signal.SIGSTOP)
        os.waitpid(pod.pid, os.WUNTRACED)  # until it stands still
        settled = journal.read(path, killed=True).settles
        with Schematic(API_KEY, config) as client:
            client.initialize()
            # Its slab lapses five seconds after the last hold that could have been carved from it.
            # The last thing that a sweep does for a hold is to take it out of the index.
            eventually(lambda: not reader.exists("schematic:credit-reservations:byExpiry"))
            row = read_row(reader)
            assert row is not None
            assert row.reserved == 0
            units = int(row.remaining / Fraction(RATE))
            all_that_is_left = client.check("inference", ACME, usage=units)
            assert all_that_is_left.allowed
            billed = {event.get("idempotency_key") for event in emulator.events()}
            pod.send_signal(signal.SIGCONT)
            eventually(lambda: journal.read(path, killed=True).denied)
            client.track_with_reservation(all_that_is_left.reservation, units)
    # What it had settled in memory, or was about to, and told nobody yet when it froze is billed when it wakes.
    untold = sum(
        settle.credits
        for hold_id, settle in settled.items()
        if f"lease-reservation:{hold_id}" not in billed
    )
    late = Pods([journal.read(path, killed=False)], 0).late
    report = emulator.audit()
    assert report["balanced"]
    assert report["credits"][CREDIT]["billed"] >= units * RATE
    assert report["credits"][CREDIT]["overage"] <= late + untold, (
        "more was billed than the lease had"
    )


# The audit


def make() -> tuple[Pods, Seen, Books]:
    """One pod that settled one hold of 20 credits with 3 units of 2 credits, and was killed."""
    story = Story(killed=True, held={"r1": 20.0}, leases={"lse_1"})
    story.settles["r1"] = Settle(units=3, credits=6.0, came_back=True)
    row = Row("lse_1", Fraction(100), Fraction(94), Fraction(0))
    event = {
        "type": "track",
        "body": {"quantity": 3},
        "idempotency_key": "lease-reservation:r1",
    }
    state: dict[str, Any] = {"leases": {"lse_1": {"granted": 100.0, "tracked": 6.0}}}
    line = {"overage": 0.0, "leased": 0.0, "balance": 994.0, "billed": 6.0}
    report = {"balanced": True, "problems": [], "credits": {CREDIT: line}}
    books = Books(row, [], state, [event], report, 1000.0)
    return Pods([story], most_in_flight=20.0), Seen(looks=1, lease_ids={"lse_1"}), books


def failing(stories: Pods, seen: Seen, books: Books) -> list[str]:
    counted = Pods(stories.stories, most_in_flight=20.0)
    return [claim.text for claim in audit(counted, seen, books) if not claim.holds]


def test_books_that_agree_pass_the_audit() -> None:
    assert failing(*make()) == []


def spent(credits_spent: int) -> Row:
    return Row("lse_1", Fraction(100), Fraction(100 - credits_spent), Fraction(0))


@pytest.mark.parametrize(
    ("doctor", "says"),
    [
        (lambda p, s, b: p.stories[0].raised.append("E()"), "no call raised"),
        (lambda p, s, b: p.stories.append(Story(killed=False)), "came to its end"),
        (lambda p, s, b: p.stories.append(Story(killed=False, undelivered=1)), "came to its end"),
        (lambda p, s, b: s.impossible.append(b.row), "settled + open holds"),
        (lambda p, s, b: setattr(s, "excess", 1.0), "had been spent before"),
        (lambda p, s, b: s.lease_ids.add("lse_2"), "shared one lease"),
        (lambda p, s, b: b.state["leases"]["lse_1"].update(granted=99.0), "no more was lent"),
        (lambda p, s, b: b.audit["credits"][CREDIT].update(overage=1.0), "no more was billed"),
        (lambda p, s, b: b.left.append("r1"), "no hold is left"),
        (lambda p, s, b: setattr(b, "row", spent(5)), ">= billed"),
        (lambda p, s, b: setattr(b, "row", spent(5)), "stays spent"),
        (lambda p, s, b: setattr(b, "row", spent(27)), "leaked 21 credits"),
        (lambda p, s, b: p.stories[0].settles.clear(), "was not settled"),
        (lambda p, s, b: b.events[0]["body"].update(quantity=2), "was settled with"),
        (lambda p, s, b: b.events.append(b.events[0]), "was billed once"),
        (
            lambda p, s, b: p.stories.append(
                Story(killed=False, undelivered=0, settles={"r2": Settle(1, 2.0)})
            ),
            "outlived their pod",
        ),
        (lambda p, s, b: b.audit["credits"][CREDIT].update(leased=1.0), "all is there again"),
        (lambda p, s, b: b.audit["credits"][CREDIT].update(balance=995.0), "all is there again"),
        (lambda p, s, b: b.audit.update(balanced=False), "books balance"),
    ],
)
def test_books_that_differ_in_one_way_fail_the_audit(doctor, says) -> None:
    made = make()
    doctor(*made)
    assert any(says in text for text in failing(*made))


def test_a_leak_within_what_a_kill_may_leak_passes() -> None:
    stories, seen, books = make()
    books.row = spent(26)
    assert failing(stories, seen, books) == []


def test_a_journal_that_was_cut_is_read_up_to_the_cut(tmp_path) -> None:
    path = tmp_path / "journal"
    path.write_text('["held", "r1", "lse_1", 20.0]\n["settling", "r1", 3, 6.0]\n["settl')
    story = journal.read(path, killed=True)
    assert story.held == {"r1": 20.0}
    assert not story.settles["r1"].came_back
    assert journal.read(tmp_path / "never written", killed=True).held == {}
