"""What other threads ask of an engine's own thread."""

import queue
from collections.abc import Callable


class Commands:
    """A queue of calls. `put` and `stop` by any thread, `take` by the engine's."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def put(self, command: Callable[[], None]) -> None:
        """Have it called between two steps."""
        self._queue.put(command)

    def stop(self) -> None:
        """Have `take` end the thread's loop."""
        self._queue.put(None)

    def take(self, idle: Callable[[], bool]) -> bool:
        """Run what was asked for, waiting for more while there is nothing else to do; True when it is to stop."""
        while True:
            try:
                command = self._queue.get(block=idle())
            except queue.Empty:
                return False
            if command is None:
                return True
            command()
