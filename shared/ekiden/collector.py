"""Python's garbage collector in processes that stream."""

import gc

# New objects before the collector looks at them; Python's default is 700. What one flush of a large batch brings must
# be able to die by itself before: each object that is looked at twice brings the next full collection nearer.
YOUNG_OBJECTS = 20_000


def collect_seldom() -> None:
    """Make full collections rare and short: every stream of the process stands still meanwhile.

    What is there now, modules above all, lives as long as the process and is left out for ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
