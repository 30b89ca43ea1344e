"""Wrong lines, each of which the simulator must find: `python -m tests.simulation.planted [name]`.

Each is put into a copy of the package, on which schedules then run until one breaks a promise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import schematic_native

PACKAGE = Path(schematic_native.__file__).parent
REPOSITORY = Path(__file__).parents[2]
MOST_SCHEDULES = 20_000


class Fault(NamedTuple):
    """A wrong line.

    Attributes:
        name: what is wrong.
        file: below the package.
        right: what stands there, once.
        wrong: what stands there instead.

    """

    name: str
    file: str
    right: str
    wrong: str


DEBIT, HOLDS = "redis/scripts/debit.lua", "redis/hold_operations.py"
STORE, STEPS, CLAIMS = "leases/shared_store.py", "leases/check_steps.py", "leases/claims.py"
SLABS, SIBLINGS = "leases/slabs.py", "leases/siblings.py"
MANAGER, EVENTS = "leases/manager.py", "service/events.py"
REPLICA = "cache/replicator.py"

FAULTS = (
    Fault(
        "a refund goes to whichever lease is there",
        "redis/scripts/give_back.lua",
        "if not row[1] or not granted or (pin ~= '' and row[1] ~= pin) then\n    return false",
        "if not row[1] or not granted then\n    return false",
    ),
    Fault(
        "a lease gives more than it has",
        DEBIT,
        "if balance < credits or",
        "if balance <= 0 or",
    ),
    Fault(
        "a lease that has ended still gives",
        DEBIT,
        "ends <= at or row[4] ~= company",
        "ends + 60000 <= at or row[4] ~= company",
    ),
    Fault(
        "an extend adds the total and not the difference",
        "redis/scripts/reconcile.lua",
        "local gain, cut = sum(total, -granted)",
        "local gain, cut = sum(total, 0)",
    ),
    Fault(
        "two slots that share a key share its lease",
        DEBIT,
        "or row[4] ~= company or row[5] ~= credit then",
        "then",
    ),
    Fault(
        "a second install of a lease starts it anew",
        "redis/scripts/install.lua",
        "before > now() and row[1] ~= ARGV[7] then\n  return { 0, row[1] }\nend\nif row[1] == id then",
        "before > now() and row[1] ~= id then\n  return { 0, row[1] }\nend\nif false then",
    ),
    Fault(
        "a settle gives all of its hold back",
        "redis/scripts/settle.lua",
        "if not used or used > held then used = held end",
        "used = 0",
    ),
    Fault(
        "a settle gives nothing back",
        "redis/scripts/settle.lua",
        "give_back(KEYS[2], row[4], held, used)",
        "give_back(KEYS[2], row[4], held, held)",
    ),
    Fault(
        "a settle does not look whether the hold was there",
        "redis/scripts/settle.lua",
        "if redis.call('DEL', KEYS[1]) == 0 then",
        "if false then",
    ),
    Fault(
        "a hold is not listed by its end",
        "redis/scripts/hold.lua",
        "redis.call('ZADD', KEYS[3], 'NX', ends, ARGV[1])",
        "",
    ),
    Fault(
        "a hold is forgotten when it lapses",
        "redis/scripts/hold.lua",
        "redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', lapses + $GRACE))",
        "redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', lapses + 500))",
    ),
    Fault(
        "what was settled elsewhere is not taken off a slab",
        "redis/scripts/note.lua",
        "first = first + 1\n    take(tonumber(credits))",
        "first = first + 1",
    ),
    Fault(
        "a claim comes after its refund",
        HOLDS,
        "        [reply] = yield [call(scripts.CLAIM, self._keys.reservation(reservation_id))]\n"
        "        return claimed_by(reply)\n\n    def _settled",
        "        from schematic_native.redis.reservation_row import Claimed\n"
        "        key = self._keys.reservation(reservation_id)\n"
        "        names = 'id', 'companyId', 'creditTypeId', 'leaseId', 'creditsReserved'\n"
        "        [row] = yield [Command(key, ('HMGET', key, *names))]\n"
        "        if row[0] is None:\n            return None\n"
        "        i, c, t, lease, held = (str(each, 'utf-8') for each in row)\n"
        "        yield [self._refund_of((c, t), float(held), lease, used)]\n"
        "        yield [Command(key, ('DEL', key))]\n"
        "        yield [self._forget((c, t), i), self._unlist([member((c, t), i)])]\n"
        "        return Claimed((c, t), i, lease, float(held), is_finished=True)\n\n    def _settled",
    ),
    Fault(
        "a refund that was lost is sent again",
        HOLDS,
        "        replies = yield from send_owed(ends)\n",
        "        try:\n            replies = yield from send_owed(ends)\n"
        "        except StoreError:\n            replies = yield from send_owed(ends)\n",
    ),
    Fault(
        "a hold whose recording was lost counts as refused",
        STEPS,
        "answer = pending.resume_lost() if error.lost else pending.resume(False)",
        "answer = pending.resume(False)",
    ),
    Fault(
        "a failure of the store is raised out of a check",
        STEPS,
        "            faults.store_failed(step.name, error)\n            answer =",
        "            if error.lost:\n                raise\n            answer =",
    ),
    Fault(
        "a claim counts as made before it is",
        CLAIMS,
        "        slot = self.hold.company_id, self.hold.credit_type_id\n"
        "        consumed = yield from operations.consume(self.hold.id, self.credits, slot)\n",
        "        slot = self.hold.company_id, self.hold.credit_type_id\n"
        "        if self.owed is not None:\n            core.claim_ended(self.owed, True)\n"
        "        consumed = yield from operations.consume(self.hold.id, self.credits, slot)\n",
    ),
    Fault(
        "usage is billed before its claim is made",
        STORE,
        "        if self._claiming:\n            await asyncio.wait(set(self._claiming))\n"
        "        await self._claim_settles()\n",
        "",
    ),
    Fault(
        "the use of a slab is not told before it is billed",
        STORE,
        "            await self._slabs.note_uses()\n",
        "            pass\n",
    ),
    Fault(
        "a sweep goes by the clock of its pod",
        STORE,
        "lapsed = await self._ask(self._operations.lapsed())",
        "lapsed = await self._ask(self._operations.lapsed())\n"
        "        now = self._core.now()\n"
        "        members = await self._ask(self._operations._lapsed_at(now))\n"
        "        lapsed = lapsed._replace(now=now, members=members)",
    ),
    Fault(
        "what is held of a slab is given back when its pod closes",
        CLAIMS,
        "is_there = yield from operations.close_slab(self.row, self.credits, self.held)",
        "is_there = yield from operations.close_slab(self.row, self.credits)",
    ),
    Fault(
        "a hold of a slab that was settled elsewhere serves again",
        SLABS,
        "self._core.end_lapsed(hold, settled or 0.0)",
        "self._core.end_lapsed(hold, 0.0)",
    ),
    Fault(
        "a slab outlives its lease",
        SLABS,
        "min(plan.usable_for, debit.expires_at - debit.at)",
        "plan.usable_for",
    ),
    Fault(
        "a slab that is closed forgets what was settled elsewhere",
        "redis/slab_operations.py",
        "chain([used], settled.values(), open_here)",
        "chain([used], open_here)",
    ),
    Fault(
        "a check waits for the store as long as that takes",
        "leases/checks.py",
        "await self._shared.finish(answer, max(0.0, left))",
        "await self._shared.finish(answer, 5.0)",
    ),
    Fault(
        "a request has no limit",
        "service/http_sender.py",
        "return await within(self._follow(method, url, content, timeout), timeout)",
        "return await self._follow(method, url, content, timeout)",
    ),
    Fault(
        "a process spends what others added to a lease",
        SIBLINGS,
        "return min(overlap.total, own)",
        "return overlap.total",
    ),
    Fault(
        "a process takes the lease of another for its own",
        SIBLINGS,
        "        if is_foreign(lease, asked_end):\n            return None",
        "        if is_foreign(lease, asked_end):\n            return lease",
    ),
    Fault(
        "the first owner releases a lease that others have joined",
        SIBLINGS,
        "        if not self.joins.is_joined(slot):",
        "        if True:",
    ),
    Fault(
        "a lease that another has released goes on being spent",
        MANAGER,
        "                self._endings.suspect(slot, lease_id)",
        "                pass",
    ),
    Fault(
        "a lease whose answer was lost counts as wholly our own",
        SIBLINGS,
        "        return lease.granted != requested_amount",
        "        return False",
    ),
    Fault(
        "a lease that Redis has lost is put there anew, whole",
        MANAGER,
        "free = await self._rejoin(store, slot, lease, successor_of)",
        "await self._rejoin(store, slot, lease, successor_of)",
    ),
    Fault(
        "an event is dropped on any 413",
        EVENTS,
        "if status in REFUSED and (posted.is_explained or batch.count > 1):",
        "if status in REFUSED:",
    ),
    Fault(
        "a batch counts as taken on a 5xx",
        EVENTS,
        "        if 200 <= status < 300:",
        "        if 200 <= status < 300 or status >= 500:",
    ),
    Fault(
        "a batch is given up when there is no answer",
        EVENTS,
        "            fault = await self._try(batch)\n            if fault is None:",
        "            fault = await self._try(batch)\n            if fault is None or 'unreachable' in fault:",
    ),
    Fault(
        "a change of the loop forgets what was not delivered",
        EVENTS,
        "[*other._undelivered, *other._inherited]",
        "[*other._inherited]",
    ),
    Fault(
        "a connection is used again while a reply is still to come",
        "redis/async_connections.py",
        "        if exchange is not None:\n            self._pool.lose(self)\n",
        "        if exchange is not None:\n            self._pool.take_back(self)\n",
    ),
    Fault(
        "two slots that share a key share their open holds",
        HOLDS,
        'if not any(":" in part for part in slot):',
        "if slot:",
    ),
    Fault(
        "a shutdown drops the fraction of a unit that an open block has used",
        "client/hold/renewing.py",
        "            units = math.ceil(self._used - ROUNDING) - self._billed\n"
        "            self._billed += units\n            endings = spread",
        "            units = math.floor(self._used + ROUNDING) - self._billed\n"
        "            self._billed += units\n            endings = spread",
    ),
    Fault(
        "a shutdown drops what a block has used whose renewal was refused",
        "client/hold/renewing.py",
        "        if units and not pieces and self",
        "        if False and self",
    ),
    Fault(
        "a refusal proves that a lease is ours, whatever its total",
        SIBLINGS,
        "            if lease.granted != plan.requested_amount:\n                raise",
        "            if False:\n                raise",
    ),
    Fault(
        "the use of a slab that Redis refused waits until more is billed",
        STORE,
        "        await self._slabs.note_owed_uses()\n",
        "",
    ),
    Fault(
        "a gather that nobody awaits is cancelled with its loop",
        "client/hold/asynchronous.py",
        "await asyncio.wait(tasks)",
        "await asyncio.shield(asyncio.gather(*tasks))",
    ),
    Fault(
        "what could not be delivered is not kept in the spool",
        "client/runtime.py",
        "self._core.close_spool(self._sender.undelivered)",
        "self._core.close_spool([])",
    ),
    Fault(
        "what was delivered is not forgotten by the spool",
        EVENTS,
        "        self._core.delivered(batch)\n        self._pending -= batch.count\n        self.sent",
        "        self._pending -= batch.count\n        self.sent",
    ),
    Fault(
        "a change that comes while an entity is read is missed",
        REPLICA,
        "        return value, not reading.is_stale\n",
        "        return value, True\n",
    ),
    Fault(
        "what was read before Redis tells of changes is kept",
        REPLICA,
        "        if self._tracked[number] or is_complete:\n",
        "        if self._tracked[number] and not is_complete:\n",
    ),
    Fault(
        "entities of an older version are kept",
        REPLICA,
        "            self.forget(None)\n            self._keys = CacheKeys(health.version)",
        "            self._keys = CacheKeys(health.version)",
    ),
    Fault(
        "what nobody tells of is kept",
        REPLICA,
        "            for name in [name for name, at in self._read_at.items() if at <= oldest]:\n",
        "            for name in ():\n",
    ),
    Fault(
        "a tracker that hears nothing goes on",
        "redis/tracking.py",
        '            raise ConnectionError("no answer to pings")',
        "            await asyncio.sleep(60.0)",
    ),
    Fault(
        "a lookup key that changes leaves its company",
        REPLICA,
        "        entity_id = self._names.pop(name, None)\n",
        "        entity_id = self._names.get(name)\n",
    ),
    Fault(
        "a company that changes while the flag is read counts as nobody",
        REPLICA,
        "is_kept = companies != 1 or",
        "is_kept = True or",
    ),
    Fault(
        "a check in replicator mode waits as long as a read does",
        "leases/checks.py",
        "return await before(deadline, loading)",
        "return await loading",
    ),
    Fault(
        "leases go back before the usage goes out",
        "client/runtime.py",
        "        await self._sender.flush(budget * 0.6)\n        await ending\n",
        "        await ending\n",
    ),
)  # fmt: skip


def wrong_source(fault: Fault) -> str:
    """Return the text of a file of the package with a wrong line in it."""
    source = (PACKAGE / fault.file).read_text(encoding="utf-8")
    if source.count(fault.right) != 1:
        raise ValueError(f"{fault.name}: {fault.file} has {source.count(fault.right)} such places")
    return source.replace(fault.right, fault.wrong)


def plant(fault: Fault, folder: Path) -> None:
    """Put a wrong line into a copy of the package in a folder."""
    copy = folder / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "bench"))
    (copy / fault.file).write_text(wrong_source(fault), encoding="utf-8")


def find(fault: Fault, first_seed: int = 1, count: int = MOST_SCHEDULES) -> str | None:
    """Run schedules on a package with a wrong line; the line that tells of the first that breaks a promise."""
    with tempfile.TemporaryDirectory() as folder:
        plant(fault, Path(folder))
        command = [
            sys.executable, "-m", "tests.simulation", "--seed", str(first_seed), "--count", str(count),
            "--first",
        ]  # fmt: skip
        paths = os.pathsep.join([folder, str(REPOSITORY)])
        ran = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": paths}, cwd=folder, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    if ran.returncode not in {0, 1} or ran.stderr:
        raise RuntimeError(f"{fault.name}: {ran.stderr[-2000:]}")
    found = [line for line in ran.stdout.splitlines() if line.startswith("seed ")]
    return found[0] if found else None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description=__doc__)
    parser.add_argument("name", nargs="?", default="", help="a part of the names of those to plant")
    parser.add_argument("--skip", type=int, default=0, help="so many of the list")
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule")
    parser.add_argument("--count", type=int, default=MOST_SCHEDULES, help="of schedules at most")
    options = parser.parse_args()
    missed = 0
    for fault in FAULTS[options.skip :]:
        if options.name not in fault.name:
            continue
        found = find(fault, options.seed, options.count)
        missed += found is None
        if found is None:
            print(f"NOT FOUND  {fault.name}", flush=True)
        else:
            seed = int(found.removeprefix("seed ").partition(",")[0])
            print(
                f"{seed - options.seed + 1:6}  {fault.name}: {found.partition(': ')[2][:120]}",
                flush=True,
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
