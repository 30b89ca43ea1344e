"""The run: its processes, the trouble, the audit in the end, and the report."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING

from schematic_native.emulator import Emulator
from tests.stress.audit import Books, audit
from tests.stress.companies import COMPANIES, seed_file
from tests.stress.counts import Count
from tests.stress.limits import LEASE_DURATION
from tests.stress.process import work_in_process
from tests.stress.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable


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
