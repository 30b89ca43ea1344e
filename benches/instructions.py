"""Holds the instructions of an evaluation, a check, a settle, a hold and a batch of events against a committed budget.

A count does not change with the load of the machine, as a time does. Each call is made a thousand times more in one run
under callgrind than in another; the difference is what the call takes, with the interpreter's part in it. So the
budget names the Python that it was counted with, and is for the release build.

`python benches/instructions.py --update` writes the budget anew: do that with the change that explains it.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

BENCHES = Path(__file__).parent
BUDGET = BENCHES / "instructions.json"
CASES = [
    f"{call}:{size}"
    for call in ("evaluate", "check_flag", "check", "settle", "hold")
    for size in ("small", "big")
] + ["write:small", "deliver:small"]  # a batch of 100 events
MORE = 1000
# Beyond this share of the budget a count is a regression; that far below it the budget is to be lowered. Two builds
# of the same sources were seen to differ by 4 %.
TOLERANCE = 0.05


def count(program, *loops):
    """Run loops of a program under callgrind and return the instructions of all of it."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [*command, str(BENCHES / program), *loops],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise SystemExit(f"callgrind failed:\n{done.stderr}")
    return int(found[1])


def of_one(program, case):
    """Return the instructions of one call."""
    return round((count(program, f"{case}={MORE}") - count(program, f"{case}=0")) / MORE)


def per_call():
    """Return the instructions of one call of each kind."""
    return {
        case: of_one("batches.py" if case.startswith(("write", "deliver")) else "loop.py", case)
        for case in CASES
    }


def compare(counted, budget):
    """Yield a line for each call and whether it is within its budget."""
    for case, now in counted.items():
        most = budget.get(case)
        if most is None:
            yield f"{case:<18} {now:>7}  has no budget: --update writes one", False
            continue
        share = now / most - 1
        verdict = "ok"
        if share > TOLERANCE:
            verdict = f"over the budget by {share:.1%}"
        elif share < -TOLERANCE:
            verdict = f"ok, {-share:.1%} below: lower the budget with --update"
        yield f"{case:<18} {now:>7}  of {most:>7}  {verdict}", share <= TOLERANCE


def install_valgrind():
    """Install valgrind where apt can; tells whether it is there then."""
    if shutil.which("valgrind") is None and shutil.which("apt-get") is not None:
        prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
        for step in (["update", "-qq"], ["install", "-y", "-qq", "valgrind"]):
            subprocess.run([*prefix, "apt-get", *step], check=False, capture_output=True)
    return shutil.which("valgrind") is not None


def main():
    parser = argparse.ArgumentParser(
        description="Count instructions and hold them against the budget."
    )
    parser.add_argument("--update", action="store_true", help="write what is counted as the budget")
    arguments = parser.parse_args()
    if not install_valgrind():
        print(
            "valgrind is not installed and apt cannot install it: nothing is counted",
            file=sys.stderr,
        )
        return 0
    python = f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"
    if arguments.update:
        BUDGET.write_text(
            json.dumps({"python": python, "instructions": per_call()}, indent=2) + "\n"
        )
        print(BUDGET.read_text(), end="")
        return 0
    budget = json.loads(BUDGET.read_text())
    if budget["python"] != python:
        print(
            f"the budget is for {budget['python']}, this is {python}: nothing is compared",
            file=sys.stderr,
        )
        return 0
    outcomes = list(compare(per_call(), budget["instructions"]))
    for line, _ in outcomes:
        print(line)
    return 0 if all(is_within for _, is_within in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
