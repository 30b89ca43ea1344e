"""`AsyncSchematic`: the public methods of the asynchronous client."""

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

    When that loop has ended, the next use starts on its own loop, with the events and leases that
    were left; a shutdown is such a use. Two loops at once are refused with a RuntimeError, before
    anything is done, unless memory has the answer: it checks and settles for any loop while the
    client's own can send.

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

        What has not come by then goes on in the background.
        """
        waiting = self._begin_initialize()
        if waiting is not None:
            await self._finish(waiting)

    async def shutdown(self) -> None:
        """Deliver the events, release the leases and close everything, within 5 s.

        What a loop left that has ended meanwhile is delivered on this one.

        Raises:
            RuntimeError: the client runs on another event loop, and goes on there.

        """
        self._own()
        started = self._runtime
        # Asked for before anything is shut: whom it refuses must find the client as it was.
        runtime = None if started is None or started.ended else self._running()
        self._shut()
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
        """Tell whether a flag is on for a company and a user, named by their lookup keys."""
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
        """Check a flag and tell why, and what the company is entitled to."""
        begun = self._begin_flag(self._read_flag(flag_key, company, user, options))
        return begun if isinstance(begun, CheckFlagResult) else await self._finish(begun)

    async def check_flags(
        self,
        flag_keys: Sequence[str] | None = None,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> list[CheckFlagResult]:
        """Check several flags, or all if `flag_keys` is None or empty."""
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
            company: its lookup keys.
            user: its lookup keys.
            options: the keywords below in one object; a keyword wins over it.
            usage: event units to reserve credits for.
            event_subtype: the event that will be billed; None takes the entitlement's.
            on_acquire_failure: "fail-closed" (the default) denies when credits cannot be reserved,
                "fail-open" lets targeting alone decide.
            default_value: the answer if none can be had.
            timeout: seconds the whole check may take.

        Returns:
            The verdict. Settle its reservation with `track_with_reservation`.

        Raises:
            TypeError: an argument has the wrong type; nothing has been reserved.
            ValueError: an argument has a wrong value; nothing has been reserved.

        A fault of the server or the network never raises.

        """
        arguments = (
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
        now = self._begin_now(*arguments)
        # What waits is false. It waits apart: a coroutine pays for each of its variables, used or not.
        return now or await self._check_waiting(arguments, now)

    async def track_with_reservation(
        self,
        reservation: Reservation | None,
        actual_quantity: float,
        options: TrackWithReservationOptions | None = None,
    ) -> None:
        """Settle a reservation.

        Bill `actual_quantity` event units (rounded up), refund the rest of the hold.
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
        # One call: whoever is cancelled or interrupted after it, the claim is made and then billed.
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
        """Hold credits for a block of work, and settle what was used when it is left.

        For `async with`. What the block uses is told by `hold.use(units)`. More is held when it runs
        low, and what lapses is renewed, in the background. Whatever leaves the block, what was used
        is billed once and the rest goes back. See `docs/holds.md`.

        Args:
            flag_key: the flag.
            company: its lookup keys.
            user: its lookup keys.
            usage: event units to hold at first, more than 0.
            event_subtype: the event that is billed; None takes the entitlement's.
            on_acquire_failure: as of `check`.
            default_value: as of `check`.
            timeout: seconds that each check may take.
            traits: of the events.
            required: raise CreditsDenied on entering if it is denied.
            ttl: seconds that it lives between renewals; None as configured.
            key: names the operation: if it is repeated within 24 h, it is billed once.

        Raises:
            TypeError, ValueError: an argument is wrong; the others are checked on entering.

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
        if traits is None and ttl is None and key is None and not required:
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
            company: its lookup keys, or a function of the call's arguments that returns them.
            user: the same of the user.
            usage: event units to hold at first, or a function of the call's arguments.
            units: a function of the result, or of each item, that returns the units used.
            keywords: further ones of `hold`, except `required`: a call that is denied raises
                CreditsDenied.

        Raises:
            TypeError: the function is not asynchronous.

        """
        return metered(Metering(self, flag_key, company, user, usage, units, keywords))

    async def prewarm(self, company: LookupKeys, credit_type_ids: Sequence[str]) -> None:
        """Acquire leases ahead of the first check, best effort: a failure is logged."""
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
        """Create or update a user, and its company given as {keys, name?, traits?}."""
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
        """Tell a company's credits of one type.

        Raises:
            schematic_native.api.ApiError: the balance is not in memory and the API did not tell it.
            RuntimeError: the client is offline or shut down.

        """
        return await self._finish(self._begin_balance(company, credit_type_id))
