"""The stress run: processes and threads on one emulator that keeps failing, then the audit.

`python -m tests.stress --seconds 60 --processes 2 --threads 8 --seed 1`

Every process opens a client of its own, whose workers check, work and settle (less, as much, more
or nothing, some twice, some never) while the emulator delays, refuses, cuts and freezes requests,
drops sockets and steps its clock over the expiry of leases. What each process counted itself is then
held against the emulator's ledger: the promises of the lease contract, one line each.
"""

from __future__ import annotations

import argparse
import random
import sys

from tests.stress.run import run


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
