"""A company without credits beside one that has them: `python -m benches.spent [--checks N]`.

The first is denied from memory, and should cost no more than a check that is allowed. Tells the
median of each, with one thread and with eight, and how many requests the service got.
"""

from __future__ import annotations

import argparse
import statistics
import threading
from time import perf_counter, perf_counter_ns

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native.emulator import Emulator

FLAG = "inference"
ALLOWED, SPENT = {"id": "acme"}, {"id": "none"}
THREADS = 8


def sample(client: Schematic, company: dict[str, str], checks: int) -> float:
    """Return the median of so many checks in nanoseconds; what is held is given back untimed."""
    taken = []
    for _ in range(checks):
        begun = perf_counter_ns()
        result = client.check(FLAG, company, usage=1)
        taken.append(perf_counter_ns() - begun)
        if result.reservation is not None:
            client.track_with_reservation(result.reservation, 0)
    return statistics.median(taken)


def storm(client: Schematic, company: dict[str, str], checks: int) -> tuple[float, list[float]]:
    """Check from several threads at once; returns the seconds, and each thread's median."""
    start = threading.Barrier(THREADS + 1)
    medians: list[float] = []

    def work() -> None:
        start.wait()
        medians.append(sample(client, company, checks // THREADS))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    start.wait()
    begun = perf_counter()
    for thread in threads:
        thread.join()
    return perf_counter() - begun, medians


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=100_000)
    checks = parser.parse_args().checks
    with Emulator() as emulator:
        config = SchematicConfig(
            base_url=emulator.base_url,
            event_capture_url=emulator.base_url,
            use_datastream=True,
            credit_leases=CreditLeaseConfig(mode="client"),
        )
        with Schematic(emulator.api_key, config) as client:
            for company in (ALLOWED, SPENT):
                client.check(FLAG, company, usage=1)
            allowed, spent = (sample(client, each, 20_000) for each in (ALLOWED, SPENT))
            print(
                f"1 thread: allowed {allowed:.0f} ns, denied {spent:.0f} ns, ratio {spent / allowed:.2f}"
            )
            allowed = statistics.median(storm(client, ALLOWED, checks)[1])
            # A fault that delays by nothing counts the requests.
            asked = [emulator.fail("delay", call, seconds=0) for call in ("acquire", "extend")]
            seconds, medians = storm(client, SPENT, checks)
            spent = statistics.median(medians)
            print(
                f"{THREADS} threads: allowed {allowed:.0f} ns, denied {spent:.0f} ns, "
                f"ratio {spent / allowed:.2f}; {checks} denied checks in {seconds:.2f} s, "
                f"{sum(each.fired for each in asked)} requests"
            )


if __name__ == "__main__":
    main()
