"""Where the optional test data lies; tests that need it skip without it."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("EKIDEN_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def data_file(name: str) -> Path:
    """A file or folder of the test data; skips the test where it is missing."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"test data {name} is not here (set EKIDEN_TEST_DATA)")
    return path
