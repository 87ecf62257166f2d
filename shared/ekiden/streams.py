"""Standard streams that nobody reads any more."""

import os
from typing import IO, Any


def discard(stream: IO[Any]) -> None:
    """Let what is left in the stream's buffer go nowhere, or it would be written, and fail, once more at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
