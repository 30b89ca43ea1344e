"""Holds for tasks of Celery, which are settled when the task ends.

Nothing here retries a task or decides whether it is retried.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, cast

from celery import current_task
from celery.signals import worker_process_shutdown

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.client import Schematic
    from schematic_native.config.options import LookupKeys

F = TypeVar("F", bound="Callable[..., Any]")

_clients: weakref.WeakSet[Schematic] = weakref.WeakSet()


def held(
    client: Schematic,
    flag_key: str,
    *,
    company: LookupKeys | Callable[..., LookupKeys],
    user: LookupKeys | Callable[..., LookupKeys | None] | None = None,
    usage: float | Callable[..., float],
    **keywords: Any,
) -> Callable[[F], F]:
    """Return a decorator that holds credits while a task runs, and passes the hold to it as `hold`.

    Put it below `@app.task`. A task that is denied raises CreditsDenied. A task that is delivered
    twice is billed once within 24 h; each retry that the task asks for is billed. Events that are still
    queued are delivered when a process of the worker's pool ends.

    Args:
        client: the worker's client.
        flag_key: of the flag to check.
        company: lookup keys, or a function of the task's arguments that returns them.
        user: the same for the user.
        usage: units of the event to hold at first, or a function of the task's arguments.
        keywords: further arguments of `Schematic.hold`.

    """
    _clients.add(client)

    def decorate(task: F) -> F:
        @functools.wraps(task)
        def run(*arguments: Any, **values: Any) -> Any:
            def of_call(value: Any) -> Any:
                return value(*arguments, **values) if callable(value) else value

            named = {"key": _delivery(), "required": True} | keywords
            hold = client.hold(
                flag_key, of_call(company), of_call(user), usage=of_call(usage), **named
            )
            with hold:
                return task(*arguments, hold=hold, **values)

        # Celery checks the arguments of a call against the signature, in which there must be no hold.
        del run.__wrapped__
        return cast("F", run)

    return decorate


def _delivery() -> str | None:
    """Return a key of this run: the same if it is delivered again, another if the task has asked for a retry."""
    request = getattr(current_task, "request", None)
    if request is None or not request.id:
        return None
    return f"{request.id}:{request.retries}" if request.retries else str(request.id)


def _deliver(**_: object) -> None:
    """Deliver the events of a process of the pool, which ends without the usual exit of the interpreter."""
    for client in list(_clients):
        client.shutdown()


worker_process_shutdown.connect(_deliver, weak=False)
