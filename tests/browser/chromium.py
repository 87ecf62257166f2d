"""The browser that is driven: Chromium of the system."""

import os
import shutil

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Where it is; None: nowhere."""
    return os.environ.get("EKIDEN_TEST_CHROMIUM") or shutil.which("chromium")
