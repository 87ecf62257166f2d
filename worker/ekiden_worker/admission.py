"""From a claimed job to an engine request: prompt ids, the answer's length, and the text state of earlier attempts."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import structlog

from ekiden.errors import EkidenError
from ekiden.memory import StoredPrompt, decode_prompt
from ekiden.protocol import JobRequest
from ekiden.store.types import Claimed
from ekiden_worker.active import ActiveJob, Let
from ekiden_worker.engine.interface import EngineRequest
from ekiden_worker.memory import build_prompt, stored_prompt
from ekiden_worker.prompts import Room
from ekiden_worker.runtime import Runtime
from ekiden_worker.spans import JobSpans
from ekiden_worker.text import AnswerText

log = structlog.get_logger()

_request_decoder = msgspec.msgpack.Decoder(JobRequest)


@dataclass(frozen=True, slots=True)
class Admitted:
    """`prompt` is what the store should keep, on the first attempt that got so far; else None."""

    active: ActiveJob
    request: EngineRequest
    prompt: StoredPrompt | None


def admit(claim: Claimed, runtime: Runtime) -> Admitted:
    """Build the prompt, or take that of an earlier attempt. Raises EkidenError; nothing is changed then."""
    request = _request_decoder.decode(claim.request)
    if claim.prompt is None:
        prompt = build_prompt(request, claim.memory, runtime)
    else:
        prompt = stored_prompt(decode_prompt(claim.prompt), request, claim.memory)
    max_tokens = Room(runtime.engine.context_tokens, request.max_tokens).answer_tokens(len(prompt.ids))
    active = ActiveJob(claim, _text(claim, prompt.stored, runtime), runtime.end_ids, max_tokens)
    engine_request = active.engine_request(prompt.ids, request)
    return Admitted(active, engine_request, prompt.stored if claim.prompt is None else None)


def _text(claim: Claimed, prompt: StoredPrompt, runtime: Runtime) -> AnswerText:
    """The text of the answer, up to where earlier attempts came."""
    text = runtime.answer_text(prompt.stop, prompt.replace)
    for record in claim.records:
        if text.push(record.token_id) != record.text:
            # Another tokenizer wrote the log. What clients have seen stays; the answer goes on from there.
            log.warning("log_differs", job=claim.job, attempt=claim.attempt)
            return runtime.answer_text(prompt.stop, prompt.replace)
    return text


@dataclass(slots=True)
class Admission:
    """A claim whose prompt is being built. `release` frees the wake-up that brought it."""

    claim: Claimed
    release: Callable[[], None] | None
    spans: JobSpans
    asked: Let | None = None


class PromptBuilder:
    """Builds prompts in a thread of its own: a long conversation must not stop the answers that are under way.

    `on_built` is called in that thread with what `admit` returned or why it failed.
    """

    def __init__(self, runtime: Runtime, on_built: Callable[[Admission, Admitted | EkidenError], None]) -> None:
        self._runtime = runtime
        self._on_built = on_built
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prompts")

    def build(self, admission: Admission) -> None:
        """Build a prompt, after those before it; returns at once."""
        self._thread.submit(self._build, admission)

    def stop(self) -> None:
        """Build no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _build(self, admission: Admission) -> None:
        built: Admitted | EkidenError
        try:
            built = admit(admission.claim, self._runtime)
        except EkidenError as error:
            built = error
        except Exception:
            # A job that breaks its own prompt must not take the others with it.
            log.exception("admission_failed", job=admission.claim.job, attempt=admission.claim.attempt)
            built = EkidenError("The worker could not build the prompt.")
        self._on_built(admission, built)
