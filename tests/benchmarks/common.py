"""What the benchmarks share: paired timings, and a last line of JSON that says whether the asked figures were met."""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression, median
from typing import NoReturn

LONGEST_ROUND_S = 300.0  # of a real model, also where it is slow


@dataclass(frozen=True, slots=True)
class Paired:
    """Durations of two ways to do the same work, taken in turns."""

    ours_s: list[float]
    theirs_s: list[float]

    @property
    def ratio(self) -> float:
        """How many times as fast ours is: the median over the pairs, so a slow moment of the machine cancels out."""
        return median(theirs / ours for ours, theirs in zip(self.ours_s, self.theirs_s, strict=True))


def timed_s(work: Callable[[int], object], number: int) -> float:
    """How long round `number` of `work` takes."""
    started = time.perf_counter()
    work(number)
    return time.perf_counter() - started


def in_turns(pairs: int, ours: Callable[[int], object], theirs: Callable[[int], object]) -> Paired:
    """Time both for each round; the order alternates (A B B A …), as what runs second may find a warmer machine."""
    result = Paired([], [])
    for number in range(pairs):
        sides = [(ours, result.ours_s), (theirs, result.theirs_s)]
        for work, durations in sides if number % 2 == 0 else reversed(sides):
            durations.append(timed_s(work, number))
    return result


def slope(points: Mapping[int, float]) -> float:
    """How much the values grow for each step of their keys, by least squares."""
    return linear_regression(list(points), list(points.values())).slope


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that `share` of all are not above; one that was measured, also of a few."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def report(figures: Mapping[str, object], missed: list[str]) -> NoReturn:
    """Print the figures as the last line; the exit status says whether one of the asked was missed."""
    print(json.dumps({**figures, "missed": missed}))
    sys.exit(1 if missed else 0)
