"""The compiled half of schematic_native: decisions only, no I/O."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Literal, TypeAlias, final

from typing_extensions import Self, disjoint_base

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
        """The ABI, "abi3", "abi3t" or "version-specific", and "free-threaded" if such a Python can load it."""

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

ENGINE_VERSION_KEY: str  # of the published engine whose answers these are
# Defaults and limits of leases, in credits and seconds.
LARGEST_LEASE: Final[float]
LEASE_DURATION: Final[float]
LEASE_SIZE: Final[float]
LONGEST_TERM: Final[float]
LOW_WATER_MARK: Final[float]
RESERVATION_TTL: Final[float]

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
    """Read a number of any kind, as the core reads it; what is none, and a bool, is NaN.

    `name` is the argument's, for the TypeError about a value that is not a number.
    """

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
    """What became of one DataStream message. A message that cannot be read is described in `skipped`."""

    entity_type: str | None  # as sent, for example "rulesengine.Company"
    message_type: str | None  # "full", "partial", "delete", "error"
    entity_id: str | None
    keys: (
        dict[str, str] | None
    )  # of a full company or user: all its keys; of an error: the keys whose waiters fail
    error: str | None  # of an error message
    skipped: list[str]  # one sentence for each thing that could not be read, for the log
    changed_flags: list[
        str
    ]  # keys of flags that are other ones now, new or gone; none of the first set

@final
class PendingCheck:
    """A lease-backed check that must wait for something before it can go on."""

    need: Literal["resolve", "acquire", "extend", "plain", "reserve", "record", "cancel", "refund"]
    # resolve: request the company and / or the user over the DataStream, then resume(True);
    #          resume(False) when they cannot be had: the answer is then a "plain" step.
    # acquire: make sure that a live lease is in the slot, then resume(True); resume(False) if there is none.
    # extend:  try to extend the lease by what `required_credits` needs, then resume(True) either way.
    # plain:   the check is a plain one that cannot be answered from memory: finish it in Python.
    # Where leases live in a shared store, also these; resume(False) when the store refused the request or never got
    # it, resume_lost() when nobody knows:
    # reserve: debit the slot by `required_credits` and, if the store can do both at once, record `reservation` with the
    #          lease and the end that the debit tells; then resume_debited(...) or resume_refused(...).
    # record:  record `reservation`, then resume(True).
    # cancel:  claim `reservation` with nothing consumed, then resume(True), or resume_gone() if there is no such hold.
    # refund:  give the credits of `reservation`, which was not recorded, back to its lease, then resume(True).
    missing_company: bool
    missing_user: bool
    company_id: str | None  # of the slot, unless the check waits to be resolved
    credit_type_id: str | None
    required_credits: float  # credits this check holds when granted
    reservation: (
        Reservation | None
    )  # for record, cancel and refund; for reserve without its lease and its end
    time_to_live: int  # milliseconds after the debit at which it lapses, for reserve
    def __bool__(self) -> Literal[False]: ...  # it is not decided
    def resume(self, ok: bool) -> CheckResult | PendingCheck: ...
    def resume_debited(
        self, remaining: float, granted: float, lease_id: str, at: float, recorded: bool
    ) -> (
        CheckResult | PendingCheck
    ): ...  # credits of the lease after the debit; by the store's clock
    def resume_refused(
        self, short: bool
    ) -> CheckResult | PendingCheck: ...  # no live lease, or (short) too few credits in it
    def resume_gone(self) -> CheckResult | PendingCheck: ...
    def resume_lost(self) -> CheckResult | PendingCheck: ...
    # RuntimeError: the check was resumed already, or that is no reply to what it needs.

@final
class Lease:
    """A slot as the ledger has it."""

    lease_id: str
    company_id: str
    credit_type_id: str
    granted: float  # credits, the server's total
    remaining: float  # credits that may still be reserved
    expires_at: float  # epoch seconds

@final
class AcquirePlan:
    requested_amount: float  # credits
    expires_at: float  # epoch seconds
    def with_amount(self, credits: float) -> AcquirePlan: ...

@final
class ExtendPlan:
    lease_id: str
    additional_amount: float  # credits
    shortfall: float  # credits that a check lacks: fewer do not help it
    expires_at: float  # epoch seconds
    def with_amount(self, credits: float) -> ExtendPlan: ...

@final
class SlabPlan:
    credits: float
    smallest: float  # credits below which a slab is not worth its while
    usable_for: float  # seconds since this plan, while holds may be carved from it
    kept_for: float  # seconds, while the shared store keeps its reservation

@final
class OwedClaim:
    """A settled hold that the shared store has still to end."""

    @property
    def reservation(self) -> Reservation: ...
    @property
    def credits(self) -> float: ...  # used of the hold

@final
class EventBatch:
    """Up to 100 events, written when they are asked for; a retry writes the same again."""

    body: bytes  # the JSON body of one capture request
    count: int
    billing: int  # how many of them are track or identify events
    def request(
        self, head: bytes
    ) -> bytes: ...  # a whole HTTP/1.1 request: these lines, the length, the body
    def split(self) -> tuple[EventBatch, EventBatch] | None: ...  # None of a single event

@final
class HttpAnswer:
    """The answer to one HTTP/1.1 request."""

    status: int
    body: bytes
    reusable: bool  # whether the connection may serve another request
    def header(self, name: str) -> str | None: ...  # whatever the case of its name

def read_answer(received: bytes, ended: bool, tunnel: bool) -> HttpAnswer | None:
    """Read all that has been received; None if more is to come.

    `ended` says that nothing more will come, `tunnel` that a success has no body, as it opens a tunnel.

    Raises:
        ValueError: what was received is no answer.

    """

@final
class Pace:
    """How many requests may be under way: more while the service answers as fast as before, fewer when it does not."""

    limit: int
    def __new__(cls, first: int, most: int) -> Pace: ...
    def taken(
        self, seconds: float, wanted: bool
    ) -> None: ...  # a batch was; `wanted`: more would have been sent
    def refused(self) -> None: ...  # the service said that it is too much, or did not answer

@disjoint_base
class Memory:
    """The half of a client that answers from memory; its methods are for the clients alone.

    `None` or `False`: memory cannot tell, nothing was done.
    """

    def __new__(cls, *_arguments: object, **_keywords: object) -> Self: ...
    def _take_core(self, core: Core) -> None: ...  # nothing may be asked of it yet
    def _open(  # what may be asked; `single`: only of whoever is named by one key at most
        self, checking: bool, leasing: bool, settling: bool, single: bool = False
    ) -> None: ...
    def _flag_value_now(
        self,
        flag_key: str,
        company: LookupKeys | None,
        user: LookupKeys | None,
    ) -> bool | None: ...
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
        ttl: float | None = None,  # seconds that the hold may live; as configured if None
    ) -> CheckResult | PendingCheck | None: ...
    def _settle_now(self, reservation: object, quantity: object) -> bool: ...

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

@final
class Core:
    """Everything one client decides: cache, engine, leases and the event queue.

    `wake(topic)` is called from inside other calls, on whatever thread they run, at most once until the topic is
    attended to: "events" when a full batch waits (attended to by `take_batch`, or by `expect_batch` after full ones),
    "extend" when a lease is at or below its low-water mark (attended to by `take_low_slots`).
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
        overrides: Mapping[str, Mapping[str, float | None]]
        | None = None,  # lease_size, lease_duration, ...
        clock: Callable[[], float] | None = None,  # epoch seconds; None: the system clock
        wake: Callable[[str], None] | None = None,
        seed: int | None = None,  # of reservation ids; None: the system's randomness
        shared: bool = False,  # leases live in a store that other processes share
        slabs: tuple[float, float, float]
        | None = None,  # smallest and largest in credits, lifetime in seconds; None: no slabs
        steady: Callable[[], float]
        | None = None,  # seconds by a clock that never steps; None: the system's
    ) -> Core: ...

    # The cache
    def ingest(self, message: bytes | str) -> Ingested: ...
    def has_flags(self) -> bool: ...  # a full flag set has arrived
    def flag_keys(self) -> list[str]: ...
    def company_id(
        self, keys: Mapping[str, str]
    ) -> str | None: ...  # of a cached company; None also on a conflict
    def user_id(self, keys: Mapping[str, str]) -> str | None: ...
    def company_subscriptions(
        self,
    ) -> list[dict[str, str]]: ...  # the keys of every cached company, hottest first
    def user_subscriptions(self) -> list[dict[str, str]]: ...
    def company_balance(self, company_id: str, credit_type_id: str) -> float | None: ...

    # Plain checks. A str tells what is missing: it is not an answer.
    def check_flag(
        self,
        flag_key: str,
        company: Mapping[str, str] | None = None,
        user: Mapping[str, str] | None = None,
        *,
        usage: float | None = None,  # rounded up
        event_usage: tuple[str, float] | None = None,  # (event subtype, quantity), rounded up
        event_quantities: tuple[str, Mapping[str, float], float | None] | None = None,
        credit_cost: Mapping[str, float] | None = None,  # credits by credit id
        partial: bool = False,  # answer with the entities that are there
        record: bool = True,  # enqueue the flag_check event
    ) -> (
        CheckFlagResult | Literal["flag", "company", "user", "company+user", "conflict", "forked"]
    ): ...
    def record_flag_check(
        self,
        result: CheckFlagResult,
        company: Mapping[str, str] | None,
        user: Mapping[str, str] | None,
    ) -> None: ...

    # Lease-backed checks
    def check(
        self,
        flag_key: str,
        company: Mapping[str, str] | None,
        user: Mapping[str, str] | None,
        usage: float,
        event_subtype: str | None = None,
        on_acquire_failure: FailureMode | None = None,
        ttl: float | None = None,  # seconds that the hold may live; as configured if None
    ) -> CheckResult | PendingCheck | None: ...  # None: forked
    def check_unheld(
        self,
        flag_key: str,
        company: Mapping[str, str] | None,
        user: Mapping[str, str] | None,
        usage: float,
        event_subtype: str | None,
        on_acquire_failure: FailureMode | None,
        *,
        record: bool,  # queue the event of the check
    ) -> CheckResult | None: ...  # None: memory lacks what an evaluation needs
    @property
    def forked(self) -> bool: ...  # this process is a fork of the one that made this core
    def now(self) -> float: ...  # epoch seconds, by the core's clock
    def settle_shared(
        self, reservation: Reservation, actual_quantity: float, traits: bytes | None = None
    ) -> OwedClaim | None: ...  # bills, too; None: the store is owed nothing for it
    def settle_part(
        self,
        reservation: Reservation,
        actual_quantity: float,
        traits: bytes | None = None,
        key: str | None = None,  # of the event, in place of the one made of the reservation's id
    ) -> OwedClaim | None: ...  # as `settle_shared`
    def release(
        self, reservation: Reservation
    ) -> OwedClaim | None: ...  # gives it back and bills nothing; None: the store is owed nothing
    def owed_claims(self) -> list[OwedClaim]: ...  # of settles, oldest first
    def claim_ended(
        self, claim: OwedClaim, has_ended_hold: bool
    ) -> None: ...  # the store has answered, or the hold's row is surely gone

    # Leases, for the lease manager
    def lease(self, company_id: str, credit_type_id: str) -> Lease | None: ...  # live or expired
    def plan_acquire(
        self, company_id: str, credit_type_id: str
    ) -> AcquirePlan | None: ...  # None: a live lease is there
    def install_lease(
        self, company_id: str, credit_type_id: str, lease_id: str, granted: float, expires_at: float
    ) -> str: ...  # the id of the lease that is in the slot now: another id than `lease_id` means ours is redundant
    def plan_extend(
        self, company_id: str, credit_type_id: str, required_credits: float | None = None
    ) -> ExtendPlan | None: ...  # None: no extend is needed, or none is possible
    def apply_extend(
        self,
        company_id: str,
        credit_type_id: str,
        lease_id: str | None,  # the pin
        granted_total: float,
        expires_at: float | None,
    ) -> bool: ...
    def plan_shared_acquire(self, credit_type_id: str) -> AcquirePlan: ...
    def plan_shared_extend(
        self,
        credit_type_id: str,
        lease_id: str,
        granted: float,
        remaining: float,
        required_credits: float | None = None,
    ) -> ExtendPlan | None: ...  # of a live lease in the shared store; None: no extend is needed
    def note_spent(
        self, company_id: str, credit_type_id: str, credits: float, balance: float | None
    ) -> None: ...  # the service has refused them; the cached balance as it was before
    def forget_spent(self, company_id: str, credit_type_id: str) -> None: ...
    def was_refused(
        self, company_id: str, credit_type_id: str, credits: float
    ) -> bool: ...  # as little, since the check that asks now was begun
    def take_low_slots(self) -> list[tuple[str, str]]: ...  # (company id, credit type id)
    def drop_lease(self, company_id: str, credit_type_id: str) -> None: ...
    def live_leases(self) -> list[Lease]: ...
    def reserved_credits(self, company_id: str, credit_type_id: str) -> float: ...
    def sweep(self) -> int: ...  # expired holds refunded

    # Slabs: parts of a shared lease, taken to serve checks from memory
    def plan_slab(
        self, company_id: str, credit_type_id: str
    ) -> SlabPlan | None: ...  # None: the slot has enough, or there are no slabs
    def slab_row(
        self,
        company_id: str,
        credit_type_id: str,
        lease_id: str,
        credits: float,
        expires_at: float,
    ) -> Reservation: ...  # by which the slab is taken in the shared store
    def open_slab(
        self, row: Reservation, plan: SlabPlan, usable_for: float
    ) -> bool: ...  # seconds since the plan; after the row is recorded
    def take_slab_uses(
        self,
    ) -> list[
        tuple[Reservation, float]
    ]: ...  # rows of slabs still open, and the credits used of each, where that has grown
    def take_slabs_in_use(
        self,
    ) -> list[Reservation]: ...  # rows of those that holds were carved from since the last call
    def lose_slab(
        self, row: Reservation
    ) -> tuple[float, float] | None: ...  # credits taken of it and left; None: it is not open
    def take_closed_slabs(
        self,
    ) -> list[tuple[Reservation, float]]: ...  # rows to settle, and the credits used of each
    def close_slabs(
        self,
    ) -> list[
        tuple[Reservation, float, list[tuple[str, float]]]
    ]: ...  # rows, the credits used of each, and the holds still open, with their credits
    def lapsed(
        self,
    ) -> list[
        tuple[Reservation, Reservation, bool]
    ]: ...  # row and hold, whether a copy has left: settled elsewhere or not, until `end_lapsed`
    def end_lapsed(
        self, hold: Reservation, credits: float
    ) -> None: ...  # credits that it was settled with elsewhere
    @staticmethod
    def slab_of(hold: Reservation) -> str | None: ...  # id of the row it was carved from

    # Events
    def track(
        self,
        event: str,
        company: Mapping[str, str] | None = None,
        user: Mapping[str, str] | None = None,
        traits: bytes | None = None,  # JSON object
        quantity: int | None = None,
        idempotency_key: str | None = None,
        sent_at: str | None = None,  # RFC 3339
        trusted_client_clock: bool | None = None,
        backfill: bool | None = None,
    ) -> None: ...  # also moves the cached company's metrics
    def identify(
        self,
        keys: Mapping[str, str],
        company: bytes | None = None,  # JSON object {keys, name?, traits?}
        name: str | None = None,
        traits: bytes | None = None,  # JSON object
        idempotency_key: str | None = None,
    ) -> None: ...
    def take_batch(
        self, *, full: bool = False
    ) -> (
        EventBatch | None
    ): ...  # up to 100 events, oldest first, billing before analytics; or 100 or none
    def expect_batch(
        self,
    ) -> bool: ...  # have the sender told of the next full batch; True if one is there already

    # Counts, without I/O
    def counts(self) -> dict[str, int]: ...
    def denials(
        self,
    ) -> dict[str, int]: ...  # lease-backed checks denied, by "rules" or the failure
    # flags, companies, users, evicted, leases, open_holds, queued_billing, queued_flag_checks, dropped_billing,
    # dropped_flag_checks, checks, settles, swept
