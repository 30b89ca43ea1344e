"""The judge: a ledger of its own, told what callers were answered, what was billed and what Redis holds.

It knows nothing of how the package works. What is documented to be lost it counts as doubtful: it is then
not held to have been spent, nor to have come back.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Hash: TypeAlias = "Mapping[bytes, bytes]"
KEY = "lease-reservation:"
# Sums of doubles that a Redis row went through.
TOLERANCE = 1e-6
# Seconds that an answer may take from the debit to its caller.
LATEST = 2.5
# Seconds that the service knows an idempotency key, and that clocks of pods may differ.
DAY, CLOCKS = 86_400.0, 30.0


class ViolationError(AssertionError):
    """A promise was broken."""


@dataclass
class Held:
    """One hold that a caller was answered with."""

    id: str
    lease_id: str
    credits: float
    rate: float
    owner: str  # the process that it was answered by
    lapses: Callable[[], bool]
    # Whether a settle may by now not have reached Redis, for a reason that is none of the package's.
    may_be_late: Callable[[], bool]
    # Whether Redis may not hear now of what its settler has to say.
    is_deaf: Callable[[], bool]
    settler: str = ""  # the process that settles it, once one does
    is_settling: bool = False
    settled_at: float = math.inf  # when the first settle began
    resettled_at: float = math.inf  # when the latest one began
    is_given: bool = False  # a copy has left its process
    is_lapsed: bool = False
    lapsed_at: float = math.inf
    is_doubtful: bool = False  # what it holds or spent may be somebody else's by now, as documented
    was_late: bool = False  # it had lapsed when its first settle began
    units: list[int] = field(default_factory=list)  # that settles asked to bill

    @property
    def weight(self) -> float:
        """Credits of its lease that nobody else may have."""
        if self.is_doubtful or self.was_late:
            return 0.0
        if self.is_settling:
            return min(self.credits, min(self.units) * self.rate)
        return 0.0 if self.is_lapsed else self.credits


@dataclass
class Block:
    """A `hold` block, whatever pieces it holds: what was used in it is billed once, rounded up."""

    pod: str
    used: float = 0.0
    billed: int = 0
    is_over: bool = False  # it was left while its client could bill


class Judge:
    """What must be true, after each step and in the end.

    Args:
        has_row: whether a hold is open in Redis.
        now: seconds, by the world's clock.

    """

    def __init__(self, has_row: Callable[[str], bool], now: Callable[[], float]) -> None:
        self._has_row = has_row
        self._now = now
        self.holds: dict[str, Held] = {}
        self.billed: dict[str, int] = {}  # units, by hold
        self._billed_at: dict[str, float] = {}
        self.blocks: dict[str, Block] = {}
        self._keys: set[str] = set()  # of events that were billed of blocks
        self.undeliverable: set[str] = (
            set()
        )  # pods that ended before all that blocks used there was delivered
        self.excused: set[str] = set()  # holds whose settle need not be billed
        self.allowance: dict[str, float] = defaultdict(
            float
        )  # credits that Redis has forgotten, by lease
        self.leaks: dict[str, float] = defaultdict(float)  # credits that may be missing, by lease
        self.seen: Counter[str] = Counter()
        self._pods: dict[str, set[str]] = defaultdict(set)  # that held credits, by lease

    # What happens

    def held(self, hold: Held) -> None:
        """A caller was answered with a hold."""
        if hold.id in self.holds:
            raise ViolationError(f"two checks were answered with one hold, {hold.id}")
        self.holds[hold.id] = hold
        pods = self._pods[hold.lease_id]
        pods.add(hold.owner)
        self.seen["two pods held credits of one lease"] += len(pods) > 1

    def taken(self, hold_id: str, lease_id: str, ended_for: float) -> None:
        """A caller was answered with credits of a lease that ended so many seconds ago, if that is positive."""
        if ended_for > LATEST:
            raise ViolationError(
                f"hold {hold_id} is of lease {lease_id}, ended {ended_for:.3f} s ago"
            )

    def settling(self, hold_id: str, units: int, pod: str) -> None:
        """A caller settles a hold."""
        hold = self.holds[hold_id]
        if not hold.is_settling:
            hold.was_late = hold.is_lapsed or hold.lapses()
            hold.settler = pod
            self.seen["a settle began after its hold had lapsed"] += hold.was_late
        elif units not in hold.units:
            self.seen["a settle was repeated with other units"] += 1
        hold.is_settling, hold.settled_at = True, min(hold.settled_at, self._now())
        hold.resettled_at = self._now()
        hold.units.append(units)

    def over(self, instant: float) -> set[str]:
        """Return the holds that have been settled by now, or had lapsed by an instant."""
        self.lapse()
        return {h.id for h in self.holds.values() if h.is_settling or h.lapsed_at <= instant}

    def settled_by(self, pod: str) -> set[str]:
        """Return the holds that a process settles."""
        return {h.id for h in self.holds.values() if h.settler == pod and h.is_settling}

    def doubt(self, holds: Iterable[Held]) -> None:
        """What becomes of these is documented to be uncertain."""
        for hold in holds:
            hold.is_doubtful = True

    def note_parked(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Events were put aside as too old to be sent, for people to find out whether they were billed."""
        for event in events:
            self.seen["usage was put aside that was too old to be sent"] += 1
            block, key = _block_of(event), (event.get("idempotency_key") or "").removeprefix(KEY)
            if block is not None:
                self.undeliverable.add(self.blocks[block].pod)
            elif key in self.holds:
                self.excused.add(key)
                age = self._now() - self.holds[key].settled_at
                if age < DAY - CLOCKS:
                    raise ViolationError(
                        f"the settle of {key} was put aside, and is {age:.0f} s old"
                    )

    def captured(self, events: Iterable[Mapping[str, Any]]) -> None:
        """The service has taken events."""
        for event in events:
            key = event.get("idempotency_key") or ""
            block = _block_of(event)
            if block is not None:
                self._bill_block(block, key, event["body"]["quantity"])
                continue
            if event["type"] != "track" or not key.startswith(KEY):
                continue
            hold_id, units = key.removeprefix(KEY), event["body"]["quantity"]
            hold = self.holds.get(hold_id)
            if hold is None or units not in hold.units:
                asked = None if hold is None else hold.units
                raise ViolationError(
                    f"{units} units were billed of hold {hold_id}, settled with {asked}"
                )
            if hold_id in self.billed:
                self.seen["an event was taken twice"] += 1
                self._look_at_repeat(hold_id)
            elif (
                hold.weight and not hold.is_lapsed and self._has_row(hold_id) and not hold.is_deaf()
            ):
                raise ViolationError(f"the settle of {hold_id} was billed before Redis heard of it")
            self.billed.setdefault(hold_id, units)
            self._billed_at.setdefault(hold_id, self._now())

    def _look_at_repeat(self, hold_id: str) -> None:
        """The service knows a key for a day: what it takes again after that is billed again.

        A caller may settle a hold once more when the day is almost over, and be delivered after it.
        """
        if self._now() - self._billed_at[hold_id] <= DAY:
            return
        if self._now() - self.holds[hold_id].resettled_at > DAY:
            raise ViolationError(f"the settle of {hold_id} was billed again after a day")
        self.seen["a caller settled a hold again whose key was forgotten by the time"] += 1

    def released(self, lease_id: str, settled: Iterable[str]) -> None:
        """A lease was given back by a process that had settled these holds, and nothing was in its way."""
        for hold_id in settled:
            if self.holds[hold_id].lease_id == lease_id and hold_id not in self.billed:
                raise ViolationError(
                    f"lease {lease_id} was given back before the settle of {hold_id} was billed"
                )

    def _bill_block(self, name: str, key: str, units: int) -> None:
        if key in self._keys:
            return
        self._keys.add(key)
        block = self.blocks[name]
        block.billed += units
        if block.billed > math.ceil(block.used):
            raise ViolationError(
                f"{block.billed} units were billed of a block that used {block.used}"
            )

    def called(self, what: str, seconds: float, limit: float) -> None:
        """A call has come back."""
        if seconds > limit:
            raise ViolationError(f"{what} took {seconds:.3f} s, {limit:.3f} s at most were allowed")

    def raised(self, what: str, error: BaseException) -> None:
        """A call has raised."""
        raise ViolationError(f"{what} raised {type(error).__name__}: {error}") from error

    # What must be true

    def lapse(self) -> None:
        """Note which holds have lapsed by now."""
        for hold in self.holds.values():
            if not hold.is_lapsed and hold.lapses():
                self._lapse(hold)

    def ends(self, hold_id: str) -> None:
        """A hold is about to end in Redis."""
        hold = self.holds.get(hold_id)
        if hold is not None and not hold.is_lapsed and hold.lapses():
            self._lapse(hold)

    def _lapse(self, hold: Held) -> None:
        hold.is_lapsed, hold.lapsed_at = True, self._now()
        if not hold.is_settling:
            self.seen["a hold lapsed that was never settled"] += 1
        elif self._has_row(hold.id):
            # Redis has not heard of the settle by now: that comes too late, and is billed all the same.
            self.seen["a hold lapsed while its settle was under way"] += 1
            hold.is_doubtful |= hold.may_be_late()

    def spent(self) -> dict[str, float]:
        """Credits that are held or were used, by lease."""
        weights: dict[str, list[float]] = defaultdict(list)
        for hold in self.holds.values():
            weights[hold.lease_id].append(hold.weight)
        return {lease_id: math.fsum(each) for lease_id, each in weights.items()}

    def check(self, granted: Mapping[str, float], rows: Iterable[Hash]) -> None:
        """After each step: `granted` by the service, by lease, and the rows of leases in Redis."""
        self.lapse()
        spent = self.spent()
        for lease_id, taken in spent.items():
            if taken > granted.get(lease_id, 0.0) + self.allowance[lease_id] + TOLERANCE:
                raise ViolationError(
                    f"{taken} of lease {lease_id} are spent or held, {granted[lease_id]} granted"
                )
        for row in rows:
            lease_id = row[b"leaseId"].decode()
            left, lent = float(row[b"localRemainingCredits"]), float(row[b"grantedAmount"])
            taken = spent.get(lease_id, 0.0)
            if lent > granted.get(lease_id, 0.0) + TOLERANCE:
                raise ViolationError(
                    f"Redis lends {lent} of lease {lease_id}, {granted.get(lease_id)} granted"
                )
            if left < -TOLERANCE or left > lent + TOLERANCE:
                raise ViolationError(f"{left} are left of {lent} of lease {lease_id}")
            if left + taken > lent + self.allowance[lease_id] + TOLERANCE:
                raise ViolationError(
                    f"{left} are left of {lent} of lease {lease_id}, {taken} are spent or held"
                )

    def check_own(self, shares: Iterable[tuple[str, Any]]) -> None:
        """After each step: what each process has of a lease, by its name, where no store is shared."""
        for pod, lease in shares:
            mine = [
                hold.weight
                for hold in self.holds.values()
                if hold.lease_id == lease.lease_id and hold.owner == pod
            ]
            if lease.remaining + math.fsum(mine) > lease.granted + TOLERANCE:
                raise ViolationError(
                    f"{pod}: {lease.remaining} are left of {lease.granted}, {sum(mine)} are spent or held"
                )

    def check_shares(self, granted: Mapping[str, float], shares: Iterable[tuple[str, Any]]) -> None:
        """After each step: what all processes have of leases together, where no store is shared."""
        left: dict[str, float] = defaultdict(float)
        for _, lease in shares:
            left[lease.lease_id] += lease.remaining
        spent = self.spent()
        for lease_id, free in left.items():
            taken, lent = spent.get(lease_id, 0.0), granted.get(lease_id, 0.0)
            if free + taken > lent + TOLERANCE:
                raise ViolationError(
                    f"all processes have {free} left of lease {lease_id}, {taken} are spent or held, {lent} granted"
                )

    def check_billing(self) -> None:
        """In the end: each settle is billed once, and each block."""
        for block in self.blocks.values():
            is_certain = block.is_over and block.pod not in self.undeliverable
            if is_certain and block.billed != math.ceil(block.used):
                raise ViolationError(
                    f"{block.pod}: {block.billed} units were billed of a block that used {block.used}"
                )
        for hold in self.holds.values():
            if hold.is_settling and hold.id not in self.billed and hold.id not in self.excused:
                raise ViolationError(f"{hold.settler}: the settle of {hold.id} was never billed")

    def check_rest(self, row: Hash) -> None:
        """In the end: all that is missing of a lease in Redis was used, but for what may have leaked."""
        lease_id = row[b"leaseId"].decode()
        missing = float(row[b"grantedAmount"]) - float(row[b"localRemainingCredits"])
        used = math.fsum(
            max(min(h.credits, units * h.rate) for units in h.units)
            for h in self.holds.values()
            if h.lease_id == lease_id and h.is_settling
        )
        # A hold of which a copy has left its process counts as used when nobody settles it.
        given = (h for h in self.holds.values() if h.lease_id == lease_id and h.is_given)
        leaked = self.leaks[lease_id] + math.fsum(h.credits for h in given if not h.is_settling)
        if missing > used + leaked + TOLERANCE:
            raise ViolationError(
                f"{missing} are missing of lease {lease_id}, {used} were used, {leaked} may leak"
            )


def _block_of(event: Mapping[str, Any]) -> str | None:
    """Return the block whose usage an event bills."""
    traits = (event["body"].get("traits") or {}) if event["type"] == "track" else {}
    return traits.get("block")
