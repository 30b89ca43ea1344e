"""Makes so many calls of each kind, for whoever counts: `python benches/loop.py check:small=1000`."""

import gc
import json
import sys
import time
from types import SimpleNamespace

from schematic_native.client.hold.schedule import Holds
from schematic_native.rulesengine import RulesEngine
from schematic_native.tools.bench.scenarios import hot, stocked
from schematic_native.tools.bench.worlds import COMPANY, FLAG, world

# What every loop does before it is counted: caches are filled, tables have grown. Vectors grow at powers of two, hash
# tables at seven eighths of them; the next thousand calls reach neither. Whether a vector grows in place or is copied
# depends on the heap alone, and weighs up to 400 instructions a check.
WARM_UP = 2100


def evaluate(size, count):
    seed = world(size)
    engine = RulesEngine()
    flag = engine.load_flag(json.dumps(seed["flags"][0]))
    company = engine.load_company(json.dumps(seed["companies"][0]))
    for _ in range(count):
        engine.check_flag(flag, company)


def check_flag(size, count):
    client = hot(stocked(size, seed=7))
    for _ in range(count):
        client.check_flag(FLAG, COMPANY)


def check(size, count):
    client = hot(stocked(size, seed=7))
    for _ in range(count):
        client.check(FLAG, COMPANY, usage=10)


def settle(size, count):
    now = time.time()
    # All holds lapse in one second: how many seconds the loop takes changes nothing.
    client = hot(stocked(size, seed=7, clock=lambda: now))
    # As many holds whatever is settled: the loops differ in the settles alone.
    holds = [client.check(FLAG, COMPANY, usage=10).reservation for _ in range(5000)]
    for hold in holds[:count]:
        client.track_with_reservation(hold, 7)


def hold(size, count):
    client = hot(stocked(size, seed=7), Holds(SimpleNamespace(runtime=None), None, time.monotonic))
    for _ in range(count):
        with client.hold(FLAG, COMPANY, usage=10) as held:
            held.use(7)


CALLS = {
    "evaluate": evaluate,
    "check_flag": check_flag,
    "check": check,
    "settle": settle,
    "hold": hold,
}


def main():
    gc.disable()
    for argument in sys.argv[1:]:
        name, _, count = argument.partition("=")
        call, _, size = name.partition(":")
        CALLS[call](size, WARM_UP + int(count))


if __name__ == "__main__":
    main()
