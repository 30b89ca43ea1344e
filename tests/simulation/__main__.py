"""`python -m tests.simulation --seed 1 --count 1000 --steps 50`: runs schedules and tells what broke."""

from __future__ import annotations

import argparse
import gc
import sys
import time

from tests.simulation.schedules import draw_schedule
from tests.simulation.shrinking import as_test, breaks, shrink
from tests.simulation.simulation import Simulation

COLLECT = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule")
    parser.add_argument("--count", type=int, default=1000, help="of schedules, each with the next seed")
    parser.add_argument("--steps", type=int, default=50, help="of each schedule")
    parser.add_argument("--replay", action="store_true", help="run one and tell everything that happens")
    parser.add_argument("--shrink", action="store_true", help="find the smallest schedule that breaks the same")
    options = parser.parse_args()
    # Collected between schedules: within one it would be a tenth of the time.
    gc.disable()
    begun, broken = time.perf_counter(), 0
    tell = print if options.replay and not options.shrink else None
    count = 1 if options.replay else options.count
    for seed in range(options.seed, options.seed + count):
        schedule = draw_schedule(seed, options.steps)
        outcome = Simulation(schedule, tell).run()
        if seed % COLLECT == 0:
            gc.collect()
        if outcome.violation is not None:
            broken += 1
            if options.shrink:
                small = shrink(schedule)
                print(as_test(small, breaks(small) or ""))
                if options.replay:
                    Simulation(small, print).run()
            print(f"seed {seed}, {schedule.scenario.store}{' spread' * schedule.scenario.is_spread}{' colons' * schedule.scenario.has_colons}: {outcome.violation[:300]}")
    seconds = time.perf_counter() - begun
    print(f"{count} schedules in {seconds:.1f} s, {count / seconds:.0f} a second: {broken} broke a promise")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
