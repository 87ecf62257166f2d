"""The states of a job and the moves between them; the Lua scripts are held to this table by tests."""

from enum import StrEnum


class State(StrEnum):
    """Where a job is. Exactly one of the last three is reached, once."""

    QUEUED = "queued"
    RUNNING = "running"
    PARKED = "parked"
    DONE = "done"
    CANCELLED = "cancelled"
    ERROR = "error"


NEXT: dict[State, frozenset[State]] = {
    # A queued job ends without running when it is cancelled, waits too long, is abandoned, or is poison.
    State.QUEUED: frozenset({State.RUNNING, State.PARKED, State.CANCELLED, State.ERROR}),
    # A running job is queued again when its worker dies, drains or is fenced.
    State.RUNNING: frozenset({State.QUEUED, State.PARKED, State.DONE, State.CANCELLED, State.ERROR}),
    State.PARKED: frozenset({State.QUEUED, State.CANCELLED, State.ERROR}),
    State.DONE: frozenset(),
    State.CANCELLED: frozenset(),
    State.ERROR: frozenset(),
}

ENDED: frozenset[State] = frozenset(state for state, following in NEXT.items() if not following)
