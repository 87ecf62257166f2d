"""One action on all jobs that match a filter: counted first, then done in pieces that keep nobody waiting."""

import secrets
from collections.abc import AsyncIterator

import msgspec

from ekiden.errors import Poison
from ekiden.jobs import State
from ekiden.store import Store
from ekiden.store.operator import Action, Again, AgainOutcome, JobFilter, Operator, is_again
from ekiden_api.admin.shapes import BulkDone
from ekiden_api.service import Service

PIECE = 100
BUDGET = 2_000

OPEN = (State.QUEUED, State.RUNNING, State.PARKED)

FOR: dict[Action | Again, tuple[State, ...]] = {
    "cancel": OPEN,
    "park": (State.QUEUED, State.RUNNING),
    "resume": (State.PARKED,),
    "priority": OPEN,
    "retry": (State.CANCELLED, State.ERROR),
    "requeue": (State.ERROR,),
}
"""Which jobs an action is for, but for what is poison: that is for `requeue` alone."""


async def count_all(store: Store, wanted: JobFilter, newest: int) -> int:
    """How many jobs match that are not newer than this place."""
    return sum([len(ids) async for ids in _pieces(store, wanted, newest)])


async def count_fitting(store: Store, action: Action | Again, wanted: JobFilter, newest: int) -> int:
    """How many of them are in a state that the action is for (lua/act.lua, lua/retry.lua).

    Each state has an index, so this costs no more than the jobs that fit, and for `retry` those that are poison.
    """
    if action == "requeue":
        return await _count_poison(store, wanted, newest)
    states = [state for state in FOR[action] if wanted.state in (None, state)]
    counts = [await count_all(store, msgspec.structs.replace(wanted, state=state), newest) for state in states]
    poison = await _count_poison(store, wanted, newest) if action == "retry" else 0
    return max(0, sum(counts) - poison)  # a job may have changed its state between two counts


async def _count_poison(store: Store, wanted: JobFilter, newest: int) -> int:
    if wanted.state not in (None, State.ERROR) or wanted.code not in (None, Poison.code):
        return 0
    return await count_all(store, msgspec.structs.replace(wanted, state=State.ERROR, code=Poison.code), newest)


async def act_on_all(
    service: Service, action: Action | Again, wanted: JobFilter, newest: int, priority: int, by: Operator
) -> BulkDone:
    """Act on all that match and are not newer than this place. The audit log has one entry before and one after."""
    store, matched, acted = service.store, 0, 0
    target = msgspec.json.encode(wanted).decode()
    await _note(store, by, action, target, "", "begun")
    try:
        async for ids in _pieces(store, wanted, newest):
            matched += len(ids)
            if is_again(action):
                acted += await _ask_all_again(service, action, ids, by)
            else:
                command = store.operator.act(action, ids, by, priority=priority, audited=False)
                acted += sum(done.applies for done in await store.run(command))
    finally:
        await _note(store, by, action, target, f"{acted} of {matched} jobs", "done")
    return BulkDone(count=matched, acted=acted, skipped=matched - acted)


async def ask_again(
    service: Service, action: Again, job: str, by: Operator, *, audited: bool = True
) -> tuple[str, AgainOutcome, State | None]:
    """Ask again what one job asked. Returns the new job's id, what became of it, and the state the old one is in."""
    new = secrets.token_hex(16)
    outcome, found = await service.store.run(service.store.operator.again(action, job, new, by, audited=audited))
    if outcome is AgainOutcome.NEW:
        service.wake_ups.send(new)
    return new, outcome, found


async def _ask_all_again(service: Service, action: Again, ids: list[str], by: Operator) -> int:
    outcomes = [(await ask_again(service, action, job, by, audited=False))[1] for job in ids]
    return outcomes.count(AgainOutcome.NEW)


async def _pieces(store: Store, wanted: JobFilter, newest: int) -> AsyncIterator[list[str]]:
    before: int | None = newest + 1
    while before is not None:
        found = await store.run(store.operator.find_ids(wanted, before, PIECE, BUDGET))
        before = found.following
        if found.ids:
            yield found.ids


async def _note(store: Store, by: Operator, action: str, target: str, detail: str, outcome: str) -> None:
    await store.run(store.operator.note(by, f"bulk_{action}", target, detail, outcome))
