"""`instrument`: metrics, spans and evaluation events of a client for OpenTelemetry.

It needs the extra `opentelemetry`, which is only the API: the program's SDK exports the data. Metrics are
observed, from counts that the client keeps anyway, so that a check never costs more because of them.
"""

from __future__ import annotations

import random
import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation, get_meter
from opentelemetry.trace import SpanKind, get_tracer

from schematic_native._native import CheckFlagResult, CheckResult, __version__
from schematic_native.client import AsyncSchematic, Schematic
from schematic_native.client.metrics import read
from schematic_native.ground.arguments import shown
from schematic_native.integrations.verdicts import failure_of, is_targeted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from opentelemetry._logs import Logger, LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["Instrumentation", "instrument"]

SCOPE = "schematic_native"
EVENT = "feature_flag.evaluation"
PROVIDER = "schematic"
# A batch has events of many traces, so that its request belongs to none of them.
_OF_NOBODY = frozenset({"events"})
_WRAPPED = ("check", "check_flag", "check_flag_with_entitlement", "check_flags")

# True while a wrapped method calls another one.
_is_within: ContextVar[bool] = ContextVar("schematic_native_evaluation", default=False)


class Instrumentation:
    """The instrumentation of one client, until `stop` is called."""

    def __init__(
        self, client: Schematic | AsyncSchematic, companies: int, evaluations: float
    ) -> None:
        self._client = weakref.ref(client)
        self._companies = companies
        self._share = evaluations
        self._is_on = True

    def stop(self) -> None:
        """End the metrics, spans and events."""
        self._is_on = False
        client = self._client()
        if client is not None:
            client._timings.trace = None  # noqa: SLF001 - the same package
            client._on_evaluation = None  # noqa: SLF001 - the same package
            for name in _WRAPPED:
                vars(client).pop(name, None)

    def _observe(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            client = self._client()
            metrics = [] if client is None or not self._is_on else read(client, self._companies)
            return [
                Observation(sample.value, dict(sample.labels))
                for metric in metrics
                if metric.name == name
                for sample in metric.samples
            ]

        return observe

    def _measure(self, provider: MeterProvider | None) -> None:
        meter = get_meter(SCOPE, __version__, provider)
        client = self._client()
        for metric in () if client is None else read(client):
            make = (
                meter.create_observable_counter
                if metric.kind == "counter"
                else meter.create_observable_gauge
            )
            make(metric.name, [self._observe(metric.name)], metric.unit, metric.text)

    def _trace(self, provider: TracerProvider | None) -> None:
        tracer = get_tracer(SCOPE, __version__, provider)

        def trace(operation: str) -> AbstractContextManager[object]:
            return tracer.start_as_current_span(
                f"schematic {operation}",
                context=Context() if operation in _OF_NOBODY else None,
                kind=SpanKind.CLIENT,
                attributes={"schematic.operation": operation},
            )

        client = self._client()
        if client is not None:
            client._timings.trace = trace  # noqa: SLF001 - the same package

    def _follow(self, provider: LoggerProvider | None) -> None:
        """Wrap the check methods of this client in ones that emit events."""
        client = self._client()
        if client is None or not self._share:
            return
        logger = get_logger(SCOPE, __version__, provider)
        kind = type(client)
        # They hold the client weakly, as the client holds them.
        for name in _WRAPPED:
            method = getattr(kind, name)
            detailed = kind.check_flag_with_entitlement if name == "check_flag" else method
            make = _followed_async if isinstance(client, AsyncSchematic) else _followed
            vars(client)[name] = make(self._client, _Followed(method, detailed), self, logger)

        def follow(answer: CheckFlagResult) -> None:
            if self._is_sampled:
                _emit(logger, answer)

        client._on_evaluation = follow  # noqa: SLF001 - the same package

    @property
    def _is_sampled(self) -> bool:
        share = self._share
        return share >= 1 or random.random() < share  # noqa: S311 - for sampling, not for secrets


class _Followed(NamedTuple):
    """A method, and the one that returns the same with a reason."""

    plain: Callable[..., Any]
    detailed: Callable[..., Any]


def instrument(
    client: Schematic | AsyncSchematic,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    companies: int = 0,
    evaluations: float = 0.0,
) -> Instrumentation:
    """Report a client to OpenTelemetry.

    Args:
        client: is held weakly.
        meter_provider: of the metrics; None uses the global one, as for the other providers.
        logger_provider: of the evaluation events.
        tracer_provider: of the spans, one for each request to the service.
        companies: the most companies that have their own series of credits.
        evaluations: the share of checks, 0 to 1, that emit a `feature_flag.evaluation` event.
            Above 0, each check with this client takes longer, as it goes through Python.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it.

    """
    if not isinstance(client, (Schematic, AsyncSchematic)):
        raise TypeError(f"client must be a Schematic or an AsyncSchematic, got {shown(client)}")
    if isinstance(companies, bool) or not isinstance(companies, int) or companies < 0:
        raise ValueError(f"companies must be 0 or more, got {shown(companies)}")
    if not isinstance(evaluations, (int, float)) or not 0 <= evaluations <= 1:
        raise ValueError(f"evaluations must be a share from 0 to 1, got {shown(evaluations)}")
    done = Instrumentation(client, companies, evaluations)
    done._measure(meter_provider)  # noqa: SLF001 - the same module
    done._trace(tracer_provider)  # noqa: SLF001 - the same module
    done._follow(logger_provider)  # noqa: SLF001 - the same module
    return done


def _followed(
    client: Callable[[], Any], methods: _Followed, follower: Instrumentation, logger: Logger
) -> Callable[..., Any]:
    plain, detailed = methods

    def call(*arguments: Any, **keywords: Any) -> Any:
        if _is_within.get() or not follower._is_sampled:  # noqa: SLF001 - the same module
            return _within(lambda: plain(client(), *arguments, **keywords))
        answer = _within(lambda: detailed(client(), *arguments, **keywords))
        _emit_all(logger, answer)
        return answer if plain is detailed else answer.value

    return call


def _within(work: Callable[[], Any]) -> Any:
    token = _is_within.set(True)
    try:
        return work()
    finally:
        _is_within.reset(token)


def _followed_async(
    client: Callable[[], Any], methods: _Followed, follower: Instrumentation, logger: Logger
) -> Callable[..., Any]:
    plain, detailed = methods

    async def call(*arguments: Any, **keywords: Any) -> Any:
        sampled = not _is_within.get() and follower._is_sampled  # noqa: SLF001 - the same module
        token = _is_within.set(True)
        try:
            answer = await (detailed if sampled else plain)(client(), *arguments, **keywords)
        finally:
            _is_within.reset(token)
        if not sampled:
            return answer
        _emit_all(logger, answer)
        return answer if plain is detailed else answer.value

    return call


def _emit_all(
    logger: Logger, answer: CheckFlagResult | CheckResult | list[CheckFlagResult]
) -> None:
    """Emit an event for each flag of an answer."""
    for each in answer if isinstance(answer, list) else [answer]:
        _emit(logger, each)


def _emit(logger: Logger, answer: CheckFlagResult | CheckResult) -> None:
    """Emit the event of one check, by the semantic conventions for feature flags."""
    attributes: dict[str, str | bool] = {
        "feature_flag.provider.name": PROVIDER,
        "feature_flag.result.value": answer.value,
        "feature_flag.result.variant": "on" if answer.value else "off",
    }
    if isinstance(answer, CheckFlagResult):
        attributes["feature_flag.key"] = answer.flag
        failure = failure_of(answer)
        error = None if failure is None else failure.code.lower()
        reason = "targeting_match" if is_targeted(answer) else "default"
        if context := answer.company_id or answer.user_id:
            attributes["feature_flag.context.id"] = context
    else:
        attributes["feature_flag.key"] = answer.flag_key
        error = answer.error
        reason = "targeting_match" if answer.reason.startswith("Matched") else "default"
        if answer.reservation is not None:
            attributes["feature_flag.context.id"] = answer.reservation.company_id
    if error is not None:
        attributes["error.type"], reason = error, "error"
    attributes["feature_flag.result.reason"] = reason
    logger.emit(
        LogRecord(
            timestamp=time.time_ns(),
            severity_number=SeverityNumber.INFO,
            event_name=EVENT,
            attributes=attributes,
        )
    )
