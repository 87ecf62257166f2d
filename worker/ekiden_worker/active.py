"""One job this worker owns: what was generated, what the store has of it, and how it ends."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from ekiden.protocol import JobRequest
from ekiden.store import Command
from ekiden.store.types import Append, Claimed, Ending
from ekiden.wire import encode_record
from ekiden_worker.engine.interface import EngineRequest, Finish, Output, SamplingParams
from ekiden_worker.spans import JobSpans
from ekiden_worker.text import AnswerText

# An append call carries at most this many records: Lua unpacks them onto its stack.
MAX_RECORDS = 500
ROWS_A_CALL = 256

_admissions = itertools.count(1)

Let = Literal["cancelled", "parked"]
"""What clients may ask for beside the answer: that it ends, or is held."""

ENDING_OF = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.CANCELLED: "cancelled"}


class ActiveJob:
    """State of one claim. IO thread only.

    `records` holds every record of this attempt: the store may have lost some, or a reply may have been.
    """

    __slots__ = (
        "acknowledged",
        "asked",
        "base",
        "cached_tokens",
        "claim",
        "end_ids",
        "ending",
        "max_tokens",
        "output_s",
        "records",
        "release",
        "request_id",
        "spans",
        "start",
        "text",
    )

    def __init__(self, claim: Claimed, text: AnswerText, end_ids: frozenset[int], max_tokens: int) -> None:
        self.claim = claim
        self.spans: JobSpans | None = None
        self.text = text
        self.end_ids = end_ids
        self.max_tokens = max_tokens
        # A job can come back before the engine forgot it; after a loss in the store even with the same fence.
        self.request_id = f"{claim.job}:{next(_admissions)}"
        self.base = self.acknowledged = len(claim.records)
        self.records: list[bytes] = []
        self.ending: Ending | None = None
        self.start: Command[bool] | None = None
        """Writes the prompt, on the first attempt; a store that forgot it is told again."""
        self.cached_tokens = 0
        self.output_s = 0.0
        """When the engine made the last output, monotonic; 0: none yet."""
        self.asked: Let | None = None
        self.release: Callable[[], None] | None = None
        """Frees the Celery wake-up that brought the job, if one did."""

    @property
    def job(self) -> str:
        return self.claim.job

    @property
    def pending(self) -> bool:
        """There is something the store does not have yet."""
        return self.ending is not None or self.unwritten > 0

    @property
    def unwritten(self) -> int:
        """How many records the store does not have yet."""
        return self.base + len(self.records) - self.acknowledged

    @property
    def tokens(self) -> int:
        """How many there are, those of earlier attempts included."""
        return self.base + len(self.records)

    @property
    def unseen(self) -> bool:
        """Nothing of this attempt has reached the store."""
        return self.acknowledged == self.base

    def engine_request(self, prompt_ids: Sequence[int], request: JobRequest) -> EngineRequest:
        """What the engine is to do; the logged ids of earlier attempts count as generated."""
        params = SamplingParams(
            max_tokens=self.max_tokens,
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            min_p=request.min_p,
            repetition_penalty=request.repetition_penalty,
            seed=request.seed,
        )
        logged = tuple(record.token_id for record in self.claim.records)
        return EngineRequest(self.request_id, tuple(prompt_ids), params, self.end_ids, logged)

    def take(self, output: Output) -> bool:
        """Turn an output into records. True when the engine should stop: the text met a stop sequence."""
        if self.ending:
            return False
        self.cached_tokens = self.cached_tokens or output.cached_tokens
        for token_id in output.ids:
            count = self.base + len(self.records) + 1
            last = token_id in self.end_ids or count >= self.max_tokens
            self.records.append(encode_record(token_id, self.text.push(token_id, last=last)))
            if self.text.stopped:
                self.ending = Ending("stop")
                return output.finish is None
        if output.finish is Finish.ERROR:
            self.ending = Ending("error", output.error_code or "engine_error", output.error_message or "")
        elif output.finish is Finish.CANCELLED:
            self.ending = Ending(self.asked) if self.asked else None
        elif output.finish:
            self.ending = Ending(ENDING_OF[output.finish])
        return False

    def row(self) -> Append:
        """The next thing to write; the end goes with the last record."""
        start = self.acknowledged - self.base
        records = self.records[start : start + MAX_RECORDS]
        whole = start + len(records) == len(self.records)
        return Append(
            job=self.claim.job,
            fence=self.claim.fence,
            attempt=self.claim.attempt,
            start=self.acknowledged,
            records=records,
            cached_tokens=self.cached_tokens if self.unseen else 0,
            ending=self.ending if whole else None,
        )

    def resend_from(self, cursor: int) -> bool:
        """The store has `cursor` records. False when this attempt cannot go on from there."""
        if not self.base <= cursor <= self.base + len(self.records):
            return False
        self.acknowledged = cursor
        return True


def batches(active: Iterable[ActiveJob]) -> Iterable[list[ActiveJob]]:
    """Groups of jobs whose rows fit one append call."""
    batch: list[ActiveJob] = []
    records = 0
    for one in active:
        count = min(MAX_RECORDS, one.unwritten)
        if batch and (records + count > MAX_RECORDS or len(batch) == ROWS_A_CALL):
            yield batch
            batch, records = [], 0
        batch.append(one)
        records += count
    if batch:
        yield batch
