"""The beat thread: keeps the worker's lease, hears what the store has to say, and watches over the engine."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import redis
import structlog

from ekiden.settings import Settings
from ekiden.store import BlockingStore, reason_of, store_down
from ekiden.store.types import WorkerInfo
from ekiden_worker.engine.interface import Engine
from ekiden_worker.io_loop import IoLoop
from ekiden_worker.report import Reporter

log = structlog.get_logger()

RETRY_S = 0.05
DIE = b"die"  # what lua/kill.lua says


class Beat:
    """Beats from its own thread and connections, so that no slow write or step delays it.

    `on_engine_lost` is called once, on this thread, when the engine is dead or hangs; the lease then runs out.
    """

    def __init__(
        self, settings: Settings, info: WorkerInfo, engine: Engine, io: IoLoop, on_engine_lost: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._info = info
        self._engine = engine
        self._io = io
        self._on_engine_lost = on_engine_lost
        self._reporter = Reporter(io.figures, settings.device)
        self._store = BlockingStore(settings)
        self._pubsub: Any = None
        self._incarnation: str | None = None
        self._mismatches = 0
        self._stop = threading.Event()
        self.leaving = False
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the worker's jobs must have been handed over."""
        self._stop.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        try:
            self._beat_until_stopped()
        except Exception:
            log.exception("beat_failed")
            self._on_engine_lost("the beat thread failed")

    def _beat_until_stopped(self) -> None:
        away = False
        while not self._stop.is_set():
            if reason := self._engine_trouble():
                self._on_engine_lost(reason)
                return
            try:
                if self._incarnation is None:
                    self._register()
                self._beat()
                self._listen(self._settings.beat_interval_s)
            except (redis.RedisError, OSError) as error:
                if not store_down(error):
                    raise
                if not away:
                    log.warning("store_away_for_beat", error=reason_of(error))
                away = True
                self._drop_subscription()
                self._stop.wait(RETRY_S)
            else:
                if away:
                    log.info("store_back_for_beat")
                away = False
        self._drop_subscription()

    def _register(self) -> None:
        """Take a new name: what the old one owned belongs to others now."""
        self._io.become(None)
        incarnation = uuid.uuid4().hex
        # Subscribed before it is known: a worker without its subscription may be taken for dead.
        self._subscribe(incarnation)
        self._store.run(self._store.commands.register(incarnation, self._info))
        self._incarnation = incarnation
        self._io.become(incarnation)
        log.info("registered", incarnation=incarnation, model=self._info.model)

    def _beat(self) -> None:
        assert self._incarnation is not None
        stats = self._engine.stats()
        state = "leaving" if self.leaving else "ready"
        figures, gaps = self._reporter.figures(stats), self._reporter.token_gaps()
        command = self._store.commands.beat(self._incarnation, self._io.owned, stats.waiting, state, figures, gaps)
        reply = self._store.run(command)
        self._reporter.arrived()
        if reply.fenced:
            if not self._stop.is_set() and not self.leaving:
                log.warning("fenced", incarnation=self._incarnation)
                self._incarnation = None
            return
        if reply.reaped:
            log.warning("reaped", jobs=reply.reaped)
        self._io.cancel(reply.cancels)
        self._io.park(reply.parks)
        if reply.waiting and self._io.free_slots:
            self._io.look_for_jobs()
        # One difference is a claim or an end in flight; one that stays is a lost reply.
        self._mismatches = self._mismatches + 1 if reply.owned > self._io.owned else 0
        if self._mismatches >= 2:
            self._io.reconcile()
            self._mismatches = 0
        if self._pubsub is None:
            self._subscribe(self._incarnation)

    def _subscribe(self, incarnation: str) -> None:
        self._drop_subscription()
        keys = self._store.keys
        self._pubsub = self._store.redis.pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe(keys.live(incarnation), keys.wake(self._info.model))

    def _drop_subscription(self) -> None:
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None

    def _listen(self, seconds: float) -> None:
        """Wait for the next beat. A message on the live channel makes it due now; one on the wake channel, a claim."""
        if self._pubsub is None:  # it leaves, and is fenced already: nobody has anything to say to it
            self._stop.wait(seconds)
            return
        deadline = time.monotonic() + seconds
        while self._incarnation and (left := deadline - time.monotonic()) > 0 and not self._stop.is_set():
            message = self._pubsub.get_message(timeout=left)
            if message is None:
                continue
            if message["channel"] == self._store.keys.live(self._incarnation).encode():
                if message["data"] == DIE and self._settings.chaos_drills:
                    os.kill(os.getpid(), signal.SIGKILL)
                return
            if self._io.free_slots:
                self._io.look_for_jobs()

    def _engine_trouble(self) -> str | None:
        if not self._io.alive and not self._stop.is_set() and not self.leaving:
            return "the IO thread ended"
        if not self._engine.alive:
            return None if self._stop.is_set() or self.leaving else "the engine thread ended"
        age = self._engine.stats().last_step_age_s
        if age is not None and age > self._settings.engine_stall_s:
            return f"no step ended for {age:.0f} s"
        return None
