"""The IO thread: claims jobs, writes their tokens, ends them. The engine never waits for it, nor it for the engine."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import redis
import structlog

from ekiden.errors import BY_CODE, EkidenError
from ekiden.settings import Settings
from ekiden.store import BlockingStore, Command, reason_of, store_down
from ekiden.store.types import Appended, AppendOutcome, Claimed, Ending
from ekiden_worker.active import ActiveJob, Let, batches
from ekiden_worker.admission import Admission, Admitted, PromptBuilder
from ekiden_worker.engine.interface import EngineError, Output
from ekiden_worker.figures import Figures
from ekiden_worker.runtime import Runtime
from ekiden_worker.spans import JobSpans

log = structlog.get_logger()

CLAIMS_A_CALL = 16
RETRY_S = 0.05
IDLE_WAIT_S = 1.0


class IoLoop:
    """Owns all active jobs. Other threads only leave notes (the public methods, any thread) and wake it."""

    def __init__(self, settings: Settings, runtime: Runtime, on_slots: Callable[[], None]) -> None:
        self._settings = settings
        self._runtime = runtime
        self._on_slots = on_slots
        self.figures = Figures()
        self._store = BlockingStore(settings)
        self._prompts = PromptBuilder(
            runtime, lambda admission, built: self._call(lambda: self._built(admission, built))
        )
        self._admissions: dict[str, Admission] = {}
        self._jobs: dict[str, ActiveJob] = {}
        self._by_request: dict[str, ActiveJob] = {}
        self._starts: dict[str, Command[bool]] = {}
        self._incarnation: str | None = None
        self._wake = threading.Event()
        self._steps: deque[tuple[float, Sequence[Output]]] = deque()
        self._wake_ups: deque[Callable[[], None]] = deque()
        self._asked: deque[tuple[str, Let]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._claim_wanted = False
        self._reconcile_wanted = False
        self._draining = False
        self._left = threading.Event()
        self._last_flush = 0.0
        self._held = False
        self._down = False
        self._thread = threading.Thread(target=self._run, name="io", daemon=True)

    # Notes of other threads

    def start(self) -> None:
        """Start the thread; it claims nothing before it has an incarnation."""
        self._thread.start()

    def outputs(self, outputs: Sequence[Output]) -> None:
        """What the engine made in a step. Engine thread."""
        self._steps.append((time.monotonic(), outputs))
        self._wake.set()

    def wake_up(self, release: Callable[[], None]) -> None:
        """A Celery message says that there is a job; `release` is called when its slot is free again."""
        self._wake_ups.append(release)
        self._wake.set()

    def look_for_jobs(self) -> None:
        """Jobs are said to wait in the store."""
        self._claim_wanted = True
        self._wake.set()

    def cancel(self, jobs: Iterable[str]) -> None:
        """Clients want these jobs to end."""
        self._ask(jobs, "cancelled")

    def park(self, jobs: Iterable[str]) -> None:
        """Clients want these jobs to be held."""
        self._ask(jobs, "parked")

    def become(self, incarnation: str | None) -> None:
        """Drop all jobs, which belong to somebody else now, and go on under another name. Returns when that is done."""
        done = threading.Event()

        def change() -> None:
            for active in list(self._jobs.values()):
                self._drop(active)
            for admission in self._admissions.values():
                admission.spans.end(None, self.figures, 0)
                _release(admission.release)
            self._admissions.clear()
            self._incarnation = incarnation
            self._claim_wanted = True
            done.set()

        self._call(change)
        while not done.wait(IDLE_WAIT_S):
            if not self.alive:
                raise RuntimeError("the IO thread ended")

    def reconcile(self) -> None:
        """The store says this worker owns another number of jobs: a claim's reply was lost."""
        self._reconcile_wanted = True
        self._wake.set()

    @property
    def alive(self) -> bool:
        """False before `start`, after `leave`, and when a fault ended the thread."""
        return self._thread.is_alive()

    @property
    def owned(self) -> int:
        """Jobs this worker thinks it owns."""
        return len(self._jobs) + len(self._admissions)

    @property
    def free_slots(self) -> int:
        """Jobs it would take now."""
        return 0 if self._draining else max(0, self._runtime.engine.max_running - self.owned)

    def leave(self, drain_s: float) -> None:
        """Take no more jobs, give the running ones `drain_s` to end, hand the rest over. Returns when that is done."""
        self._draining = True
        deadline = time.monotonic() + drain_s
        while self.owned and time.monotonic() < deadline:
            self._left.wait(0.01)
        self._call(self._hand_over)
        self._left.wait(5.0)

    def _ask(self, jobs: Iterable[str], what: Let) -> None:
        self._asked.extend((job, what) for job in jobs)
        self._wake.set()

    def _call(self, function: Callable[[], None]) -> None:
        self._calls.append(function)
        self._wake.set()

    # The thread

    def _run(self) -> None:
        while not self._left.is_set():
            self._wake.wait(self._wait_s())
            self._wake.clear()
            try:
                self._round()
            except (redis.RedisError, OSError) as error:
                if not store_down(error):
                    raise  # the beat sees that this thread is gone and ends the process
                if not self._down:
                    log.warning("store_away", error=reason_of(error))
                self._down = True
                time.sleep(RETRY_S)
                self._wake.set()
            else:
                if self._down:
                    log.info("store_back")
                self._down = False

    def _round(self) -> None:
        """One pass: notes, claims, writes. Raises when the store is away; everything not done stays noted."""
        while self._calls:
            self._calls[0]()
            self._calls.popleft()
        self._take_outputs()
        self._bound_unwritten()
        self._do_asked()
        self._reconcile()
        self._claim()
        if self._flush_due():
            self._flush()
            self._bound_unwritten()

    def _wait_s(self) -> float:
        if not any(active.pending for active in self._jobs.values()):
            return IDLE_WAIT_S
        return max(0.0, self._last_flush + self._settings.flush_interval_s - time.monotonic())

    def _take_outputs(self) -> None:
        while self._steps:
            ended_s, outputs = self._steps.popleft()
            since_s: dict[float, int] = {}
            tokens = 0
            for output in outputs:
                active = self._by_request.get(output.request_id)
                if active is None:
                    continue
                if not active.output_s and output.ids and active.spans:
                    active.spans.first_token(self.figures, output.cached_tokens)
                if count := len(output.ids):
                    tokens += count
                    since_s[active.output_s] = since_s.get(active.output_s, 0) + 1
                    active.output_s = ended_s
                if active.take(output):
                    self._runtime.engine.cancel(active.request_id)
            self.figures.step(ended_s, since_s, tokens)

    def _bound_unwritten(self) -> None:
        """Let the engine rest while too much waits for the store, up to half of it: memory has an end."""
        most = self._settings.max_unwritten_tokens
        unwritten = sum(active.unwritten for active in self._jobs.values())
        self.figures.unwritten_tokens = unwritten
        held = unwritten > most // 2 if self._held else unwritten >= most
        if held != self._held:
            self._held = held
            self._runtime.engine.hold(held)
            log.warning("engine_held" if held else "engine_goes_on", unwritten=unwritten)

    def _do_asked(self) -> None:
        """Have the engine let go of jobs; what it says then ends or parks them. A cancel counts more than a park."""
        while self._asked:
            job, what = self._asked.popleft()
            if (held := self._jobs.get(job) or self._admissions.get(job)) and held.asked != "cancelled":
                held.asked = what
                if isinstance(held, ActiveJob):
                    self._runtime.engine.cancel(held.request_id)

    def _claim(self) -> None:
        """Ask the store for jobs while it has some and slots are free; free the wake-ups that found none."""
        while self._incarnation and (self._claim_wanted or self._wake_ups) and (free := self.free_slots):
            asked = min(free, CLAIMS_A_CALL)
            wake_ups = len(self._wake_ups)
            command = self._store.commands.claim(self._incarnation, self._runtime.model, asked)
            claims = self._store.run(command)
            if claims is None:
                return  # fenced: the beat finds out and changes the name
            for claim in claims:
                self._admit(claim)
            for _ in range(wake_ups - min(wake_ups, len(claims))):
                self._wake_ups.popleft()()
            self._claim_wanted = len(claims) == asked
            if not self._claim_wanted:
                break
        if not self.free_slots:
            while self._wake_ups:
                self._wake_ups.popleft()()

    def _reconcile(self) -> None:
        if self._reconcile_wanted and self._incarnation:
            known = [*self._jobs, *self._admissions]
            claims = self._store.run(self._store.commands.reconcile(self._incarnation, known))
            if claims:
                log.info("reconciled", jobs=len(claims))
            for claim in claims or ():
                self._admit(claim)
        self._reconcile_wanted = False

    def _admit(self, claim: Claimed) -> None:
        """Have the prompt of a claimed job built; `_built` goes on with it."""
        if claim.job in self._jobs or claim.job in self._admissions:
            return
        admission = Admission(claim, self._wake_ups.popleft() if self._wake_ups else None, JobSpans(claim))
        log.debug("job_claimed", job=claim.job, attempt=claim.attempt)
        self._admissions[claim.job] = admission
        self._prompts.build(admission)

    def _built(self, admission: Admission, built: Admitted | EkidenError) -> None:
        claim = admission.claim
        if self._admissions.get(claim.job) is not admission:
            return  # the job is somebody else's now
        del self._admissions[claim.job]
        if isinstance(built, EkidenError):
            self._refuse(admission, built.code, str(built))
            return
        try:
            self._runtime.engine.submit(built.request)
        except EngineError as error:
            self._refuse(admission, error.code if error.code in BY_CODE else EkidenError.code, str(error))
            return
        self._begin(built, admission)
        admission.spans.submitted(len(built.request.prompt_ids))
        if admission.asked:
            self._ask([claim.job], admission.asked)

    def _begin(self, admitted: Admitted, admission: Admission) -> None:
        active, claim = admitted.active, admission.claim
        self._remember(active, admission)
        if admitted.prompt is not None and self._incarnation:
            tokens = len(admitted.request.prompt_ids)
            commands = self._store.commands
            active.start = commands.start(self._incarnation, claim.job, claim.fence, admitted.prompt, tokens)
            self._starts[claim.job] = active.start
            self._last_flush = 0.0
            self._wake.set()
        log.debug("job_started", job=claim.job, attempt=claim.attempt, prompt_tokens=len(admitted.request.prompt_ids))

    def _refuse(self, admission: Admission, code: str, message: str) -> None:
        active = ActiveJob(admission.claim, self._runtime.answer_text(), frozenset(), 0)
        active.ending = Ending("error", code, message)
        self._remember(active, admission)

    def _remember(self, active: ActiveJob, admission: Admission) -> None:
        self._jobs[active.job] = active
        self._by_request[active.request_id] = active
        active.release, active.spans = admission.release, admission.spans

    def _drop(self, active: ActiveJob, *, cancel: bool = True) -> None:
        """Forget a job and free its slot."""
        if cancel:
            self._runtime.engine.cancel(active.request_id)
        self._jobs.pop(active.job, None)
        self._by_request.pop(active.request_id, None)
        self._starts.pop(active.job, None)
        if active.spans:
            active.spans.end(active.ending, self.figures, active.tokens)
        _release(active.release)
        self._claim_wanted = True
        self._on_slots()

    def _flush_due(self) -> bool:
        pending = [active for active in self._jobs.values() if active.pending]
        if not pending and not self._starts:
            return False
        waited = time.monotonic() - self._last_flush >= self._settings.flush_interval_s
        return waited or any(active.unseen for active in pending)

    def _flush(self) -> None:
        """Write what is pending, in one round trip."""
        incarnation = self._incarnation
        if incarnation is None:
            return
        started = list(self._starts)
        rows = list(batches(active for active in self._jobs.values() if active.pending))
        appends = [self._store.commands.append(incarnation, [a.row() for a in batch]) for batch in rows]
        begun = time.monotonic()
        replies = self._store.run_many([*(self._starts[job] for job in started), *appends])
        self._last_flush = time.monotonic()
        self.figures.appends_ms.add(1000 * (self._last_flush - begun))
        for job, accepted in zip(started, replies, strict=False):
            self._starts.pop(job, None)
            if not accepted and (active := self._jobs.get(job)):
                self._fenced(active)
                self._drop(active)
        for batch, results in zip(rows, replies[len(started) :], strict=True):
            for active, result in zip(batch, results, strict=True):
                if self._jobs.get(active.job) is active:  # its start may have been fenced just before
                    self._settle(active, result)
        if self._claim_wanted:
            self._claim()

    def _settle(self, active: ActiveJob, result: Appended) -> None:
        """Act on what became of a written row."""
        if result.outcome is AppendOutcome.OK:
            active.acknowledged = result.cursor
            if active.ending and result.cursor == active.tokens:
                _log_end(active, active.ending.finish)
                self._drop(active, cancel=False)
            elif active.pending:
                self._wake.set()
        elif result.outcome is AppendOutcome.RESEND and active.resend_from(result.cursor):
            if active.start:
                self._starts[active.job] = active.start
            self._wake.set()
        else:
            if result.outcome in (AppendOutcome.CANCELLED, AppendOutcome.PARKED):
                active.ending = Ending(result.outcome.value)
                _log_end(active, active.ending.finish)
            else:
                self._fenced(active)
            self._drop(active)

    def _fenced(self, active: ActiveJob) -> None:
        """The job is another worker's, or has ended; how it ended here counts for nothing."""
        active.ending = None
        self.figures.fenced_jobs += 1
        log.warning("job_fenced", job=active.job, attempt=active.claim.attempt)

    def _hand_over(self) -> None:
        if self._incarnation:
            self._prompts.stop()
            self._flush()
            moved = self._store.run(self._store.commands.handoff(self._incarnation))
            log.info("left", handed_over=moved)
            spans = [(active.spans, active.tokens) for active in self._jobs.values()]
            for one, tokens in (*spans, *((admission.spans, 0) for admission in self._admissions.values())):
                if one:
                    one.end(None, self.figures, tokens)
        self._left.set()


def _log_end(active: ActiveJob, finish: str) -> None:
    """This worker is done with a job; what users said is in no line."""
    said = {"job": active.job, "attempt": active.claim.attempt, "finish": finish, "tokens": active.tokens}
    if active.ending and active.ending.code:
        said["code"] = active.ending.code
    log.info("job_parked" if finish == "parked" else "job_ended", **said)


def _release(release: Callable[[], None] | None) -> None:
    if release:
        release()
