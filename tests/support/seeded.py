"""Long random tests: the session's seed (printed in pytest's header), how many rounds, how many hypothesis examples."""

import os
import random
import secrets

import hypothesis

SEED = int(os.environ.get("EKIDEN_TEST_SEED") or secrets.randbits(32))
ROUNDS = int(os.environ.get("EKIDEN_TEST_ROUNDS", "100000"))
EXAMPLES = int(os.environ.get("EKIDEN_TEST_EXAMPLES", "150"))

# pytest's processes inherit it from the one that prints the header: all must collect the same tests.
os.environ["EKIDEN_TEST_SEED"] = str(SEED)

thorough = hypothesis.settings(max_examples=max(1000, EXAMPLES))
"""For the properties that Ekiden is known for."""


def generator(name: str) -> random.Random:
    """A generator of one test's own: the same seed gives the same rounds, whatever else runs."""
    return random.Random(f"{SEED} {name}")
