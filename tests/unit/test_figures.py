"""What a worker counts of itself."""

import time

import pytest

from ekiden.store.types import ITL_BOUNDS_MS
from ekiden_worker.figures import Figures, Histogram, Pace


def test_a_value_on_a_bound_is_in_its_bucket_and_one_above_all_in_the_last() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (0.5, 1, 1.1, 4, 5):
        histogram.add(value)
    histogram.add(3, times=10)
    assert histogram.counts == [2, 1, 11, 1]
    assert histogram.total == pytest.approx(41.6)


def test_gaps_are_counted_by_request_and_steps_once() -> None:
    figures = Figures()
    figures.step(10.0, {0.0: 3}, 3)
    assert sum(figures.itl_ms.counts) == sum(figures.steps_ms.counts) == 0
    figures.step(10.025, {10.0: 2, 0.0: 1}, 3)
    figures.step(10.05, {10.025: 2, 10.0: 1}, 3)
    assert figures.tokens == 9
    gaps = dict(zip((*ITL_BOUNDS_MS, "more"), figures.itl_ms.counts, strict=True))
    assert {bound: count for bound, count in gaps.items() if count} == {30: 4, 60: 1}
    assert figures.itl_ms.total == pytest.approx(150)
    assert (sum(figures.steps_ms.counts), figures.steps, figures.rows) == (2, 3, 9)
    assert figures.steps_ms.total == pytest.approx(50)


def test_the_pace_is_that_of_the_last_second() -> None:
    figures, now = Figures(), time.monotonic()
    assert figures.pace() is None
    figures.step(now - 60, {0.0: 32}, 32)
    assert figures.pace() is None
    figures.step(now, {0.0: 2}, 2)
    assert figures.pace() == Pace(2, None)
    figures.step(now + 0.02, {now: 4}, 4)
    pace = figures.pace()
    assert pace
    assert (pace.batch_size, pace.step_ms) == pytest.approx((3, 20))


def test_a_step_that_only_ends_requests_is_none() -> None:
    figures = Figures()
    figures.step(time.monotonic(), {}, 0)
    assert figures.pace() is None
