"""`Schematic`: the public methods of the synchronous client.

`check_flag`, `check`, `hold` and `track_with_reservation` are native methods of its base class: they
call Python only when memory cannot answer. The methods here read arguments, begin a call and wait for it;
they decide nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from schematic_native._native import CheckFlagResult
from schematic_native._native import Schematic as NativeClient
from schematic_native.client.blocking import BlockingClient
from schematic_native.client.event_arguments import read_identify, read_track
from schematic_native.client.hold.metering import Metering, metered
from schematic_native.config.client_config import SchematicConfig
from schematic_native.ground.arguments import wrong_kind
from schematic_native.service.resources import Resources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from schematic_native._native import Reservation
    from schematic_native.config.options import (
        CheckFlagOptions,
        EventBodyIdentifyCompany,
        IdentifyOptions,
        LookupKeys,
        TrackOptions,
        TrackWithReservationOptions,
    )
    from schematic_native.config.results import CreditBalance

F = TypeVar("F", bound="Callable[..., Any]")


class Schematic(BlockingClient, NativeClient, Resources):
    """The synchronous client. Any thread may use it; its I/O runs on a daemon thread of its own.

    Args:
        api_key: the key of a Schematic environment.
        config: see `SchematicConfig`.

    Raises:
        TypeError, ValueError: a configuration field is wrong; the message names it.

    """

    def __init__(self, api_key: str, config: SchematicConfig | None = None) -> None:
        if config is not None and not isinstance(config, SchematicConfig):
            raise wrong_kind("config", SchematicConfig, config)
        super().__init__(api_key, config or SchematicConfig())

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    def initialize(self) -> None:
        """Start, and wait up to 5 s for the DataStream.

        If it is not ready by then, connecting continues in the background.
        """
        waiting = self._begin_initialize()
        if waiting is not None:
            self._finish(waiting)

    def shutdown(self) -> None:
        """Deliver the events, release the leases and close everything, within 5 s.

        It may be called from any thread and from a signal handler, even one that interrupts another
        shutdown: concurrent calls wait for the same shutdown. If an exception interrupts the call,
        the shutdown continues in the background; a further call, or the interpreter's exit, waits
        for it to finish.
        """
        self._restart_if_forked()
        self._mark_closed()
        self._close_resources()
        self._session.shut_down()

    def check_flag_with_entitlement(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> CheckFlagResult:
        """Check a flag, and return the reason and the company's entitlement as well."""
        begun = self._begin_flag(self._read_flag(flag_key, company, user, options))
        return begun if isinstance(begun, CheckFlagResult) else self._finish(begun)

    def check_flags(
        self,
        flag_keys: Sequence[str] | None = None,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> list[CheckFlagResult]:
        """Check several flags, or all flags if `flag_keys` is None or empty."""
        begun = self._begin_flags(flag_keys, company, user, options)
        return begun if isinstance(begun, list) else self._finish(begun)

    def _track_with_reservation(
        self,
        reservation: Reservation | None,
        actual_quantity: float,
        options: TrackWithReservationOptions | None,
    ) -> None:
        """Settle a reservation that memory alone could not settle, or report what is wrong with it."""
        settlement = self._read_settlement(reservation, actual_quantity, options)
        if settlement is None:
            return
        runtime = self._ensure_running()
        if runtime is None:
            self._refuses_event("track_with_reservation")
            return
        # One native call records the settle: even if the caller is interrupted after it, the claim is
        # made and the usage billed.
        owed = self._core.settle_shared(*settlement)
        if owed is not None:
            self._claim(owed)

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

        The arguments are those of `AsyncSchematic.metered`; the function may be asynchronous.
        """
        return metered(Metering(self, flag_key, company, user, usage, units, keywords))

    def prewarm(self, company: LookupKeys, credit_type_ids: Sequence[str]) -> None:
        """Acquire leases ahead of the first check, best effort: a failure is logged, not raised."""
        waiting = self._begin_prewarm(company, credit_type_ids)
        if waiting is not None:
            self._finish(waiting)

    def identify(
        self,
        keys: LookupKeys,
        company: EventBodyIdentifyCompany | Mapping[str, Any] | None = None,
        name: str | None = None,
        traits: Mapping[str, Any] | None = None,
        options: IdentifyOptions | None = None,
    ) -> None:
        """Create or update a user, and its company if given as {keys, name?, traits?}."""
        self._queue("identify", read_identify(keys, company, name, traits, options))

    def track(
        self,
        event: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        traits: Mapping[str, Any] | None = None,
        quantity: int | None = None,
        options: TrackOptions | None = None,
    ) -> None:
        """Queue a track event; it is sent in the background."""
        self._queue("track", read_track(event, company, user, traits, quantity, options))

    def get_credit_balance(self, company: LookupKeys, credit_type_id: str) -> CreditBalance:
        """Return a company's balance of one credit type.

        Raises as `AsyncSchematic.get_credit_balance` does.
        """
        return self._finish(self._begin_balance(company, credit_type_id))
