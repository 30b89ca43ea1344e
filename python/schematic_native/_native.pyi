"""The compiled half of schematic_native: it decides, and must never do I/O or wait."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias, final

from typing_extensions import Self, disjoint_base

from schematic_native.client.hold.asynchronous import AsyncHold
from schematic_native.client.hold.synchronous import Hold
from schematic_native.config.options import (
    CheckFlagOptions,
    CheckOptions,
    DefaultValue,
    LookupKeys,
    TrackWithReservationOptions,
)

__version__: str

@final
class Build:
    """How the extension was built."""

    @property
    def version(self) -> str:
        """The package's version."""

    @property
    def features(self) -> tuple[str, ...]:
        """The ABI, "abi3", "abi3t" or "version-specific", and further ones.

        "free-threaded" if such a Python can load it, "testing" if it has what only tests need.
        """

    @property
    def profile(self) -> str:
        """Cargo's profile; "release" in every published wheel."""

    @property
    def target(self) -> str:
        """The target triple."""

    @property
    def rustc(self) -> str:
        """The compiler that built it."""

__build__: Build

FailureMode: TypeAlias = Literal["fail-closed", "fail-open"]

ENGINE_VERSION_KEY: str  # names the published engine that gives the same answers
# Defaults and limits of leases, in credits and seconds.
HOLD_LOW: Final[float]  # more is held once less than this part of the first usage is left
LARGEST_LEASE: Final[float]
LEASE_DURATION: Final[float]
LEASE_SIZE: Final[float]
LONGEST_TERM: Final[float]
LOW_WATER_MARK: Final[float]
RESERVATION_TTL: Final[float]
UNBILLABLE: Final[float]  # the fewest units that no event can bill

class EngineError(ValueError):
    """JSON that the rules engine cannot read; the message tells what is wrong, and where."""

def check_flag_json(envelope: str | bytes, *, now: float | None = None) -> str:
    """Evaluate one flag, from JSON to JSON.

    `envelope` is `{"flag", "company"?, "user"?, "options"?}`; `now` is epoch seconds, and without it nothing
    resets. Raises EngineError for an envelope that cannot be read.
    """

def check_flags_json(envelope: str | bytes, *, now: float | None = None) -> str:
    """Evaluate many flags, from JSON to JSON: `{"flags", "company"?, "user"?}` to a list in their order."""

def read_quantity(name: str, value: object) -> float:
    """Read a number of any kind, as the core reads it; a bool is NaN, as is a Decimal that is not a number.

    Raises:
        TypeError: the value is not a number; the message calls it `name`.

    """

def pack_command(opening: str, opened: int, words: tuple[str | int, ...]) -> bytes:
    """Write a command to Redis.

    Args:
        opening: its first words, packed.
        opened: how many these are.
        words: the others. Bytes that were read with "surrogateescape" go back as they came.

    """

def plain_replies(data: bytes, count: int) -> list[object] | None:
    """Read so many replies of Redis: integers, texts, null or lists of those; None if the data is anything else."""

@final
class CompiledFlag:
    """A flag, compiled from its JSON."""

    def __new__(cls, json: str | bytes) -> CompiledFlag: ...
    def check(
        self,
        company: CompiledCompany | None,
        user: CompiledUser | None,
        now: float,  # epoch seconds
        *,
        usage: float | None = None,  # rounded up
        event_usage: tuple[str, float] | None = None,  # (event subtype, quantity), rounded up
        event_quantities: tuple[str, Mapping[str, float], float | None] | None = None,
        credit_cost: Mapping[str, float] | None = None,  # credits by credit id
    ) -> CheckFlagResult: ...

@final
class CompiledCompany:
    """A company, compiled from its JSON."""

    def __new__(cls, json: str | bytes) -> CompiledCompany: ...

@final
class CompiledUser:
    """A user, compiled from its JSON."""

    def __new__(cls, json: str | bytes) -> CompiledUser: ...

@final
class WarningTier:
    """One usage warning of an entitlement."""

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, object]]: ...
    def __new__(cls, key: str, value: int) -> WarningTier: ...
    @property
    def key(self) -> str: ...
    @property
    def value(self) -> int: ...

@final
class FeatureEntitlement:
    """What a company is entitled to for one feature (amounts in credits)."""

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, object]]: ...
    def __new__(
        cls,
        feature_id: str,
        feature_key: str,
        value_type: str,
        allocation: int | None = None,
        soft_limit: int | None = None,
        usage: int | None = None,
        event_name: str | None = None,
        event_subtype: str | None = None,
        metric_period: str | None = None,
        month_reset: str | None = None,
        metric_reset_at: datetime | None = None,
        credit_id: str | None = None,
        credit_total: float | None = None,
        credit_used: float | None = None,
        credit_remaining: float | None = None,
        credit_reserved: float | None = None,
        credit_settled: float | None = None,
        consumption_rate: float | None = None,
        quantity_rates: Mapping[str, float] | None = None,
        warning_tiers: list[WarningTier] | None = None,
    ) -> FeatureEntitlement: ...
    @property
    def feature_id(self) -> str: ...
    @property
    def feature_key(self) -> str: ...
    @property
    def value_type(self) -> str: ...
    @property
    def allocation(self) -> int | None: ...
    @property
    def soft_limit(self) -> int | None: ...
    @property
    def usage(self) -> int | None: ...
    @property
    def event_name(self) -> str | None: ...
    @property
    def event_subtype(self) -> str | None: ...
    @property
    def metric_period(self) -> str | None: ...
    @property
    def month_reset(self) -> str | None: ...
    @property
    def metric_reset_at(self) -> datetime | None: ...
    @property
    def credit_id(self) -> str | None: ...
    @property
    def credit_total(self) -> float | None: ...
    @property
    def credit_used(self) -> float | None: ...
    @property
    def credit_remaining(self) -> float | None: ...
    @property
    def credit_reserved(self) -> float | None: ...
    @property
    def credit_settled(self) -> float | None: ...
    @property
    def consumption_rate(self) -> float | None: ...
    @property
    def quantity_rates(self) -> dict[str, float] | None: ...
    @property
    def warning_tiers(self) -> list[WarningTier] | None: ...

@final
class CheckFlagResult:
    """The answer of a flag check."""

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, object]]: ...
    def __new__(
        cls,
        flag: str,
        value: bool,
        reason: str,
        flag_id: str | None = None,
        rule_id: str | None = None,
        rule_type: str | None = None,
        company_id: str | None = None,
        user_id: str | None = None,
        entitlement: FeatureEntitlement | None = None,
        error: str | None = None,
        feature_allocation: int | None = None,
        feature_usage: int | None = None,
        feature_usage_event: str | None = None,
        feature_usage_period: str | None = None,
        feature_usage_reset_at: datetime | None = None,
    ) -> CheckFlagResult: ...
    @property
    def flag(self) -> str: ...
    @property
    def value(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def flag_id(self) -> str | None: ...
    @property
    def rule_id(self) -> str | None: ...
    @property
    def rule_type(self) -> str | None: ...
    @property
    def company_id(self) -> str | None: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def entitlement(self) -> FeatureEntitlement | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def feature_allocation(self) -> int | None: ...
    @property
    def feature_usage(self) -> int | None: ...
    @property
    def feature_usage_event(self) -> str | None: ...
    @property
    def feature_usage_period(self) -> str | None: ...
    @property
    def feature_usage_reset_at(self) -> datetime | None: ...

@final
class Reservation:
    """Credits held for one check until they are settled, cancelled or swept.

    Attributes:
        id: its own; the billing event's idempotency key is made of it.
        lease_id: the lease it was carved from; in mode "server" the same as `id`.
        mode: "client" if it was carved from a lease here, "server" if the service keeps it.
        company_id: whose credits they are.
        credit_type_id: which credits.
        event_subtype: the event that a settle bills.
        quantity_reserved: event units, as the caller stated them.
        credits_reserved: credits held: the quantity, rounded up, times the rate.
        consumption_rate: credits for one event unit.
        expires_at: when it lapses unless it is settled, in UTC and in whole milliseconds: of a
            datetime of any zone, finer digits are cut.
        company: the lookup keys of the check.
        user: the lookup keys of the check.

    """

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, object]]: ...
    def __new__(
        cls,
        id: str,
        lease_id: str,
        mode: Literal["client", "server"],
        company_id: str,
        credit_type_id: str,
        event_subtype: str,
        quantity_reserved: float,
        credits_reserved: float,
        consumption_rate: float,
        expires_at: datetime,
        company: Mapping[str, str] | None = None,
        user: Mapping[str, str] | None = None,
    ) -> Reservation: ...
    def to_dict(self) -> dict[str, object]:
        """Return it as JSON types, to settle it in another process."""

    @staticmethod
    def from_dict(data: Mapping[str, object]) -> Reservation:
        """Make it again from what `to_dict` returned.

        Raises KeyError for a field that is missing, TypeError or ValueError for one that is wrong.
        """

    @property
    def id(self) -> str: ...
    @property
    def lease_id(self) -> str: ...
    @property
    def mode(self) -> Literal["client", "server"]: ...
    @property
    def company_id(self) -> str: ...
    @property
    def credit_type_id(self) -> str: ...
    @property
    def event_subtype(self) -> str: ...
    @property
    def quantity_reserved(self) -> float: ...
    @property
    def credits_reserved(self) -> float: ...
    @property
    def consumption_rate(self) -> float: ...
    @property
    def expires_at(self) -> datetime: ...
    @property
    def company(self) -> dict[str, str] | None: ...
    @property
    def user(self) -> dict[str, str] | None: ...

@final
class CheckResult:
    """The answer of a lease-backed check.

    Attributes:
        allowed: whether the work may be done.
        value: the value of the flag.
        reason: which rule decided, or which failure.
        flag_key: the flag, as it was asked for.
        reservation: the credits held; None if nothing was.
        entitlement: what the company is entitled to for the flag's feature.
        flag_id: the flag's id; None if the flag is not known.
        error: the failure, None if there was none.

    """

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, object]]: ...
    def __new__(
        cls,
        allowed: bool,
        value: bool,
        reason: str,
        flag_key: str,
        reservation: Reservation | None = None,
        entitlement: FeatureEntitlement | None = None,
        flag_id: str | None = None,
        error: str | None = None,
    ) -> CheckResult: ...
    @property
    def allowed(self) -> bool: ...
    @property
    def value(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def flag_key(self) -> str: ...
    @property
    def reservation(self) -> Reservation | None: ...
    @property
    def entitlement(self) -> FeatureEntitlement | None: ...
    @property
    def flag_id(self) -> str | None: ...
    @property
    def error(self) -> str | None: ...

@final
class Ingested:
    """What became of one DataStream message.

    Attributes:
        entity_type: as sent, for example "rulesengine.Company".
        message_type: "full", "partial", "delete" or "error".
        entity_id: the id of the entity that the message is about.
        keys: of a full company or user all its keys; of an error message the keys whose waiters fail.
        error: the text of an error message.
        skipped: one sentence for each thing that could not be read, for the log.
        changed_flags: keys of the flags that changed, appeared or disappeared; empty for the first set.

    """

    entity_type: str | None
    message_type: str | None
    entity_id: str | None
    keys: dict[str, str] | None
    error: str | None
    skipped: list[str]
    changed_flags: list[str]

@final
class PendingCheck:
    """A lease-backed check that must wait for something before it can go on.

    `need` names what it waits for. Do that, and call one of the `resume` methods once; it returns the result, or
    the next thing to wait for. RuntimeError: the check was resumed already, or needs another kind of reply.

    - "resolve": request the company, the user or both over the DataStream, then resume(True). resume(False) if they
      cannot be had; the check then needs "plain".
    - "acquire": make sure that a live lease is in the slot, then resume(True); resume(False) if there is none.
    - "extend": try to extend the lease by what `required_credits` needs, then resume(True) either way.
    - "plain": the check holds no credits and memory cannot answer it. Finish it as a plain check.

    Where leases live in a shared store, also these. resume(False) if the store refused the request or never got it,
    resume_lost() if nobody knows.

    - "reserve": debit the slot by `required_credits` and, if the store can do both at once, record `reservation` with
      the lease and the expiry that the debit returned; then resume_debited(...) or resume_refused(...).
    - "record": record `reservation`, then resume(True).
    - "cancel": claim `reservation` with nothing used, then resume(True); resume_gone() if there is no such hold.
    - "refund": give the credits of `reservation`, which was not recorded, back to its lease, then resume(True).

    Attributes:
        need: what it waits for.
        missing_company: whether the company is to be requested.
        missing_user: whether the user is to be requested.
        company_id: of the slot; None while the check waits to be resolved.
        credit_type_id: of the slot; None while the check waits to be resolved.
        required_credits: credits that the check holds if it is granted.
        reservation: for "record", "cancel" and "refund"; for "reserve" without its lease and its expiry.
        time_to_live: milliseconds from the debit to the expiry, for "reserve"; otherwise 0.

    """

    need: Literal["resolve", "acquire", "extend", "plain", "reserve", "record", "cancel", "refund"]
    missing_company: bool
    missing_user: bool
    company_id: str | None
    credit_type_id: str | None
    required_credits: float
    reservation: Reservation | None
    time_to_live: int
    def __bool__(self) -> Literal[False]:
        """Return False: the check is not decided yet. A CheckResult is true."""

    def resume(self, ok: bool) -> CheckResult | PendingCheck:
        """Go on after what was needed was done (True), or failed or was refused (False)."""

    def resume_debited(
        self, remaining: float, granted: float, lease_id: str, at: float, recorded: bool
    ) -> CheckResult | PendingCheck:
        """Go on after a debit in the shared store.

        Args:
            remaining: credits of the lease after the debit.
            granted: credits of the lease in all.
            lease_id: the lease that was debited.
            at: when, in epoch seconds by the store's clock.
            recorded: whether the store has recorded the hold, too.

        """

    def resume_refused(self, short: bool) -> CheckResult | PendingCheck:
        """Go on after the store refused a debit: too few credits (`short`), or no live lease."""

    def resume_gone(self) -> CheckResult | PendingCheck:
        """Go on after the store had no such hold."""

    def resume_lost(self) -> CheckResult | PendingCheck:
        """Go on when nobody knows what became of the request to the store."""

@final
class Lease:
    """The lease in a slot.

    Attributes:
        lease_id: its id.
        company_id: of the slot.
        credit_type_id: of the slot.
        granted: credits in all, as the service says.
        remaining: credits that may still be reserved.
        expires_at: epoch seconds.

    """

    lease_id: str
    company_id: str
    credit_type_id: str
    granted: float
    remaining: float
    expires_at: float

@final
class AcquirePlan:
    """A lease to ask the service for: credits, and its expiry in epoch seconds."""

    requested_amount: float
    expires_at: float
    def with_amount(self, credits: float) -> AcquirePlan:
        """Return the same plan for another amount."""

@final
class ExtendPlan:
    """An extension of a lease to ask the service for.

    Attributes:
        lease_id: the lease.
        additional_amount: credits to ask for.
        shortfall: credits that a check lacks; an extension by fewer does not help it.
        expires_at: epoch seconds.

    """

    lease_id: str
    additional_amount: float
    shortfall: float
    expires_at: float
    def with_amount(self, credits: float) -> ExtendPlan:
        """Return the same plan for another amount."""

@final
class SlabPlan:
    """A slab to take of a shared lease.

    Attributes:
        credits: how large it is to be.
        smallest: credits; a smaller slab is not worth taking.
        usable_for: seconds from this plan during which holds may be carved from it.
        kept_for: seconds during which the shared store keeps its row.

    """

    credits: float
    smallest: float
    usable_for: float
    kept_for: float

@final
class OwedClaim:
    """A settle that is billed, and whose hold the shared store has still to end.

    Attributes:
        reservation: the hold.
        credits: used of the hold.

    """

    @property
    def reservation(self) -> Reservation: ...
    @property
    def credits(self) -> float: ...

@final
class EventBatch:
    """Up to 100 events, written when they are read; a retry writes the same bytes again.

    Attributes:
        body: the JSON body of one capture request.
        count: how many events there are.
        billing: how many of them are track or identify events.

    """

    body: bytes
    count: int
    billing: int
    def request(self, head: bytes) -> bytes:
        """Return a whole HTTP/1.1 request: the lines of `head`, the length, the body."""

    def exchange(self, descriptor: int, head: bytes) -> HttpAnswer:
        """Send that request over a socket that blocks, and read the response; not on Windows.

        The socket must stay open until then. The interpreter's lock is released in the meantime.

        Raises:
            OSError: the connection failed before any of the response came.
            ValueError: it failed later, or what came is no HTTP response.

        """

    def split(self) -> tuple[EventBatch, EventBatch] | None:
        """Return two halves, to find an event that the service refuses; None if there is only one event."""

@final
class HttpAnswer:
    """The response to one HTTP/1.1 request.

    Attributes:
        status: the status code.
        body: the body, without its framing.
        reusable: whether the connection may serve another request.

    """

    status: int
    body: bytes
    reusable: bool
    def header(self, name: str) -> str | None:
        """Return a header; upper and lower case of its name are the same."""

def read_answer(received: bytes, ended: bool, tunnel: bool) -> HttpAnswer | None:
    """Read a response from all bytes received so far; None if more are to come.

    Args:
        received: all bytes since the request.
        ended: whether no more will come.
        tunnel: whether the request opens a tunnel, so that a success has no body.

    Raises:
        ValueError: the bytes are no HTTP response.

    """

@final
class Pace:
    """How many requests may be under way: more while the service stays fast, fewer when it slows down."""

    limit: int
    def __new__(cls, first: int, most: int) -> Pace: ...
    def taken(self, seconds: float, wanted: bool) -> None:
        """Note that the service took a batch in so many seconds; `wanted`: more would have been sent."""

    def refused(self) -> None:
        """Note that the service refused a batch as too much, or did not answer."""

@disjoint_base
class Memory:
    """The half of a client that answers from memory; its methods are for the clients alone.

    Where a method returns None or False, memory cannot tell and nothing was done.
    """

    def __new__(cls, *_arguments: object, **_keywords: object) -> Self: ...
    def _take_core(self, core: Core, holds: OpenHolds | None = None) -> None:
        """Replace the core and its open holds, after a fork. Nothing is answered until `_open`."""

    def _open(self, checking: bool, leasing: bool, settling: bool, single: bool = False) -> None:
        """Set what may be answered.

        Args:
            checking: plain checks.
            leasing: checks that hold credits.
            settling: settles, and events of checks.
            single: only checks of companies and users that are named by one key.

        """

    def _flag_value_now(
        self, flag_key: str, company: LookupKeys | None, user: LookupKeys | None
    ) -> bool | None:
        """Answer a plain check."""

    def _begin_now(
        self,
        flag_key: str,
        company: LookupKeys | None,
        user: LookupKeys | None,
        options: CheckOptions | None,
        usage: float | None,
        event_subtype: str | None,
        on_acquire_failure: FailureMode | None,
        default_value: DefaultValue,
        timeout: float | None,
        ttl: float | None = None,
    ) -> CheckResult | PendingCheck | None:
        """Begin a check that holds credits; `ttl` is in seconds, None as configured."""

    def _settle_now(self, reservation: object, quantity: object) -> bool:
        """Settle a hold that is in this process."""

@final
class HoldLock:
    """The lock of one client's holds; the thread that has it may take it again."""

    def __enter__(self) -> None: ...
    def __exit__(self, *_error: object) -> None: ...

@disjoint_base
class OpenHolds:
    """The open holds of one client, none of which it keeps alive.

    Its Python class has `wake_at`, which is called when a hold is due before `next_at`.
    """

    next_at: float
    """When the loop looks at them next, by the monotonic clock."""
    lead: float
    """Seconds after which a hold is renewed."""

    def __new__(cls, *_arguments: object, **_keywords: object) -> Self: ...
    def _take_clock(self, clock: Callable[[], float]) -> None:
        """Read this clock in place of the system's."""

    @property
    def lock(self) -> HoldLock: ...
    def monotonic(self) -> float:
        """Seconds that never go back."""

    def live(self) -> list[Any]:
        """Return the open holds."""

@disjoint_base
class OpenHold:
    """The native half of a hold: it is entered, counts and ends natively if memory has all the answers.

    Otherwise it calls `_enter_slowly`, `_use` and `_exit_slowly` of its Python half, and `_end_dropped` if
    it is garbage collected open.
    """

    _result: Any
    _pieces: tuple[Reservation, ...]
    _ending: Any
    _used: float
    _held: float
    _billed: int
    """Whole units of pieces that were settled."""
    _low: float
    """Units left below which it grows."""
    _due: float
    """When it is renewed, by the monotonic clock."""
    _ttl: Any
    _is_busy: bool
    """Whether it is growing, or being renewed."""
    _is_simple: bool
    """Whether a settle of memory's own is enough for it."""
    _may_outlive: bool
    """Whether it may go on after its block."""
    _has_ended: bool
    _is_entering: bool
    """Whether the first check is being made. Python only resets it, if that check fails."""

    def __del__(self) -> None: ...
    @property
    def allowed(self) -> bool:
        """Whether the work may be done."""

    @property
    def result(self) -> CheckResult:
        """The answer of the first check."""

    @property
    def _client(self) -> Any: ...
    @property
    def _holds(self) -> Any: ...
    @property
    def _arguments(self) -> Any: ...
    @property
    def _usage(self) -> float: ...
    def _begin(self) -> Literal[True] | CheckResult | PendingCheck | None:
        """Begin the first check; True if the hold has taken its answer, else what was begun.

        Raises:
            RuntimeError: the hold has been entered before.

        """

    def _watch(self) -> None:
        """Schedule the renewal."""

    def _forget(self) -> None:
        """Take a hold that has ended from the open ones."""

    def _enter(self) -> Self: ...
    def _exit(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def _ends_at_once(self) -> bool:
        """End as most holds do: with one piece that was used, and that memory can settle."""

    def use(self, units: float) -> None:
        """Count units as used. This never waits, and never fails for lack of credits.

        Any thread may call it. Usage of an allowed hold is billed even beyond what is held.

        Raises:
            TypeError, ValueError: `units` is not a finite number of 0 or more.
            RuntimeError: the hold has ended, or has not been entered.

        """

class AsyncSchematic(Memory):
    """The hot method of the asynchronous client that is no coroutine."""

    def __new__(cls, *arguments: object, **keywords: object) -> Self: ...
    def hold(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        *,
        usage: float,
        event_subtype: str | None = None,
        on_acquire_failure: FailureMode | None = None,
        default_value: DefaultValue = None,
        timeout: float | None = None,
        traits: Mapping[str, Any] | None = None,
        required: bool = False,
        ttl: float | None = None,
        key: str | None = None,
    ) -> AsyncHold:
        """Hold credits for a block of work, and settle what was used when the block is left.

        Use it with `async with`, and report usage with `hold.use(units)`. In the background, the hold
        reserves more when it runs low, and renews reservations before they expire. However the block
        is left, what was used is billed once and the rest is refunded. See `docs/holds.md`.

        Args:
            flag_key: the flag.
            company: the company's lookup keys.
            user: the user's lookup keys.
            usage: the event units to hold at first, more than 0.
            event_subtype: the event that is billed; None takes the entitlement's.
            on_acquire_failure: see `check`.
            default_value: see `check`.
            timeout: seconds that each check may take.
            traits: the traits of the billed events.
            required: raise CreditsDenied on entering if the check denies.
            ttl: the time to live between renewals, in seconds; None for the configured one.
            key: names the operation: if it is repeated within 24 h, it is billed once.

        Raises:
            TypeError, ValueError: usage, traits, ttl or key is wrong; entering checks the others.

        """

class Schematic(Memory):
    """The hot methods of the synchronous client.

    What must wait goes to `check_flag_with_entitlement`, `_check_waiting` and `_track_with_reservation`, which the
    client has.
    """

    def __new__(cls, *arguments: object, **keywords: object) -> Self: ...
    def check_flag(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> bool:
        """Tell whether a flag is on for a company and a user, named by their lookup keys."""

    def check(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckOptions | None = None,
        *,
        usage: float | None = None,
        event_subtype: str | None = None,
        on_acquire_failure: FailureMode | None = None,
        default_value: DefaultValue = None,
        timeout: float | None = None,
    ) -> CheckResult:
        """Check a flag and, if credit leases are configured, hold credits for the usage stated.

        See `AsyncSchematic.check`, whose arguments are the same.
        """

    def track_with_reservation(
        self,
        reservation: Reservation | None,
        actual_quantity: float,
        options: TrackWithReservationOptions | None = None,
    ) -> None:
        """Settle a reservation: bill `actual_quantity` event units (rounded up), refund the rest of the hold."""

    def hold(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        *,
        usage: float,
        event_subtype: str | None = None,
        on_acquire_failure: FailureMode | None = None,
        default_value: DefaultValue = None,
        timeout: float | None = None,
        traits: Mapping[str, Any] | None = None,
        required: bool = False,
        ttl: float | None = None,
        key: str | None = None,
    ) -> Hold:
        """Hold credits for a block of work, and settle what was used when the block is left.

        Use it with `with`. The arguments are those of `AsyncSchematic.hold`.

        Raises:
            TypeError, ValueError: usage, traits, ttl or key is wrong; entering checks the others.

        """

@final
class Core:
    """Everything one client decides: cache, engine, leases and the event queue.

    Args:
        api_key: sent with every event.
        max_companies: companies cached at most.
        max_users: users cached at most.
        max_billing_events: track and identify events that may wait to be sent.
        max_flag_check_events: events of checks that may wait to be sent.
        lease_size: credits to ask for in a lease.
        lease_duration: seconds that a lease lasts.
        reservation_ttl: seconds that a hold lasts unless it is settled.
        low_water_mark: the share of a lease at which it is extended, from 0 to 1.
        overrides: by credit type id, any of the four settings above.
        clock: returns epoch seconds; None is the system's clock.
        wake: called with a topic when something needs attention, see below.
        seed: of reservation ids; None is the system's randomness.
        shared: whether leases live in a store that other processes share.
        slabs: smallest and largest in credits, lifetime in seconds; None for no slabs.
        steady: returns seconds by a clock that never steps; None is the system's.
        spool: its directory, its most bytes, and the seconds after which it is synced (0 is at once, None never); None
            keeps events in memory only.

    `wake(topic)` is called from inside other calls, on whatever thread they run, at most once until the topic is
    attended to: "events" when a full batch waits (attended to by `take_batch`, or by `expect_batch` after full ones),
    "extend" when a lease is at or below its low-water mark (attended to by `take_low_slots`).

    Raises:
        ValueError: a setting is out of its range; the message names it.

    """

    def __new__(
        cls,
        *,
        api_key: str,
        max_companies: int = 100_000,
        max_users: int = 100_000,
        max_billing_events: int = 1_000_000,
        max_flag_check_events: int = 10_000,
        lease_size: float = ...,  # LEASE_SIZE, and so on
        lease_duration: float = ...,
        reservation_ttl: float = ...,
        low_water_mark: float = ...,
        overrides: Mapping[str, Mapping[str, float | None]] | None = None,
        clock: Callable[[], float] | None = None,
        wake: Callable[[str], None] | None = None,
        seed: int | None = None,
        shared: bool = False,
        slabs: tuple[float, float, float] | None = None,
        steady: Callable[[], float] | None = None,
        spool: tuple[str, int, float | None] | None = None,
    ) -> Core: ...
    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one that made this core, whoever forked it."""

    def now(self) -> float:
        """Return epoch seconds by the core's clock."""

    # The cached flags, companies and users

    def ingest(self, message: bytes | str) -> Ingested:
        """Apply a DataStream message. What cannot be read of it is skipped and described."""

    def has_flags(self) -> bool:
        """Tell whether a full set of flags has arrived."""

    def flag_keys(self) -> list[str]:
        """Return the keys of the cached flags."""

    def company_id(self, keys: Mapping[str, str]) -> str | None:
        """Return the id of a cached company; None if it is not cached, or if the keys name several."""

    def user_id(self, keys: Mapping[str, str]) -> str | None:
        """Return the id of a cached user; None if it is not cached, or if the keys name several."""

    def company_subscriptions(self) -> list[dict[str, str]]:
        """Return the keys of every cached company, most used first."""

    def user_subscriptions(self) -> list[dict[str, str]]:
        """Return the keys of every cached user, most used first."""

    def company_balance(self, company_id: str, credit_type_id: str) -> float | None:
        """Return the credits of a cached company; None if they are not known."""

    # Plain checks

    def check_flag(
        self,
        flag_key: str,
        company: Mapping[str, str] | None = None,
        user: Mapping[str, str] | None = None,
        *,
        usage: float | None = None,
        event_usage: tuple[str, float] | None = None,
        event_quantities: tuple[str, Mapping[str, float], float | None] | None = None,
        credit_cost: Mapping[str, float] | None = None,
        partial: bool = False,
        record: bool = True,
    ) -> CheckFlagResult | Literal["flag", "company", "user", "company+user", "conflict", "forked"]:
        """Answer a plain check from memory; a str is no answer but names what is missing.

        Args:
            flag_key: the flag.
            company: lookup keys.
            user: lookup keys.
            usage: units about to be used, rounded up.
            event_usage: event subtype and quantity, rounded up.
            event_quantities: event subtype, quantities by name, and the quantity of the event itself.
            credit_cost: credits by credit id.
            partial: answer although a company or user is not cached.
            record: queue the event of the check.

        """

    def record_flag_check(
        self,
        result: CheckFlagResult,
        company: Mapping[str, str] | None,
        user: Mapping[str, str] | None,
    ) -> None:
        """Queue the event of a check that was answered elsewhere."""

    # Lease-backed checks

    def check(
        self,
        flag_key: str,
        company: Mapping[str, str] | None,
        user: Mapping[str, str] | None,
        usage: float,
        event_subtype: str | None = None,
        on_acquire_failure: FailureMode | None = None,
        ttl: float | None = None,
    ) -> CheckResult | PendingCheck | None:
        """Begin a check that holds credits; `ttl` is in seconds, None as configured. None: forked."""

    def check_unheld(
        self,
        flag_key: str,
        company: Mapping[str, str] | None,
        user: Mapping[str, str] | None,
        usage: float,
        event_subtype: str | None,
        on_acquire_failure: FailureMode | None,
        *,
        record: bool,
    ) -> CheckResult | None:
        """Decide a check for which credits cannot be requested any more.

        `record` queues the event of the check. None: memory lacks what an evaluation needs.
        """

    # Settles: each bills at once; what it returns is what the shared store is owed, if anything

    def settle_shared(
        self, reservation: Reservation, actual_quantity: float, traits: bytes | None = None
    ) -> OwedClaim | None:
        """Bill what was used, with `traits` (a JSON object), and end the hold. Any other quantity does nothing."""

    def settle_part(
        self,
        reservation: Reservation,
        actual_quantity: float,
        traits: bytes | None = None,
        key: str | None = None,
    ) -> OwedClaim | None:
        """Settle as `settle_shared` does; `key` is the event's idempotency key, None derives it from the hold."""

    def release(self, reservation: Reservation) -> OwedClaim | None:
        """End a hold of which nothing was used; nothing is billed."""

    def owed_claims(self) -> list[OwedClaim]:
        """Return the claims that the shared store is owed, oldest first."""

    def claim_ended(self, claim: OwedClaim, has_ended_hold: bool) -> None:
        """Close a claim that the store has answered, or whose hold's row is surely gone."""

    # Leases, for the lease manager

    def lease(self, company_id: str, credit_type_id: str) -> Lease | None:
        """Return the lease in a slot, live or expired."""

    def plan_acquire(self, company_id: str, credit_type_id: str) -> AcquirePlan | None:
        """Return what to ask the service for; None if a live lease is there."""

    def install_lease(
        self, company_id: str, credit_type_id: str, lease_id: str, granted: float, expires_at: float
    ) -> str:
        """Put a lease into a slot (credits, epoch seconds) unless a live one is there.

        Returns the id of the lease in the slot: another than `lease_id` means that the new one is redundant.
        """

    def plan_extend(
        self, company_id: str, credit_type_id: str, required_credits: float | None = None
    ) -> ExtendPlan | None:
        """Return the extension to ask for; None if none is needed, or none is possible."""

    def apply_extend(
        self,
        company_id: str,
        credit_type_id: str,
        lease_id: str | None,
        granted_total: float,
        expires_at: float | None,
    ) -> bool:
        """Apply an extension, if the lease in the slot is `lease_id`; None means any."""

    def plan_shared_acquire(self, credit_type_id: str) -> AcquirePlan:
        """Return what to ask the service for, for a lease in the shared store."""

    def plan_shared_extend(
        self,
        credit_type_id: str,
        lease_id: str,
        granted: float,
        remaining: float,
        required_credits: float | None = None,
    ) -> ExtendPlan | None:
        """Return the extension of a live lease in the shared store; None if none is needed."""

    def note_spent(
        self, company_id: str, credit_type_id: str, credits: float, balance: float | None
    ) -> None:
        """Remember that the service refused so many credits; `balance` is the cached one before that."""

    def forget_spent(self, company_id: str, credit_type_id: str) -> None:
        """Forget that the service refused credits of a slot."""

    def was_refused(self, company_id: str, credit_type_id: str, credits: float) -> bool:
        """Tell whether the service has refused that few credits since the check that asks was begun.

        A cached balance that has risen since ends that.
        """

    def take_low_slots(self) -> list[tuple[str, str]]:
        """Return the company id and the credit type id of each slot at or below its low-water mark."""

    def drop_lease(self, company_id: str, credit_type_id: str) -> None:
        """Take the lease out of a slot."""

    def live_leases(self) -> list[Lease]:
        """Return all leases that have not expired."""

    def reserved_credits(self, company_id: str, credit_type_id: str) -> float:
        """Return the credits of a slot that open holds reserve."""

    def sweep(self) -> int:
        """Refund expired holds; returns how many."""

    # Slabs: parts of a shared lease, taken so that checks are served from memory

    def plan_slab(self, company_id: str, credit_type_id: str) -> SlabPlan | None:
        """Return the slab to take; None if the slot has enough, or if slabs are off."""

    def slab_row(
        self,
        company_id: str,
        credit_type_id: str,
        lease_id: str,
        credits: float,
        expires_at: float,
    ) -> Reservation:
        """Return the row by which a slab is taken in the shared store; `expires_at` is in epoch seconds."""

    def open_slab(self, row: Reservation, plan: SlabPlan, usable_for: float) -> bool:
        """Serve checks from a slab whose row is recorded, for so many seconds from the plan."""

    def take_slab_uses(self) -> list[tuple[Reservation, float]]:
        """Return rows of open slabs and the credits used of each, where that has grown since the last call."""

    def take_slabs_in_use(self) -> list[Reservation]:
        """Return rows of the slabs that holds were carved from since the last call."""

    def lose_slab(self, row: Reservation) -> tuple[float, float] | None:
        """Close a slab whose row is lost; returns the credits taken of it and left, None if it is not open."""

    def take_closed_slabs(self) -> list[tuple[Reservation, float]]:
        """Return rows of closed slabs, to be settled with the credits used of each."""

    def close_slabs(self) -> list[tuple[Reservation, float, list[tuple[str, float]]]]:
        """Close all slabs; returns their rows, the credits used of each, and its open holds with their credits."""

    def lapsed(self) -> list[tuple[Reservation, Reservation, bool]]:
        """Return row and hold of each hold that lapsed, and whether a copy of it left this process.

        Another process may have settled it. It is returned until `end_lapsed`.
        """

    def end_lapsed(self, hold: Reservation, credits: float) -> None:
        """Close a lapsed hold, with the credits that it was settled with elsewhere."""

    @staticmethod
    def slab_of(hold: Reservation) -> str | None:
        """Return the id of the row that a hold was carved from; None if it was carved from a lease."""

    # Events

    def track(
        self,
        event: str,
        company: Mapping[str, str] | None = None,
        user: Mapping[str, str] | None = None,
        traits: bytes | None = None,
        quantity: int | None = None,
        idempotency_key: str | None = None,
        sent_at: str | None = None,
        trusted_client_clock: bool | None = None,
        backfill: bool | None = None,
    ) -> None:
        """Queue a track event and count it in the cached company's metrics.

        `traits` is a JSON object, `sent_at` in RFC 3339.
        """

    def identify(
        self,
        keys: Mapping[str, str],
        company: bytes | None = None,
        name: str | None = None,
        traits: bytes | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Queue an identify event; `company` ({keys, name?, traits?}) and `traits` are JSON objects."""

    def take_batch(self, *, full: bool = False) -> EventBatch | None:
        """Take up to 100 events, oldest first, billing before analytics; with `full`, 100 or none."""

    def expect_batch(self) -> bool:
        """Have `wake` called for the next full batch; True if one is there already."""

    # The spool, which keeps track and identify events on disk until they are delivered

    def start_spool(self) -> None:
        """Open the spool's files and adopt, in the background, what dead processes left; nothing without a spool."""

    def delivered(self, batch: EventBatch) -> None:
        """Have the spool forget the events of a batch that the service has taken, or refused for good."""

    def close_spool(self, undelivered: list[EventBatch]) -> int | None:
        """Empty the queue, keep what is not kept yet of it and of these batches, and close the spool.

        Returns how many track and identify events could not be kept; None without a spool.
        """

    def spool_counts(self) -> dict[str, int] | None:
        """Return what the spool has and has done, or None: events, bytes, refused, adopted, parked, damaged."""

    def spool_report(self) -> tuple[str | None, list[str]]:
        """Return what is wrong with the spool now, and what happened since the last report."""

    # Counts, without I/O

    def counts(self) -> dict[str, int]:
        """Return what the core has and has done.

        flags, companies, users, evicted, leases, open_holds, queued_billing, queued_flag_checks, dropped_billing,
        dropped_flag_checks, checks, settles, swept.
        """

    def denials(self) -> dict[str, int]:
        """Return the lease-backed checks that were denied: by "rules", or by each failure."""
