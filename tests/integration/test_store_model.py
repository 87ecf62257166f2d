"""A random walk over the real scripts: whatever workers, clients and lost replies do, the store's invariants hold.

Every step is checked against what the walk itself wrote: one terminal event, no gap, no write by an old fence, only the
state moves of the table, and no job that nobody can reach. Conversations hold what was shown of answers that went well,
and are busy exactly while a job answers in them.
"""

import os
from collections.abc import Callable

import pytest

from tests.support.seeded import SEED
from tests.support.store_fleet import Fleet
from tests.support.store_walk import Walk

STEPS = int(os.environ.get("EKIDEN_TEST_STORE_STEPS", "6000"))


@pytest.mark.parametrize("seed", [SEED, 7])
def test_a_random_history_keeps_every_invariant(make_fleet: Callable[..., Fleet], seed: int) -> None:
    fleet = make_fleet(early_reap_s=0, lease_s=120, beat_interval_s=60)
    walk = Walk(fleet, seed)
    for number in range(STEPS // 2):
        walk.step()
        walk.check()
        if number % 100 == 0:
            walk.received()
            fleet.store.run(fleet.commands.poll("r1", []))  # a replica that does not poll is given up
    walk.finish()
