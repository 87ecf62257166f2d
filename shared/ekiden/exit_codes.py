"""Exit statuses: what a supervisor acts on, and what shells expect."""

import signal

FAILED = 1
"""The service or the system did not do what was asked. One sentence is on stderr."""

USAGE = 2
"""The command line cannot be followed."""

CONFIG = 3
"""Settings, model or address are wrong: starting again would fail the same way. One sentence is on stderr."""

ENGINE_LOST = 4
"""The engine cannot go on (a CUDA error, a hung step): a new process can."""

INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + signal.SIGPIPE
"""Nobody reads the output any more."""
