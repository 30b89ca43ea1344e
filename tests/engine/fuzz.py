"""Holds the engine against the published one: `python -m tests.engine.fuzz --count 1000000`.

Both evaluate the same random envelopes in this process. The first difference is shrunk and printed
as an entry of `tests/engine/cases.json`. What our engine reads beyond the published one is no
difference if that one refuses the envelope for an enumeration value alone (see docs/engine.md).
"""

import argparse
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import wasmtime

from schematic_native.rulesengine import EngineError, check_flag_json, check_flags_json
from tests.engine.envelopes import Envelopes
from tests.engine.json_objects import Object, Raw, camel, objects_of, write
from tests.engine.oracle import Oracle, find_module
from tests.engine.pools import COMPARABLES, PERIODS, RESETS, RULE_TYPES, VALUE_TYPES

# Enumerations of which the published engine refuses an unknown value, and what may stand for one.
CLOSED = {
    "rule_type": RULE_TYPES,
    "period": PERIODS,
    "metric_period": PERIODS,
    "month_reset": RESETS,
    "metric_period_month_reset": RESETS,
    "comparable_type": COMPARABLES,
    "entity_type": ("company", "user"),
    "value_type": VALUE_TYPES,
}
CLOSED |= {camel(name): values for name, values in CLOSED.items()}
FIRST_VALUES = tuple({values[0]: None for values in CLOSED.values()})
DEFAULT_REASON = "No rules matched; default value for flag"


@dataclass(frozen=True)
class Case:
    """One envelope, as text, at one instant."""

    envelope: bytes
    now: int | None  # epoch milliseconds
    bulk: bool = False


@dataclass
class Report:
    """What a run saw."""

    envelopes: int = 0
    refused: int = 0
    lenient: int = 0
    traps: int = 0
    outcomes: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)

    def count(self, tree: Object | None, answer: str | None) -> None:
        self.envelopes += 1
        if answer is None:
            self.refused += 1
            return
        if tree is None:
            return
        result = json.loads(answer)
        self.results[kind_of(result)] += 1
        condition = solo_condition(tree)
        if condition is not None and "err" not in result:
            value = result["ruleId"] == "solo"
            self.outcomes[condition["condition_type"], condition["operator"], value] += 1

    def __str__(self) -> str:
        lines = [
            f"{self.envelopes} envelopes: {self.refused} refused by both",
            f"{self.lenient} read by ours alone, {self.traps} traps of the published engine",
            "",
            f"{'condition':<16} {'operator':<10} {'held':>8} {'did not':>8}",
        ]
        for kind, operator in sorted({key[:2] for key in self.outcomes}):
            held, not_held = (
                self.outcomes[kind, operator, True],
                self.outcomes[kind, operator, False],
            )
            lines.append(f"{kind:<16} {operator:<10} {held:>8} {not_held:>8}")
        lines += ["", f"{'result':<60} {'count':>8}"]
        lines += [f"{kind:<60} {count:>8}" for kind, count in sorted(self.results.items())]
        return "\n".join(lines)


def kind_of(result: dict[str, Any]) -> str:
    """The class that a result is counted in."""
    parts = [
        result["ruleType"] or ("default value" if result["reason"] == DEFAULT_REASON else "no rule")
    ]
    parts.append(str(result["value"]).lower())
    parts += [name for name in ("err", "creditSpendPolicy") if name in result]
    if result["featureUsage"] is not None:
        parts.append("metric usage" if result["featureUsagePeriod"] else "trait usage")
    if result["featureUsageResetAt"] is not None:
        parts.append("resets")
    if result["entitlement"] is not None:
        parts.append("entitled")
    return ", ".join(parts)


def solo_condition(tree: Object) -> dict[str, Any] | None:
    """The condition of a flag whose value tells whether it holds, with keys in snake case."""
    flag = next(value for name, value in tree.pairs if name == "flag")
    rules = next((value for name, value in flag.pairs if name == "rules"), None)
    if not rules or ("id", "solo") not in rules[0].pairs:
        return None
    conditions = next(value for name, value in rules[0].pairs if name == "conditions")
    spelled = dict(conditions[0].pairs)
    return {
        name: spelled.get(name, spelled.get(camel(name))) for name in ("condition_type", "operator")
    }


def normal(answer: str | None) -> Any:
    """A result without the order of quantity rates, which the published engine shuffles."""

    def pairs(items: list[tuple[str, Any]]) -> Any:
        return [
            [name, sorted(value) if name == "quantityRates" else value] for name, value in items
        ]

    return None if answer is None else json.loads(answer, object_pairs_hook=pairs, parse_float=str)


def ours(case: Case) -> str | None:
    """Our answer, or None where we refuse."""
    check = check_flags_json if case.bulk else check_flag_json
    try:
        return check(case.envelope, now=None if case.now is None else case.now / 1000)
    except EngineError:
        return None


class Comparison:
    """Evaluates on both engines."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.report = Report()

    def theirs(self, case: Case) -> str | None:
        export = "checkFlagsCombined" if case.bulk else "checkFlagCombined"
        return self.oracle.check(case.envelope, case.now, export)

    def differs(self, case: Case, tree: Object | None = None) -> bool:
        """Whether the engines disagree on more than a documented leniency."""
        try:
            expected = self.theirs(case)
        except wasmtime.Trap:
            self.report.traps += 1
            ours(case)
            return False
        answer = ours(case)
        self.report.count(None if case.bulk else tree, expected)
        if expected == answer or normal(expected) == normal(answer):
            return False
        if expected is None and answer is not None and self.is_lenient(case):
            self.report.lenient += 1
            return False
        return True

    def is_lenient(self, case: Case) -> bool:
        """Whether the published engine takes the envelope with enumeration values that it knows."""
        try:
            tree = json.loads(
                case.envelope, object_pairs_hook=Object, parse_int=Raw, parse_float=Raw
            )
        except ValueError:
            return False
        changed = False
        for target in objects_of(tree):
            for position, (name, value) in enumerate(target.pairs):
                known = CLOSED.get(name)
                if known is not None and is_unknown(value, known):
                    target.pairs[position] = (name, known[0])
                    changed = True
        if changed and self.takes(tree, case):
            return True
        # A struct may have come as an array, whose elements have no names.
        places = [
            (elements, position)
            for elements in arrays_of_fields(tree)
            for position, value in enumerate(elements)
            if is_unknown(value, ())
        ]
        return any(
            self.takes_replaced(tree, case, list(chosen))
            for count in (1, 2)
            for chosen in itertools.combinations(places, count)
        )

    def takes(self, tree: Any, case: Case) -> bool:
        """Whether the published engine takes this tree in the place of the case's."""
        text = write(tree).encode("utf-8", "surrogatepass")
        return self.theirs(Case(text, case.now, case.bulk)) is not None

    def takes_replaced(self, tree: Any, case: Case, places: list[tuple[list[Any], int]]) -> bool:
        """Whether it does once the values in these places are ones of some enumeration."""
        if not places:
            return self.takes(tree, case)
        (elements, position), *rest = places
        before = elements[position]
        try:
            for value in FIRST_VALUES:
                elements[position] = value
                if self.takes_replaced(tree, case, rest):
                    return True
        finally:
            elements[position] = before
        return False


def is_unknown(value: Any, known: tuple[str, ...]) -> bool:
    """Whether a value spells a variant that is not one of these."""
    if isinstance(value, Object) and len(value.pairs) == 1 and value.pairs[0][1] is None:
        value = value.pairs[0][0]
    return isinstance(value, str) and not isinstance(value, Raw) and value not in known


def arrays_of_fields(tree: Any) -> Iterator[list[Any]]:
    """The arrays that hold more than one kind of value, as a struct's fields do."""
    for parts in containers(tree):
        if len({type(part) for part in parts}) > 1 and not isinstance(parts[0], tuple):
            yield parts


def drawn(seed: int, broken_share: float) -> Iterator[tuple[Case, Object | None]]:
    """Endless cases; the tree is there for those that nothing was broken in."""
    source = Envelopes(Random(seed))
    while True:
        bulk = source.chance(0.05)
        tree = source.batch() if bulk else source.envelope()
        yield Case(write(tree).encode(), source.clock(), bulk), tree
        if source.random.random() * (1 - broken_share) < broken_share:
            text = source.broken(tree).encode("utf-8", "surrogatepass")
            if source.chance(0.05):
                at = source.random.randrange(len(text) + 1)
                text = text[:at] + bytes([source.random.randrange(128, 256)]) + text[at:]
            yield Case(text, source.clock(), bulk), None


def shrink(case: Case, differs: Callable[[Case], bool]) -> Case:
    """A smaller case on which the engines still disagree: parts are left out while they do."""
    try:
        tree = json.loads(case.envelope, object_pairs_hook=Object, parse_int=Raw, parse_float=Raw)
    except ValueError:
        return case
    smallest = Case(write(tree).encode("utf-8", "surrogatepass"), case.now, case.bulk)
    if not differs(smallest):
        return case
    progress = True
    while progress:
        progress = False
        for parts in list(containers(tree)):
            for position in range(len(parts) - 1, -1, -1):
                part = parts.pop(position)
                candidate = Case(write(tree).encode("utf-8", "surrogatepass"), case.now, case.bulk)
                if differs(candidate):
                    smallest, progress = candidate, True
                else:
                    parts.insert(position, part)
    return smallest


def containers(tree: Any) -> Iterator[list[Any]]:
    """The lists of parts that a value is made of, outermost first."""
    waiting = [tree]
    while waiting:
        current = waiting.pop(0)
        if isinstance(current, Object):
            yield current.pairs
            waiting.extend(value for _, value in current.pairs)
        elif isinstance(current, list):
            yield current
            waiting.extend(current)


def run(count: int, seed: int, broken_share: float, oracle: Oracle) -> tuple[Report, Case | None]:
    """Compares `count` cases; ends at the first difference, shrunk."""
    comparison = Comparison(oracle)
    for case, tree in itertools.islice(drawn(seed, broken_share), count):
        if comparison.differs(case, tree):
            return comparison.report, shrink(case, comparison.differs)
    return comparison.report, None


def main() -> int:
    """Runs from the command line; 1 if there is a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="envelopes to compare")
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    parser.add_argument("--broken", type=float, default=0.25, help="share of malformed envelopes")
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    module = find_module()
    if module is None:
        sys.exit("schematichq is not installed: pip install 'schematichq[datastream]==1.4.6'")
    say(f"seed {seed}")
    oracle = Oracle(module)
    report, difference = run(arguments.count, seed, arguments.broken, oracle)
    say(str(report))
    if difference is None:
        return 0
    say("\nThe engines differ on:")
    say(described(difference, oracle))
    return 1


def say(text: str) -> None:
    """Write to standard output at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def described(case: Case, oracle: Oracle) -> str:
    """The case as an entry of cases.json, with both answers."""
    expected = Comparison(oracle).theirs(case)
    entry = {
        "name": "what this case shows",
        "now": case.now,
        "bulk": case.bulk,
        "envelope": case.envelope.decode("utf-8", "backslashreplace"),
        "expected": expected,
    }
    return json.dumps(entry, indent=2, ensure_ascii=False) + f"\nours: {ours(case)}"


if __name__ == "__main__":
    sys.exit(main())
