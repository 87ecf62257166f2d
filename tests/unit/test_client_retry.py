"""When the client tries again, what it tells of it, and when it gives up."""

from ekiden.client.retry import FIRST_DELAY_S, LONGEST_DELAY_S, Announcer, Backoff, Patience, Retry


def test_delays_grow_to_a_bound_and_start_again_after_success() -> None:
    backoff = Backoff()
    delays = [backoff.next_s() for _ in range(2000)]
    limits = [min(FIRST_DELAY_S * 2**number, LONGEST_DELAY_S) for number in range(10)]
    for delay, limit in zip(delays, limits, strict=False):
        assert limit / 2 <= delay <= limit
    assert max(delays) <= LONGEST_DELAY_S
    assert len(set(delays)) > 1000
    backoff.reset()
    assert backoff.next_s() <= FIRST_DELAY_S


def test_patience_counts_from_the_first_failure_and_success_restores_it() -> None:
    now = 100.0
    patience = Patience(10.0, lambda: now)
    assert not patience.spent(1.0)
    now = 108.0
    assert not patience.spent(1.0)
    assert patience.spent(3.0)
    patience.restore()
    assert not patience.spent(3.0)
    now = 118.0
    assert patience.spent(3.0)


def test_no_patience_fails_at_once_and_endless_patience_never() -> None:
    assert Patience(0).spent(0.1)
    now = 0.0
    endless = Patience(None, lambda: now)
    endless.begin()
    now = 1e9
    assert not endless.spent(5.0)


def test_a_reason_is_told_once_until_another_or_until_it_went_well() -> None:
    told: list[str] = []
    announcer = Announcer(told.append)
    for reason in ("Lost.", "Lost.", "Full.", "Full.", "Lost."):
        announcer(Retry(reason, 1.0))
    assert told == ["Lost. Trying again.", "Full. Trying again.", "Lost. Trying again."]
    announcer.recovered()
    announcer(Retry("Lost.", 1.0))
    assert told[3:] == ["Lost. Trying again."]
