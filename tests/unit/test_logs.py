"""Log lines tell what happened, and nothing that a user wrote."""

import subprocess
import sys
from typing import Literal

import pytest

PROGRAM = """
import structlog
from ekiden.logs import configure_logging
from ekiden.settings import load_settings

def handle(prompt):
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger().exception("frame_failed", job="j1")

configure_logging(load_settings(log_format="{log_format}"))
handle("a private " + "question")
"""


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_logged_exception_shows_no_local_variables(log_format: Literal["console", "json"]) -> None:
    program = PROGRAM.replace("{log_format}", log_format)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "frame_failed" in done.stderr
    assert "ValueError: no" in done.stderr
    assert "private question" not in done.stderr
