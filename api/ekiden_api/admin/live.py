"""What open dashboards show, looked at once a second and pushed where it changed. A view is read once for all pages."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import msgspec
import redis
import structlog

from ekiden.errors import EkidenError, StoreUnavailable
from ekiden_api.admin.desk import Desk
from ekiden_api.admin.shapes import JobsPage, JobView, Series
from ekiden_api.admin.shown import SeriesShown, View, Watch, views_of

log = structlog.get_logger()

EVERY_S = 1.0
SOON_S = 0.1  # so that pages that ask at the same moment are answered together
BUDGET_S = 0.5


@dataclass(frozen=True, slots=True)
class Frame:
    """A view as it is sent; `content` is what tells whether it changed."""

    data: bytes
    content: bytes
    failed: bool = False


class Onlooker:
    """One open page. `unsent` holds the newest frame of each view: an older one is worth nothing."""

    def __init__(self, *, with_text: bool) -> None:
        self._with_text = with_text
        self._watch = Watch()
        self._sent: dict[str, bytes] = {}
        self._has_series = False
        self.unsent: dict[str, bytes] = {}
        self.filled = asyncio.Event()

    def look_at(self, watch: Watch) -> None:
        """Show something else: everything is sent anew."""
        self._watch = watch
        self._sent.clear()
        self._has_series = False

    def views(self) -> list[View]:
        """What it shows."""
        return views_of(self._watch, with_text=self._with_text, whole_series=not self._has_series)

    def has(self, view: View) -> bool:
        """It was sent this view since it shows it."""
        return view.name in self._sent

    def show(self, view: View, frame: Frame) -> None:
        """Send a view, unless it is what was sent last."""
        if view not in self.views() or self._sent.get(view.name) == frame.content:
            return
        self._sent[view.name] = frame.content
        self._has_series |= isinstance(view, SeriesShown) and not frame.failed
        self.unsent[view.name] = frame.data
        self.filled.set()

    def refuse(self, error: EkidenError) -> None:
        """Say that what the page sent is wrong."""
        self.unsent["watch"] = _error("watch", error)
        self.filled.set()


class Live:
    """All open pages of this process. Event loop only; nothing is read while there is none.

    One view is read after the other, by one task: many pages that ask for much slow each other down, and no chats.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._onlookers: set[Onlooker] = set()
        self._asked = asyncio.Event()
        self._read: dict[View, float] = {}

    def __len__(self) -> int:
        return len(self._onlookers)

    @asynccontextmanager
    async def joined(self, onlooker: Onlooker) -> AsyncIterator[None]:
        """Keep a page up to date for the length of an `async with` block."""
        self._onlookers.add(onlooker)
        try:
            yield
        finally:
            self._onlookers.discard(onlooker)

    def look(self, onlooker: Onlooker, watch: Watch) -> None:
        """A page shows something else: it is brought up to date soon."""
        onlooker.look_at(watch)
        self._asked.set()

    async def run(self) -> None:
        """Look once a second, and soon after a page asks; for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S if self._onlookers else None):
                    await self._asked.wait()
            self._asked.clear()
            try:
                await self._update()
            except Exception:
                log.exception("live_failed")
            await asyncio.sleep(SOON_S)

    async def _update(self) -> None:
        """Bring pages up to date, in BUDGET_S or a little more; what is left comes first the next time."""
        shown = defaultdict[View, list[Onlooker]](list)
        for onlooker in self._onlookers:
            for view in onlooker.views():
                shown[view].append(onlooker)
        self._read = {view: at for view, at in self._read.items() if view in shown}
        now = time.monotonic()
        due = [view for view, some in shown.items() if self._is_due(view, some, now)]
        # What many pages show first, then what was read longest ago.
        for view in sorted(due, key=lambda view: (-len(shown[view]), self._read.get(view, 0.0))):
            if time.monotonic() - now > BUDGET_S:
                self._asked.set()
                return
            self._read[view] = time.monotonic()
            frame = await self._frame(view)
            for onlooker in shown[view]:
                onlooker.show(view, frame)

    def _is_due(self, view: View, some: list[Onlooker], now: float) -> bool:
        return now - self._read.get(view, 0.0) >= EVERY_S - SOON_S or any(not one.has(view) for one in some)

    async def _frame(self, view: View) -> Frame:
        try:
            data = await view.read(self._desk)
        except EkidenError as error:
            return _failure(view, error)
        except (redis.RedisError, OSError) as error:
            log.warning("store_unavailable", error=type(error).__name__)
            return _failure(view, StoreUnavailable("The job store does not answer."))
        frame = msgspec.json.encode({"type": view.name, "data": data})
        # That time goes by is no news for a page that shows nothing else new.
        timeless = isinstance(data, JobsPage | JobView | Series)
        return Frame(frame, msgspec.json.encode(msgspec.structs.replace(data, now_ms=0)) if timeless else frame)


def _failure(view: View, error: EkidenError) -> Frame:
    frame = _error(view.name, error)
    return Frame(frame, frame, failed=True)


def _error(about: str, error: EkidenError) -> bytes:
    return msgspec.json.encode({"type": "error", "about": about, "code": error.code, "message": str(error)})


@asynccontextmanager
async def watching(desk: Desk) -> AsyncIterator[Live]:
    """The live views for the length of an `async with` block."""
    live = Live(desk)
    task = asyncio.create_task(live.run())
    try:
        yield live
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
