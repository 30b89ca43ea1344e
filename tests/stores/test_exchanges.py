"""How operations are run: what is sent again, what has time after the deadline, what counts as lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import NoScriptError, ResponseError

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import AsyncStore, Operations, SyncStore
from schematic_native.redis.commands import Command
from schematic_native.redis.exchanges import time_for
from schematic_native.redis.failures import unheard, unsent
from schematic_native.redis.keys import Keys
from tests.stores.callers import SLOT, hold
from tests.stores.inspection import sweep_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.redis.commands import Batch, Replies
    from schematic_native.redis.connections import Answered

ASK = Operations(Keys("schematic:"), is_spread=True)
BROKEN = ConnectionResetError("broken")
CLAIM = b'["hold_1","comp_acme","credit_inference","lease_1","20"]'


class Script:
    """Connections that reply as they are told, and keep what they were sent."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Batch, bool]] = []

    def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        self.asked.append((batch, in_full))
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer()
        if isinstance(answer, StoreError):
            raise answer from BROKEN
        return answer

    def close(self) -> None:
        """Nothing is open."""


class AsyncScript:
    """The same for an event loop."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def ask(
        self, batch: Batch, deadline: float | None, answered: Answered, *, in_full: bool
    ) -> None:
        try:
            replies = self._script.exchange(batch, deadline, in_full=in_full)
        except StoreError as error:
            answered(error)
        else:
            answered(replies)

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(params=["sync", "async"])
def drive(request) -> Callable[[Script], Callable[[Any], Any]]:
    """Make what runs operations on scripted connections."""

    def make(script: Script) -> Callable[[Any], Any]:
        if request.param == "sync":
            return SyncStore(ASK, script).run
        store = AsyncStore(ASK, AsyncScript(script))
        return lambda operation: asyncio.run(store.run(operation))

    return make


def test_a_script_that_the_server_does_not_know_is_sent_in_full(drive):
    missing = NoScriptError("NOSCRIPT")
    script = Script([missing, 1, 1], [1])
    assert drive(script)(ASK.add(hold())) is True
    (first, in_full), (second, again_in_full) = script.asked
    assert (in_full, again_in_full) == (False, True)
    assert list(second) == [first[0]]


def test_a_script_is_not_sent_a_third_time(drive):
    missing = NoScriptError("NOSCRIPT")
    script = Script([missing], [missing])
    with pytest.raises(StoreError, match="NOSCRIPT") as failure:
        drive(script)(ASK.try_reserve(SLOT, 1))
    assert not failure.value.lost
    assert len(script.asked) == 2


def test_a_part_that_was_done_makes_the_rest_of_its_batch_lost(drive):
    # The row is there; that an index could not be sent is not to be taken for a hold that is not.
    script = Script([1, NoScriptError("NOSCRIPT")], unsent(BROKEN))
    with pytest.raises(StoreError) as failure:
        drive(script)(two_scripts())
    assert failure.value.lost


def two_scripts() -> Any:
    [first] = next(ASK.try_reserve(SLOT, 1))
    return (yield [first, first])


def test_a_batch_of_which_nothing_was_done_is_not_lost(drive):
    missing = NoScriptError("NOSCRIPT")
    with pytest.raises(StoreError) as failure:
        drive(Script([missing], unsent(BROKEN)))(ASK.try_reserve(SLOT, 1))
    assert not failure.value.lost


def test_a_settle_is_lost_once_its_hold_is_claimed(drive):
    for answer in (unsent(BROKEN), unheard(BROKEN), [1, ResponseError("READONLY"), 1]):
        with pytest.raises(StoreError) as failure:
            drive(Script([CLAIM], answer))(ASK.consume("hold_1", 5))
        assert failure.value.lost, "its refund is owed and nobody makes it"


def test_a_sweep_is_lost_once_a_hold_is_claimed(drive):
    members = [b"comp_acme|credit_inference|hold_1"]
    with pytest.raises(StoreError) as failure:
        drive(Script([members], [CLAIM], unsent(BROKEN)))(sweep_all(ASK, 0))
    assert failure.value.lost


@pytest.mark.parametrize(
    ("deadline", "given"), [(None, None), (10.0, 10.25), (10.1, 10.25), (11.0, 11.0)]
)
def test_the_refund_of_a_claim_has_time_beyond_the_deadline(deadline, given):
    owed = [Command("key", ("HDEL", "key", "hold_1"), is_owed=True)]
    other = [Command("key", ("HLEN", "key"))]
    assert time_for(owed, deadline, 10.0) == given
    assert time_for(other, deadline, 10.0) == deadline


def test_a_claim_that_is_refused_is_not_lost(drive):
    with pytest.raises(StoreError) as failure:
        drive(Script([ResponseError("READONLY")]))(ASK.consume("hold_1", 5))
    assert not failure.value.lost


@pytest.mark.parametrize("reply", [b"\xff", b"80", "[", b'["hold_1"]', b"once\n1\n2\n3\nlease_1"])
def test_a_script_whose_reply_cannot_be_read_may_have_done_anything(drive, reply):
    for operation in (ASK.try_reserve(SLOT, 1), ASK.consume("hold_1", 5)):
        if (reply, operation.__name__) == (b"80", "consume"):
            operation.close()
            continue
        with pytest.raises(StoreError) as failure:
            drive(Script([reply]))(operation)
        assert failure.value.lost
