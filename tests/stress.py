"""The stress run: processes and threads on one emulator that keeps failing, then the audit.

`python -m tests.stress --seconds 60 --processes 2 --threads 8 --seed 1`

Every process opens a client of its own, whose workers check, work and settle (less, as much, more
or nothing, some twice, some never) while the emulator delays, refuses, cuts and freezes requests,
drops sockets and steps its clock over the expiry of leases. What each process counted itself is then
held against the emulator's ledger: the promises of the lease contract, one line each.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import logging
import math
import multiprocessing
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckResult,
    CreditLeaseConfig,
    Reservation,
    Schematic,
    SchematicConfig,
)
from schematic_native.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from schematic_native.emulator import InjectedFault

FLAG, EVENT, CREDIT = "inference", "inference_tokens", "credit_inference"
LEASE_SIZE = 200.0  # credits: small, so that leases run low and dry all the time
LEASE_DURATION = 3.0  # seconds: short, so that leases expire while they are in use
RESERVATION_TTL = 1.0
# The emulator's clock may run ahead of the clients' by this many seconds: its leases then end while
# the clients still reserve from them, yet a new lease can still be had.
MOST_AHEAD = 1.5
TIMEOUT = 1.0
# A worker holds back while this many events wait to be sent.
MOST_QUEUED = 2000
# Seconds by which a call may overrun its timeout on a machine that is busy with other things.
SLACK = 2.0
# Amounts are doubles in the clients' count and exact in the ledger.
DUST = 1e-6
# The companies, which all processes share: consumption rate and opening balance, in credits.
COMPANIES = {
    "rich": (2.0, 1e9),
    "fraction": (0.1, 1e9),
    "poor": (2.0, 700.0),
    "seldom": (2.0, 1e9),
}
# How often each is asked for. The last so seldom that its leases expire rather than being extended.
WEIGHTS = (40, 40, 20, 0.05)


@dataclass
class Hold:
    """What a worker did with one reservation."""

    reservation: Reservation
    # Whole units of each settle.
    settles: list[int] = field(default_factory=list)
    # Whether the first settle came back before the hold lapsed, and so surely found it open.
    in_time: bool = False

    @property
    def spent(self) -> float:
        """Credits that the first settle took from the local lease."""
        if not self.settles:
            return 0.0
        rate = self.reservation.consumption_rate
        return min(self.settles[0] * rate, self.reservation.credits_reserved)

    def excess(self, billed: int) -> float:
        """Credits that were billed on top of what was held, if `billed` units were."""
        charged = billed * self.reservation.consumption_rate
        return max(0.0, charged - (self.spent if self.in_time else 0.0))


@dataclass
class Count:
    """What one process counted itself."""

    checks: int = 0
    denied: Counter[str] = field(default_factory=Counter)
    holds: list[Hold] = field(default_factory=list)
    # What calls raised; they must raise nothing.
    raised: list[str] = field(default_factory=list)
    # The longest that a call took beyond its timeout, and the shutdown as a whole, in seconds.
    overrun: float = 0.0
    shutdown: float = 0.0
    # Samples of a lease that had less than nothing or more than was granted.
    impossible: list[str] = field(default_factory=list)
    undelivered: int = 0
    logged: int = 0

    def add(self, other: Count) -> None:
        """Add what another worker or process counted."""
        self.checks += other.checks
        self.denied += other.denied
        self.holds += other.holds
        self.raised += other.raised
        self.overrun = max(self.overrun, other.overrun)
        self.shutdown = max(self.shutdown, other.shutdown)
        self.impossible += other.impossible
        self.undelivered += other.undelivered
        self.logged += other.logged


class Check(NamedTuple):
    """A check to make."""

    company: dict[str, str]
    usage: float
    timeout: float
    on_acquire_failure: str


class Settle(NamedTuple):
    """A settle to make."""

    hold: Hold
    quantity: float


class Traffic:
    """One worker: decides what to do next and counts what came of it."""

    def __init__(self, seed: str, companies: list[str]) -> None:
        self.count = Count()
        self._random = random.Random(seed)
        self._companies = companies
        self._open: list[Hold] = []

    def next(self) -> Check | Settle:
        """Decide what to do next."""
        choose = self._random
        while self._open and (len(self._open) > 12 or choose.random() < 0.5):
            hold = self._open.pop(choose.randrange(len(self._open)))
            # A tenth is never settled: the hold lapses and refunds itself.
            if choose.random() < 0.9:
                return Settle(hold, self._quantity(hold.reservation.quantity_reserved))
        company = {"id": choose.choices(self._companies, WEIGHTS)[0]}
        usage = choose.choice([choose.randint(1, 10), choose.uniform(0.1, 10.0), 90])
        mode = choose.choice(["fail-closed", "fail-closed", "fail-open"])
        return Check(company, usage, choose.choice([0.05, 0.3, TIMEOUT]), mode)

    def checked(self, check: Check, result: CheckResult, seconds: float) -> None:
        """Count a check."""
        self.count.checks += 1
        self.count.overrun = max(self.count.overrun, seconds - check.timeout)
        if result.reservation is not None:
            hold = Hold(result.reservation)
            self.count.holds.append(hold)
            self._open.append(hold)
        elif not result.allowed:
            self.count.denied[result.error or result.reason] += 1

    def settled(self, settle: Settle, seconds: float) -> None:
        """Count a settle; a tenth is settled once more."""
        hold = settle.hold
        if not hold.settles:
            hold.in_time = time.time() < hold.reservation.expires_at.timestamp()
        hold.settles.append(math.ceil(settle.quantity))
        self.count.overrun = max(self.count.overrun, seconds)
        if len(hold.settles) == 1 and self._random.random() < 0.1:
            self._open.append(hold)

    def _quantity(self, reserved: float) -> float:
        choose = self._random
        # Few settle beyond their hold: what the server bills beyond a lease is explained by them alone.
        weights = {"under": 40, "exact": 40, "nothing": 18, "over": 2}
        (kind,) = choose.choices(list(weights), weights.values())
        if kind == "under":
            return choose.uniform(0, reserved)
        if kind == "over":
            return reserved + choose.randint(1, 5)
        return reserved if kind == "exact" else 0


# The two clients


def _fields(url: str) -> dict[str, Any]:
    return {
        "base_url": url,
        "event_capture_url": url,
        "use_datastream": True,
        "timeout": TIMEOUT,
        "event_buffer_period": 0.2,
        "credit_leases": CreditLeaseConfig(
            mode="client",
            default_lease_size=LEASE_SIZE,
            default_lease_duration=LEASE_DURATION,
            default_reservation_ttl=RESERVATION_TTL,
            sweep_interval=0.1,
        ),
    }


def _work(client: Schematic, traffic: Traffic, over: threading.Event) -> None:
    clock = time.monotonic
    while not over.is_set():
        todo = traffic.next()
        begun = clock()
        try:
            if isinstance(todo, Check):
                result = client.check(
                    FLAG,
                    todo.company,
                    usage=todo.usage,
                    timeout=todo.timeout,
                    on_acquire_failure=todo.on_acquire_failure,  # type: ignore[arg-type]
                )
                traffic.checked(todo, result, clock() - begun)
            else:
                client.track_with_reservation(todo.hold.reservation, todo.quantity)
                traffic.settled(todo, clock() - begun)
        except Exception as error:  # noqa: BLE001 - nothing may be raised, whatever it is
            traffic.count.raised.append(repr(error))
        over.wait(0.001)
        while client.status().queued_events > MOST_QUEUED and not over.wait(0.01):
            continue


async def _work_async(client: AsyncSchematic, traffic: Traffic, over: threading.Event) -> None:
    clock = time.monotonic
    while not over.is_set():
        todo = traffic.next()
        begun = clock()
        try:
            if isinstance(todo, Check):
                result = await client.check(
                    FLAG,
                    todo.company,
                    usage=todo.usage,
                    timeout=todo.timeout,
                    on_acquire_failure=todo.on_acquire_failure,  # type: ignore[arg-type]
                )
                traffic.checked(todo, result, clock() - begun)
            else:
                await client.track_with_reservation(todo.hold.reservation, todo.quantity)
                traffic.settled(todo, clock() - begun)
        except Exception as error:  # noqa: BLE001 - nothing may be raised, whatever it is
            traffic.count.raised.append(repr(error))
        await asyncio.sleep(0.001)
        while client.status().queued_events > MOST_QUEUED and not over.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _sample(client: Schematic | AsyncSchematic, over: threading.Event, count: Count) -> None:
    """Look at every lease again and again: nothing below zero, nothing above the grant."""
    while not over.wait(0.005):
        for lease in client._core.live_leases():
            if not 0 <= lease.remaining <= lease.granted + DUST:
                count.impossible.append(f"{lease.lease_id}: {lease.remaining} of {lease.granted}")


def _run_sync(url: str, api_key: str, traffics: list[Traffic], end: _End, count: Count) -> None:
    client = Schematic(api_key, SchematicConfig(**_fields(url)))
    client.initialize()
    workers = [threading.Thread(target=_work, args=(client, t, end.over)) for t in traffics]
    workers.append(threading.Thread(target=_sample, args=(client, end.over, count)))
    for worker in workers:
        worker.start()
    end.wait()
    for worker in workers:
        worker.join()
    end.drain(client)
    begun = time.monotonic()
    client.shutdown()
    count.shutdown = time.monotonic() - begun
    count.undelivered = client.status().queued_events


def _run_async(url: str, api_key: str, traffics: list[Traffic], end: _End, count: Count) -> None:
    async def program() -> None:
        client = AsyncSchematic(api_key, AsyncSchematicConfig(**_fields(url)))
        await client.initialize()
        sampler = threading.Thread(target=_sample, args=(client, end.over, count))
        sampler.start()
        waiting = asyncio.to_thread(end.wait)
        await asyncio.gather(waiting, *(_work_async(client, t, end.over) for t in traffics))
        sampler.join()
        await asyncio.to_thread(end.drain, client)
        begun = time.monotonic()
        await client.shutdown()
        count.shutdown = time.monotonic() - begun
        count.undelivered = client.status().queued_events

    asyncio.run(program())


class _End:
    """Ends one process: the parent says when, and that the emulator works again."""

    def __init__(self, pipe: Connection) -> None:
        self.over = threading.Event()
        self._pipe = pipe

    def wait(self) -> None:
        """Wait until the parent calls the end, then stop the workers."""
        self._pipe.send("ready")
        self._pipe.recv()
        self.over.set()

    def drain(self, client: Schematic | AsyncSchematic, timeout: float = 60.0) -> None:
        """Wait until every event is delivered, as a shutdown has but 5 s for that."""
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while client.status().queued_events and time.monotonic() < deadline:
            pause.wait(0.02)


class _LogCounter(logging.Handler):
    """Counts what the client logs, which would fill the screen."""

    def __init__(self, count: Count) -> None:
        super().__init__()
        self._count = count

    def emit(self, record: logging.LogRecord) -> None:
        self._count.logged += 1


def work_in_process(pipe: Connection, job: dict[str, Any]) -> None:
    """Run one process of workers and send back what it counted."""
    traffics = [
        Traffic(f"{job['seed']}/{job['process']}/{worker}", job["companies"])
        for worker in range(job["threads"])
    ]
    count = Count()
    log = logging.getLogger("schematic_native")
    log.propagate = False
    log.addHandler(_LogCounter(count))
    run = _run_async if job["asynchronous"] else _run_sync
    run(job["url"], job["api_key"], traffics, _End(pipe), count)
    for traffic in traffics:
        count.add(traffic.count)
    pipe.send(count)


# The faults


class Trouble:
    """What goes wrong, drawn from one seed."""

    KINDS = ("delay", "status", "status", "cut", "cut", "drop", "drop", "freeze")
    PLACES = ("acquire", "extend", "release", "capture", "capture", "any", "datastream")

    def __init__(self, emulator: Emulator, seed: int) -> None:
        self.log: Counter[str] = Counter()
        self._emulator = emulator
        self._random = random.Random(f"trouble/{seed}")
        self._ahead = 0.0
        self._open: list[tuple[float, InjectedFault]] = []

    def until(self, end: float) -> None:
        """Make trouble until an instant of the monotonic clock, then heal everything."""
        pause = threading.Event()
        while time.monotonic() < end:
            self._heal()
            self._strike()
            pause.wait(min(self._random.uniform(0.05, 0.4), max(0.0, end - time.monotonic())))
        self._emulator.heal()

    def _heal(self) -> None:
        now = time.monotonic()
        for until, fault in self._open:
            if until <= now:
                fault.clear()
        self._open = [(until, fault) for until, fault in self._open if until > now]

    def _strike(self) -> None:
        choose = self._random
        draw = choose.random()
        if draw < 0.1:
            self._emulator.drop_sockets()
            self.log["drop every socket"] += 1
        elif draw < 0.2:
            self._step()
        elif draw < 0.24:
            self._inject(0.3, "refuse", "any")
        elif draw < 0.9:
            kind, place = choose.choice(self.KINDS), choose.choice(self.PLACES)
            arguments: dict[str, Any] = {"probability": choose.choice([0.3, 1.0])}
            arguments["seed"] = choose.randrange(1000)
            if kind == "delay":
                arguments["seconds"] = choose.uniform(0.01, 0.4)
            elif kind == "status":
                arguments["status"] = choose.choice([402, 429, 500, 503])
                arguments["retry_after"] = choose.choice([0.0, 0.1, None])
            self._inject(choose.uniform(0.1, 0.8), kind, place, **arguments)

    def _inject(self, lasting: float, kind: str, place: str, **arguments: Any) -> None:
        fault = self._emulator.fail(kind, place, **arguments)
        self._open.append((time.monotonic() + lasting, fault))
        self.log[f"{kind} on {place}"] += 1

    def _step(self) -> None:
        """Step the emulator's clock, in all no further than clients can still live with."""
        step = self._random.uniform(0.1, 0.5)
        if self._ahead + step <= MOST_AHEAD:
            self._ahead += step
            self._emulator.advance(step)
            self.log["step the clock"] += 1


# The audit


class Claim(NamedTuple):
    """One promise, and whether it held."""

    holds: bool
    text: str


@dataclass
class Books:
    """What the emulator has in its books once every lease has ended."""

    state: dict[str, Any]
    events: list[dict[str, Any]]
    audit: dict[str, Any]


def audit(count: Count, books: Books) -> list[Claim]:
    """Hold the emulator's books against what the processes counted."""
    return [
        *_audit_calls(count),
        *_audit_leases(count, books),
        *_audit_billing(count, books),
        *_audit_ending(count, books),
    ]


def _audit_calls(count: Count) -> list[Claim]:
    return [
        Claim(not count.raised, f"no call raised ({count.raised[:3]})"),
        Claim(
            count.overrun < SLACK,
            f"no call overran its timeout by {SLACK:g} s (longest {count.overrun:.3f} s)",
        ),
        Claim(
            count.shutdown < 5 + SLACK,
            f"every shutdown kept to its budget of 5 s (longest {count.shutdown:.2f} s)",
        ),
        Claim(
            not count.impossible,
            f"no lease ever had less than nothing or more than its grant ({count.impossible[:3]})",
        ),
    ]


def _audit_leases(count: Count, books: Books) -> list[Claim]:
    leases = books.state["leases"]
    spent: Counter[str] = Counter()
    for hold in count.holds:
        if hold.in_time:
            spent[hold.reservation.lease_id] += hold.spent  # type: ignore[assignment]
    unknown = {hold.reservation.lease_id for hold in count.holds} - leases.keys()
    over = [i for i in spent.keys() - unknown if spent[i] > leases[i]["granted"] + DUST]
    tracked = [i for i, lease in leases.items() if lease["tracked"] > lease["granted"] + DUST]
    overage = sum(line["overage"] for line in books.audit["credits"].values())
    billed = {event.get("idempotency_key"): event for event in _billed_events(books)}
    excess = 0.0
    for hold in count.holds:
        if (event := billed.get(_key(hold))) is not None:
            excess += hold.excess(event["body"].get("quantity", 0))
    return [
        Claim(not unknown, f"every hold is of a lease that was granted ({sorted(unknown)[:3]})"),
        Claim(not over, f"no more was spent of a lease than was granted ({over[:3]})"),
        Claim(not tracked, f"no lease was billed for more than was granted ({tracked[:3]})"),
        Claim(
            overage <= excess + DUST,
            f"billed beyond live leases, {overage:,.1f} credits, is within what callers settled "
            f"beyond their holds, {excess:,.1f}",
        ),
    ]


def _key(hold: Hold) -> str:
    return f"lease-reservation:{hold.reservation.id}"


def _billed_events(books: Books) -> list[dict[str, Any]]:
    events = (event for event in books.events if event["type"] == "track")
    return [event for event in events if not event.get("duplicate")]


def _audit_billing(count: Count, books: Books) -> list[Claim]:
    settled = {_key(hold): hold for hold in count.holds if hold.settles}
    first = _billed_events(books)
    repeats = sum(event.get("duplicate", False) for event in books.events)
    times = Counter(event.get("idempotency_key") for event in first)
    repeated = [key for key, number in times.items() if number > 1]
    foreign = {
        event["idempotency_key"]
        for event in first
        if event["idempotency_key"] in settled
        and event["body"].get("quantity", 0) not in settled[event["idempotency_key"]].settles
    }
    billed = sum(events.get(EVENT, 0) for events in books.state["billed"].values())
    quantities = {event["idempotency_key"]: event["body"].get("quantity", 0) for event in first}
    units = sum(quantities.get(key, 0) for key in settled)
    late = books.state["anomalies"].get("track event of an ended lease", 0)
    return [
        Claim(
            times.keys() == settled.keys(),
            f"each of {len(settled):,} settled holds was billed, and nothing else was "
            f"({len(settled.keys() - times.keys())} lost, {len(times.keys() - settled.keys())} minted)",
        ),
        Claim(not repeated, f"each was billed once, {repeats:,} repeats ignored"),
        Claim(not foreign, f"each for a quantity it was settled with ({sorted(foreign)[:3]})"),
        Claim(
            billed == units,
            f"billed {billed:,} units = settled {units:,} units ({late:,} after their lease's end)",
        ),
        Claim(count.undelivered == 0, f"no event was left behind ({count.undelivered})"),
    ]


def _audit_ending(count: Count, books: Books) -> list[Claim]:
    active = [i for i, lease in books.state["leases"].items() if lease["status"] == "active"]
    lines = books.audit["credits"].values()
    held = sum(line["leased"] + line["reserved"] for line in lines)
    ids = {hold.reservation.id for hold in count.holds}
    return [
        Claim(len(ids) == len(count.holds), f"all {len(ids):,} reservation ids differ"),
        Claim(
            not active and held == 0,
            "whatever leaked came back when the leases ended: none is held",
        ),
        Claim(
            books.audit["balanced"],
            f"the emulator's book balances: nothing minted, nothing lost {books.audit['problems'][:3]}",
        ),
    ]


# The run


def seed_file() -> dict[str, Any]:
    """Make the emulator's seed."""
    text = files("schematic_native.emulator").joinpath("inference.json").read_text()
    seed: dict[str, Any] = json.loads(text)
    acme = next(company for company in seed["companies"] if company["id"] == "comp_acme")
    seed["companies"] = []
    for name, (rate, balance) in COMPANIES.items():
        company = copy.deepcopy(acme)
        company |= {"id": f"comp_{name}", "keys": {"id": name}}
        company["credit_balances"] = {CREDIT: balance}
        for entitlement in company["entitlements"]:
            if entitlement.get("credit_id") == CREDIT:
                entitlement["consumption_rate"] = rate
        seed["companies"].append(company)
    return seed


def run(
    *,
    seconds: float,
    processes: int,
    threads: int,
    seed: int,
    asynchronous: bool,
    say: Callable[[str], object] = print,
) -> bool:
    """Run, print what happened and the audit; returns whether every claim held."""
    context = multiprocessing.get_context("spawn")
    with Emulator(seed=seed_file()) as emulator:
        workers, pipes = [], []
        for number in range(processes):
            ours, theirs = context.Pipe()
            job = {
                "url": emulator.base_url,
                "api_key": emulator.api_key,
                "companies": list(COMPANIES),
                "process": number,
                "threads": threads,
                "seed": seed,
                "asynchronous": asynchronous,
            }
            worker = context.Process(target=work_in_process, args=(theirs, job), daemon=True)
            worker.start()
            theirs.close()
            workers.append(worker)
            pipes.append(ours)
        for pipe in pipes:
            pipe.recv()
        trouble = Trouble(emulator, seed)
        trouble.until(time.monotonic() + seconds)
        total = Count()
        for pipe in pipes:
            pipe.send("end")
        for pipe, worker in zip(pipes, workers, strict=True):
            total.add(pipe.recv())
            worker.join()
            pipe.close()
        # By then the last lease that nobody released has ended.
        emulator.advance(LEASE_DURATION + 1)
        books = Books(emulator.state(), emulator.events(), emulator.audit())
    claims = audit(total, books)
    _report(say, total, books, trouble, seed)
    for claim in claims:
        say(f"  {'ok  ' if claim.holds else 'FAIL'}  {claim.text}")
    return all(claim.holds for claim in claims)


def _report(
    say: Callable[[str], object], count: Count, books: Books, trouble: Trouble, seed: int
) -> None:
    requests = books.state["requests"]
    settled = [hold for hold in count.holds if hold.settles]
    rows = {
        "seed": str(seed),
        "checks": f"{count.checks:,}",
        "holds": f"{len(count.holds):,}",
        "settled": f"{len(settled):,}, {sum(len(h.settles) > 1 for h in settled):,} of them twice",
        "settled late": f"{sum(not h.in_time for h in settled):,}",
        "abandoned": f"{len(count.holds) - len(settled):,}",
        **{f"denied: {reason}": f"{n:,}" for reason, n in count.denied.most_common()},
        "log lines": f"{count.logged:,}",
        "leases": f"{len(books.state['leases']):,}",
        "requests": ", ".join(f"{requests[kind]:,} {kind}" for kind in sorted(requests)),
        "anomalies": ", ".join(f"{n:,} x {what}" for what, n in books.state["anomalies"].items()),
        "faults": ", ".join(f"{n} x {what}" for what, n in sorted(trouble.log.items())),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        say(f"  {name:<{width}}  {value}")


def main() -> int:
    """Run from the command line; 0 only if every claim held."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=8, help="or tasks with --async")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one")
    parser.add_argument("--async", dest="asynchronous", action="store_true")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    sys.stdout.write(f"seed {arguments.seed}\n")
    return 0 if run(**vars(arguments)) else 1


if __name__ == "__main__":
    sys.exit(main())
