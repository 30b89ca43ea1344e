"""`AsyncSchematic`: the public methods of the asynchronous client.

They read arguments, begin a call and wait for it; they decide nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from schematic_native._native import CheckFlagResult
from schematic_native.client.awaiting import AwaitingClient
from schematic_native.client.event_arguments import read_identify, read_track
from schematic_native.client.hold.asynchronous import AsyncHold
from schematic_native.client.hold.metering import Metering, metered
from schematic_native.config.client_config import AsyncSchematicConfig
from schematic_native.ground.arguments import wrong_kind
from schematic_native.service.resources import AsyncResources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from schematic_native._native import CheckResult, FailureMode, Reservation
    from schematic_native.config.options import (
        CheckFlagOptions,
        CheckOptions,
        DefaultValue,
        EventBodyIdentifyCompany,
        IdentifyOptions,
        LookupKeys,
        TrackOptions,
        TrackWithReservationOptions,
    )
    from schematic_native.config.results import CreditBalance

F = TypeVar("F", bound="Callable[..., Any]")


class AsyncSchematic(AwaitingClient, AsyncResources):
    """The asynchronous client: its I/O runs on the event loop of its first use.

    After that loop has been closed, the next call, a shutdown included, starts the client on its own
    loop and takes over the events and leases that were left. A call from a second loop while the
    first is open raises a RuntimeError before anything is done, unless memory has the answer: checks
    and settles from memory work on any loop while the client's own loop is open.

    Args:
        api_key: the key of a Schematic environment.
        config: see `AsyncSchematicConfig`.

    Raises:
        TypeError, ValueError: a configuration field is wrong; the message names it.

    """

    def __init__(self, api_key: str, config: AsyncSchematicConfig | None = None) -> None:
        if config is not None and not isinstance(config, AsyncSchematicConfig):
            raise wrong_kind("config", AsyncSchematicConfig, config)
        super().__init__(api_key, config or AsyncSchematicConfig())

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.shutdown()

    async def initialize(self) -> None:
        """Start, and wait up to 5 s for the DataStream.

        If it is not ready by then, connecting continues in the background.
        """
        waiting = self._begin_initialize()
        if waiting is not None:
            await self._finish(waiting)

    async def shutdown(self) -> None:
        """Deliver the events, release the leases and close everything, within 5 s.

        If the client's event loop has been closed, this delivers on the current loop what was left.

        Raises:
            RuntimeError: the client runs on another event loop; it keeps running there.

        """
        self._restart_if_forked()
        started = self._runtime
        # This comes first: if this event loop is refused, the client must stay unchanged.
        runtime = None if started is None or started.ended else self._running()
        self._mark_closed()
        await self._close_resources_async()
        if runtime is not None:
            await runtime.close()
        self._session.forget()

    async def check_flag(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> bool:
        """Tell whether a flag is on for a company and a user, given by their lookup keys."""
        if options is None:
            value = self._flag_value_now(flag_key, company, user)
            if value is not None:
                return value
        return (await self.check_flag_with_entitlement(flag_key, company, user, options)).value

    async def check_flag_with_entitlement(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> CheckFlagResult:
        """Check a flag, and return the reason and the company's entitlement as well."""
        begun = self._begin_flag(self._read_flag(flag_key, company, user, options))
        return begun if isinstance(begun, CheckFlagResult) else await self._finish(begun)

    async def check_flags(
        self,
        flag_keys: Sequence[str] | None = None,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> list[CheckFlagResult]:
        """Check several flags, or all flags if `flag_keys` is None or empty."""
        begun = self._begin_flags(flag_keys, company, user, options)
        return begun if isinstance(begun, list) else await self._finish(begun)

    async def check(
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

        Args:
            flag_key: the flag.
            company: the company's lookup keys.
            user: the user's lookup keys.
            options: the keywords below in one object; a keyword takes precedence over it.
            usage: the event units to reserve credits for.
            event_subtype: the event that will be billed; None takes the entitlement's.
            on_acquire_failure: "fail-closed" (the default) denies when credits cannot be reserved,
                "fail-open" lets targeting alone decide.
            default_value: the value if the flag cannot be evaluated.
            timeout: seconds that the whole check may take.

        Returns:
            The verdict. Settle its reservation with `track_with_reservation`.

        Raises:
            TypeError: an argument has the wrong type; nothing has been reserved.
            ValueError: an argument has a wrong value; nothing has been reserved.

        A fault of the server or the network never raises.

        """
        # The arguments are written twice, because a tuple of them for both calls costs a twelfth of the check.
        now = self._begin_now(
            flag_key,
            company,
            user,
            options,
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
        )
        if now:  # a pending check is falsy
            return now
        # Waiting has a coroutine of its own, because a coroutine's local variables cost time even if they are
        # never used.
        return await self._check_waiting(
            (
                flag_key,
                company,
                user,
                options,
                usage,
                event_subtype,
                on_acquire_failure,
                default_value,
                timeout,
            ),
            now,
        )

    async def track_with_reservation(
        self,
        reservation: Reservation | None,
        actual_quantity: float,
        options: TrackWithReservationOptions | None = None,
    ) -> None:
        """Settle a reservation.

        Bills `actual_quantity` event units, rounded up, and refunds the rest of the hold.
        """
        runtime = self._session.runtime
        if (
            options is None
            and runtime is not None
            and not runtime.loop.is_closed()
            and self._settle_now(reservation, actual_quantity)
        ):
            return
        settlement = self._read_settlement(reservation, actual_quantity, options)
        if settlement is None:
            return
        runtime = self._running()
        # One native call records the settle: even if the caller is cancelled or interrupted after it,
        # the claim is made and the usage billed.
        owed = self._core.settle_shared(*settlement)
        if owed is not None:
            await runtime.claim(owed)

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
        hold = AsyncHold._make(
            self,
            (
                flag_key,
                company,
                user,
                None,
                usage,
                event_subtype,
                on_acquire_failure,
                default_value,
                timeout,
            ),
        )
        if traits is None and ttl is None and key is None and required is False:
            return hold
        return hold._with_terms(traits, required, ttl, key)  # noqa: SLF001

    def metered(
        self,
        flag_key: str,
        *,
        company: LookupKeys | Callable[..., LookupKeys],
        user: LookupKeys | Callable[..., LookupKeys | None] | None = None,
        usage: float | Callable[..., float],
        units: Callable[[Any], float],
        **keywords: Any,
    ) -> Callable[[F], F]:
        """Hold credits around each call of a function, or for as long as its generator runs.

        Args:
            flag_key: the flag.
            company: the company's lookup keys, or a function of the call's arguments that returns
                them.
            user: likewise, the user's lookup keys.
            usage: the event units to hold at first, or a function of the call's arguments.
            units: a function of the result, or of each item, that returns the units used.
            keywords: other keywords of `hold`. Not `required`: a call that is denied always raises
                CreditsDenied.

        Raises:
            TypeError: the function is not asynchronous.

        """
        return metered(Metering(self, flag_key, company, user, usage, units, keywords))

    async def prewarm(self, company: LookupKeys, credit_type_ids: Sequence[str]) -> None:
        """Acquire leases ahead of the first check, best effort: a failure is logged, not raised."""
        waiting = self._begin_prewarm(company, credit_type_ids)
        if waiting is not None:
            await self._finish(waiting)

    async def identify(
        self,
        keys: LookupKeys,
        company: EventBodyIdentifyCompany | Mapping[str, Any] | None = None,
        name: str | None = None,
        traits: Mapping[str, Any] | None = None,
        options: IdentifyOptions | None = None,
    ) -> None:
        """Create or update a user, and its company if given as {keys, name?, traits?}."""
        pushing = self._queue("identify", read_identify(keys, company, name, traits, options))
        if pushing is not None:
            await pushing

    async def track(
        self,
        event: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        traits: Mapping[str, Any] | None = None,
        quantity: int | None = None,
        options: TrackOptions | None = None,
    ) -> None:
        """Queue a track event; it is sent in the background."""
        read = read_track(event, company, user, traits, quantity, options)
        pushing = self._queue("track", read)
        if pushing is not None:
            await pushing

    async def get_credit_balance(self, company: LookupKeys, credit_type_id: str) -> CreditBalance:
        """Return a company's balance of one credit type.

        Raises:
            schematic_native.api.ApiError: the balance is not in memory and the API request failed.
            RuntimeError: the client is offline or shut down.

        """
        return await self._finish(self._begin_balance(company, credit_type_id))
