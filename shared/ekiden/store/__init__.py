"""The job store: every state change is one Lua script, called through a typed command."""

from ekiden.store.clients import STORE_DOWN, BlockingStore, Store, reason_of, store_down
from ekiden.store.commands import MAX_POLLED_JOBS, Command, Commands

__all__ = ["MAX_POLLED_JOBS", "STORE_DOWN", "BlockingStore", "Command", "Commands", "Store", "reason_of", "store_down"]
