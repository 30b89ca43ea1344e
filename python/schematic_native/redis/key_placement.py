"""Whether one server has all keys, so that a script may use several of them.

It is found out by a probe with keys of its own. It must never answer yes where a script would use a key
on a server that does not own it: nobody would find what was written there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import ClusterCrossSlotError, ResponseError

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import scripts
from schematic_native.redis.commands import Command, has_failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.redis.commands import Operation
    from schematic_native.redis.keys import Keys

# So many keys are all in one of two places by chance once in a thousand million times.
PROBES = 30


class KeyPlacement:
    """Where the keys of one store are.

    Args:
        keys: the names of the keys.
        is_spread: whether they are known to be on several servers.
        token: draws a text for the names of keys that nobody else uses.

    """

    def __init__(self, keys: Keys, *, is_spread: bool, token: Callable[[], str]) -> None:
        self._keys = keys
        self._token = token
        # None until that was found out.
        self.is_one_server: bool | None = False if is_spread else None

    def allows_several_keys(self) -> Operation[bool]:
        """Tell whether a script may use several keys."""
        if self.is_one_server is None:
            self.is_one_server = yield from self._probe()
        return self.is_one_server is True

    def refuses_several_keys(self, reply: object) -> bool:
        """Tell whether a script was not run because its keys are on several servers after all."""
        refuses = isinstance(reply, ClusterCrossSlotError) or (
            isinstance(reply, ResponseError) and str(reply).startswith("CROSSSLOT")
        )
        if refuses:
            self.is_one_server = False
        return refuses

    def _probe(self) -> Operation[bool | None]:
        """Find out whether scripts may use several keys; None if no script can be run now.

        A server of a cluster refuses them. Some proxies do not, and send the whole script to the server
        of its first key: so each key is looked for on its own.
        """
        token = self._token()
        first, *others = [self._keys.reservation(f"probe-{token}-{n}") for n in range(PROBES + 1)]
        script = "EVAL", scripts.PROBE.text
        batch = [
            Command(first, (*script, 1, first)),
            Command(others[0], (*script, PROBES, *others)),
            *(Command(key, ("DEL", key)) for key in others),
            Command(first, ("DEL", first)),
        ]
        try:
            alone, *several = yield batch
        except StoreError as error:
            # The operation itself was not even sent.
            raise StoreError(str(error), lost=False, is_refusal=error.is_refusal) from error
        if self.refuses_several_keys(several[0]):
            return False
        return None if has_failed(alone) else several == [PROBES, *[1] * PROBES, 1]
