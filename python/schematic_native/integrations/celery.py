"""Holds for tasks of Celery, settled at the task's end."""

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
    """Return a decorator that holds credits while a task runs, which gets it as `hold`.

    It goes below `@app.task`. A task that is denied raises CreditsDenied. A task that is delivered
    twice is billed once within 24 h; each of its own retries is billed. What is still to be sent is
    delivered when a process of the worker's pool ends.

    Args:
        client: the worker's client.
        flag_key: the flag.
        company: its lookup keys, or a function of the task's arguments that returns them.
        user: the same of the user.
        usage: event units to hold at first, or a function of the task's arguments.
        keywords: further ones of `Schematic.hold`.

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

        # Celery checks a call's arguments by the signature, where the hold is not one.
        del run.__wrapped__
        return cast("F", run)

    return decorate


def _delivery() -> str | None:
    """Name what runs: the same if it is delivered again, another if the task asked for a retry."""
    request = getattr(current_task, "request", None)
    if request is None or not request.id:
        return None
    return f"{request.id}:{request.retries}" if request.retries else str(request.id)


def _deliver(**_: object) -> None:
    """Deliver what a process of the pool has left: it ends without the interpreter's own end."""
    for client in list(_clients):
        client.shutdown()


worker_process_shutdown.connect(_deliver, weak=False)
