"""Exit statuses a supervisor acts on."""

CONFIG = 3
"""Settings, model or address are wrong: starting again would fail the same way. One sentence is on stderr."""

ENGINE_LOST = 4
"""The engine cannot go on (a CUDA error, a hung step): a new process can."""
