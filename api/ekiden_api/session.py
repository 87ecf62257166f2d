"""One WebSocket connection: frames in, jobs watched, frames out."""

import asyncio
import uuid
from dataclasses import replace
from typing import Never

import redis
import structlog
from opentelemetry.trace import Span
from starlette.websockets import WebSocket, WebSocketDisconnect

from ekiden.errors import (
    BadCursor,
    ConversationBusy,
    ConversationNotFound,
    EkidenError,
    Expired,
    IdConflict,
    InvalidFrame,
    JobLost,
    JobNotFound,
    QueueFull,
    StoreUnavailable,
    TooManyJobs,
)
from ekiden.jobs import ENDED, State
from ekiden.protocol import (
    Accepted,
    AnyClientFrame,
    Attach,
    Attached,
    Cancel,
    Chat,
    Park,
    Parked,
    Pong,
    Regenerate,
    Resume,
)
from ekiden.store.types import NewJob, Snapshot, SubmitOutcome
from ekiden.tracing import begin, failed, from_header, to_header
from ekiden.validation import MAX_CURSOR, frame_id, parse_frame
from ekiden_api.feed import Feed, ended_frame, error_frame
from ekiden_api.hub import Subscription
from ekiden_api.metrics import JobTimes
from ekiden_api.new_job import Asking, earlier_job, new_job
from ekiden_api.outbox import Outbox
from ekiden_api.service import Service
from ekiden_api.websocket import CHANNEL

log = structlog.get_logger()

PRUNE_AT = 64  # subscriptions a connection remembers before it forgets the ended ones


class Session:
    """Serves one client. Frames are handled in the order they come."""

    def __init__(self, websocket: WebSocket, service: Service, user: str) -> None:
        self._websocket = websocket
        self._service = service
        self._user = user
        channel = websocket.scope["extensions"].get(CHANNEL)
        self._outbox = Outbox(service.settings.outbox_bytes, service.rounds, channel)
        self._outbox.on_drained = service.hub.changed.set
        self._subscriptions: dict[str, Subscription] = {}
        self._prune_at = PRUNE_AT

    async def run(self) -> None:
        """Serve until the client is gone."""
        writer = asyncio.create_task(self._outbox.send_all(self._websocket.send_text))
        reader = asyncio.create_task(self._read())
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reader, writer):
                task.cancel()
            for outcome in await asyncio.gather(reader, writer, return_exceptions=True):
                # A send on a connection that just closed raises RuntimeError or WebSocketDisconnect.
                if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect | RuntimeError):
                    log.error("session_failed", exc_info=outcome)
            for subscription in self._subscriptions.values():
                self._service.hub.remove(subscription)

    async def _read(self) -> Never:
        while True:
            await self._outbox.room()
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            text = message.get("text")
            if text is None:
                self._refuse(InvalidFrame("A frame must be text, not binary."), None)
            else:
                await self._on_text(text)

    async def _on_text(self, text: str) -> None:
        """Handle one frame; whatever is wrong with it is answered, and the connection stays."""
        found_id: str | None = None
        try:
            frame = parse_frame(text)
            found_id = frame.id
            await self._on_frame(frame)
        except EkidenError as error:
            self._refuse(error, found_id or frame_id(text))
        except (redis.RedisError, OSError) as error:
            log.warning("store_unavailable", error=type(error).__name__)
            self._refuse(StoreUnavailable("The job store does not answer; try again.", retry_after_s=1.0), found_id)
        except Exception:
            log.exception("frame_failed")
            self._refuse(EkidenError("The frame could not be handled."), found_id)

    async def _on_frame(self, frame: AnyClientFrame) -> None:
        if isinstance(frame, Chat | Regenerate):
            await self._on_asking(frame)
        elif isinstance(frame, Attach):
            await self._on_attach(frame)
        elif isinstance(frame, Cancel | Park | Resume):
            await self._on_order(frame)
        else:
            self._outbox.put(Pong(id=frame.id))

    async def _on_asking(self, frame: Asking) -> None:
        span = begin("chat", from_header(self._websocket.headers.get("traceparent")))
        try:
            await self._ask(frame, frame.id or str(uuid.uuid4()), span)
        except Exception as error:
            failed(span, error.code if isinstance(error, EkidenError) else type(error).__name__)
            raise
        finally:
            span.end()

    async def _ask(self, frame: Asking, client_id: str, span: Span) -> None:
        try:
            new = await new_job(frame, client_id, self._user, self._service)
        except EkidenError:
            # What it would be made from may be gone or busy by now: a request that was accepted stays it.
            if (earlier := await earlier_job(frame, self._user, self._service)) is None:
                raise
            job = await self._replay(earlier, client_id)
        else:
            span.set_attribute("ekiden.model", new.model)
            job = await self._submit(replace(new, trace=to_header(span)))
        span.set_attribute("ekiden.job", job)

    async def _submit(self, new: NewJob) -> str:
        """Returns the job, which is an earlier one where this request came before."""
        service, client_id = self._service, new.client_id
        times = JobTimes(service.metrics)
        subscription = Subscription(Feed(new.job, client_id), self._outbox, times)
        await service.hub.add(subscription)
        try:
            submitted = await service.store.run(service.store.commands.submit(new, service.hub.replica))
        except BaseException:
            # It may be stored: it stays watched, so that asking again with the same id finds it alive.
            self._keep(subscription)
            raise
        if submitted.outcome is not SubmitOutcome.NEW:
            service.hub.forget(subscription)
            _raise_refusal(submitted.outcome)
            return await self._replay(submitted.job, client_id)
        subscription.feed.told_position(submitted.position)
        conversation = new.place.conversation if new.place else None
        self._outbox.put(Accepted(id=client_id, job=new.job, conversation=conversation, position=submitted.position))
        times.begin()
        self._keep(subscription)
        subscription.begin()
        service.wake_ups.send(new.job)
        log.debug("job_accepted", job=new.job, model=new.model)
        return new.job

    async def _replay(self, job: str, client_id: str) -> str:
        """The same request came before: the same job, and its answer from the beginning."""
        subscription, snapshot = await self._watch(Feed(job, client_id))
        if snapshot.expired:
            self._service.hub.remove(subscription)
            raise Expired("The answer to this request is not kept any more.")
        self._outbox.put(
            Accepted(id=client_id, job=job, conversation=snapshot.conversation, position=snapshot.position)
        )
        subscription.feed.told(0, started=False, parks=_past_parks(snapshot))
        self._keep(subscription)
        subscription.begin(snapshot)
        return job

    async def _on_attach(self, attach: Attach) -> None:
        subscription, snapshot = await self._watch(Feed(attach.job, None, attach.cursor))
        try:
            if snapshot.expired:
                raise Expired("Only a summary of this job is kept.")
            if snapshot.ended and attach.cursor > snapshot.cursor:
                raise BadCursor(f"The answer ended at cursor {snapshot.cursor}.")
        except EkidenError:
            self._service.hub.remove(subscription)
            raise
        self._outbox.put(
            Attached(
                id=attach.id,
                job=attach.job,
                state=snapshot.state.value,
                attempt=snapshot.attempt,
                cursor=attach.cursor,
                conversation=snapshot.conversation,
            )
        )
        subscription.feed.client_id = snapshot.client_id
        subscription.feed.told(snapshot.attempt, started=snapshot.started, parks=_past_parks(snapshot))
        self._keep(subscription)
        subscription.begin(snapshot)

    async def _on_order(self, order: Cancel | Park | Resume) -> None:
        """An order is answered by the event that it brings about, also when this connection did not follow the job.

        That is the terminal event where it comes too late.
        """
        service = self._service
        current = self._subscriptions.get(order.job)
        if current is None or current.feed.ended:
            subscription, snapshot = await self._watch(Feed(order.job, order.id, MAX_CURSOR), lost=JobNotFound)
            if snapshot.ended:
                service.hub.remove(subscription)
                self._outbox.put(ended_frame(snapshot.ended, snapshot.client_id))
                return
            subscription.feed.cursor = snapshot.cursor
            subscription.feed.client_id = snapshot.client_id
            # Of an answer that is cancelled only the end is of interest.
            started = snapshot.started or isinstance(order, Cancel)
            subscription.feed.told(snapshot.attempt, started=started, parks=snapshot.parks)
            self._keep(subscription)
            subscription.begin()
            current = subscription
        commands = service.store.commands
        run = {Cancel: commands.cancel, Park: commands.park, Resume: commands.resume}[type(order)]
        found = await service.store.run(run(self._user, order.job))
        if isinstance(order, Park) and found is State.PARKED:
            self._outbox.put(Parked(job=order.job))
        elif found is None or found in ENDED:
            service.hub.doubt(current)

    async def _watch(self, feed: Feed, lost: type[EkidenError] = JobLost) -> tuple[Subscription, Snapshot]:
        """Follow a job from `feed.cursor` on. Raises `lost` when this user has no such job."""
        service = self._service
        subscription = Subscription(feed, self._outbox)
        await service.hub.add(subscription)
        try:
            command = service.store.commands.attach(service.hub.replica, self._user, feed.job, feed.cursor)
            snapshot = await service.store.run(command)
            if snapshot is None:
                raise lost("There is no such job.")
        except BaseException:
            service.hub.remove(subscription)
            raise
        return subscription, snapshot

    def _keep(self, subscription: Subscription) -> None:
        """Remember for the end of the connection; a second attach of a job replaces the first."""
        if old := self._subscriptions.get(subscription.feed.job):
            self._service.hub.remove(old)
        self._subscriptions[subscription.feed.job] = subscription
        if len(self._subscriptions) > self._prune_at:
            live = {job: kept for job, kept in self._subscriptions.items() if not kept.feed.ended}
            self._subscriptions, self._prune_at = live, 2 * len(live) + PRUNE_AT

    def _refuse(self, error: EkidenError, client_id: str | None) -> None:
        self._service.metrics.refused.labels(error.code).inc()
        self._outbox.put(error_frame(error, client_id))


def _past_parks(snapshot: Snapshot) -> int:
    """How often the job was held and went on: of no interest to who comes now."""
    return snapshot.parks - (snapshot.state is State.PARKED)


def _raise_refusal(outcome: SubmitOutcome) -> None:
    if outcome is SubmitOutcome.CONFLICT:
        raise IdConflict("This id was used for another request.")
    if outcome is SubmitOutcome.CONVERSATION_NOT_FOUND:
        raise ConversationNotFound("There is no such conversation.")
    if outcome is SubmitOutcome.CONVERSATION_BUSY:
        raise ConversationBusy(
            "The conversation's last answer is still under way, or it changed at this very moment.", retry_after_s=1.0
        )
    if outcome is SubmitOutcome.QUEUE_FULL:
        raise QueueFull("The queue is full; try again later.", retry_after_s=5.0)
    if outcome is SubmitOutcome.TOO_MANY_JOBS:
        raise TooManyJobs("You have as many unfinished jobs as you may.", retry_after_s=5.0)
