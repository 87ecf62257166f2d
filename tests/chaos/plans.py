"""What a run breaks, and under which load."""

from tests.chaos.cluster import Size
from tests.chaos.drive import Plan
from tests.chaos.faults import BY_NAME, FAULTS, Fault

# Logs must outlive the run: at its end the store is asked for every answer again.
KEPT = (("EKIDEN_KEEP_LOG_S", "14400"),)

# 50 answers run and slots are free, so that a stall is the recovery's own and not the wait for a slot.
ROOM = Size(max_running=32, extra=KEPT)
# 51 slots for 250 answers: 50 run, 200 are queued, and a worker's death leaves fewer slots than answers.
FULL = Size(max_running=17, extra=KEPT)

OFTEN = ("worker_killed", "worker_drained", "api_killed", "triple_death")
SHORT = ("worker_killed", "worker_drained", "api_killed", "clients_cut", "store_killed", "worker_frozen", "disk_full")


def alone(name: str, faults: tuple[Fault, ...]) -> Plan:
    """One fault after the other; each is over before the next."""
    return Plan(name, ROOM, 50, (100, 300), faults)


def together(name: str, answers: int) -> Plan:
    """Up to three faults at once, until so many answers have ended."""
    return Plan(name, FULL, 250, (30, 90), combined_until=answers)


def every_fault(times: int) -> tuple[Fault, ...]:
    """All of them; those with a figure to keep, and those that happen most, that many times."""
    often = tuple(BY_NAME[name] for name in OFTEN for _ in range(times))
    return often + tuple(fault for fault in FAULTS if fault.name not in OFTEN)


def short() -> tuple[Fault, ...]:
    """The cut that every `make test` has."""
    return tuple(BY_NAME[name] for name in SHORT)
