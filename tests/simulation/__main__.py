"""`python -m tests.simulation --seed 1 --count 1000 --steps 50`: runs schedules and tells what broke."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.coverage import Report
from tests.simulation.runner import run_seeds
from tests.simulation.schedules import Schedule, draw_schedule
from tests.simulation.shrinking import as_test, breaks, shrink
from tests.simulation.simulation import Outcome, Simulation


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule")
    parser.add_argument(
        "--count", type=int, default=1000, help="of schedules, each with the next seed"
    )
    parser.add_argument("--steps", type=int, default=50, help="of each schedule")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the schedules")
    parser.add_argument("--replay", action="store_true", help="run one and tell all that happens")
    parser.add_argument(
        "--shrink", action="store_true", help="find the smallest that breaks the same"
    )
    parser.add_argument(
        "--first", action="store_true", help="stop at the first that breaks a promise"
    )
    parser.add_argument("--coverage", action="store_true", help="tell what was reached")
    return parser.parse_args()


def main() -> int:
    options = read_options()
    if options.replay:
        return replay(draw_schedule(options.seed, options.steps), smallest=options.shrink)
    begun, broken, report = time.perf_counter(), 0, Report()
    seeds = range(options.seed, options.seed + options.count)
    for outcome in run_seeds(seeds, options.steps, options.jobs):
        report.add(outcome.hits, outcome.deaths, outcome.seen)
        if outcome.violation is not None:
            broken += 1
            tell(outcome, smallest=options.shrink)
            if options.first:
                break
    seconds = time.perf_counter() - begun
    if options.coverage:
        print("\n".join(report.lines()))
    pace = options.count / seconds
    print(f"{options.count} schedules, {pace:.0f} a second: {broken} broke a promise")
    return 1 if broken else 0


def replay(schedule: Schedule, *, smallest: bool) -> int:
    """Run one schedule and tell all that happens."""
    if smallest:
        schedule = shrink(schedule)
    outcome = Simulation(schedule, print).run()
    print(as_test(schedule, outcome.violation or "no promise is broken"))
    return 0 if outcome.violation is None else 1


def tell(outcome: Outcome, *, smallest: bool) -> None:
    """Tell of a schedule that has broken a promise."""
    scenario = outcome.schedule.scenario
    kinds = "".join(
        f", {name}"
        for name, holds in (("spread", scenario.is_spread), ("colons", scenario.has_colons))
        if holds
    )
    print(f"seed {outcome.schedule.seed}, {scenario.store}{kinds}: {outcome.violation}")
    if smallest:
        small = shrink(outcome.schedule)
        print(as_test(small, breaks(small) or ""))


if __name__ == "__main__":
    sys.exit(main())
