"""From a claimed job to an engine request: prompt ids, the answer's length, and the text state of earlier attempts."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import structlog

from ekiden.errors import EkidenError, PromptTooLong
from ekiden.protocol import JobRequest
from ekiden.store.types import Claimed
from ekiden_worker.active import ActiveJob
from ekiden_worker.engine.interface import EngineRequest
from ekiden_worker.runtime import Runtime

log = structlog.get_logger()

DEFAULT_MAX_TOKENS = 1024

_request_decoder = msgspec.msgpack.Decoder(JobRequest)
_ids_decoder = msgspec.msgpack.Decoder(list[int])


@dataclass(frozen=True, slots=True)
class Admitted:
    """`prompt` is what the store should keep, on the first attempt that got so far; else None."""

    active: ActiveJob
    request: EngineRequest
    prompt: bytes | None


def admit(claim: Claimed, runtime: Runtime) -> Admitted:
    """Build the prompt, or take that of an earlier attempt. Raises EkidenError; nothing is changed then."""
    request = _request_decoder.decode(claim.request)
    if claim.prompt_ids is None:
        prompt_ids = runtime.encode_prompt(request.messages)
        prompt = msgspec.msgpack.encode(prompt_ids)
    else:
        prompt_ids, prompt = _ids_decoder.decode(claim.prompt_ids), None
    max_tokens = _answer_length(len(prompt_ids), request.max_tokens, runtime.engine.context_tokens)
    text = runtime.answer_text(request.stop)
    for record in claim.records:
        if text.push(record.token_id) != record.text:
            # Another tokenizer wrote the log. What clients have seen stays; the answer goes on from there.
            log.warning("log_differs", job=claim.job, attempt=claim.attempt)
            text = runtime.answer_text(request.stop)
            break
    active = ActiveJob(claim, text, runtime.end_ids, max_tokens)
    return Admitted(active, active.engine_request(prompt_ids, request), prompt)


@dataclass(slots=True)
class Admission:
    """A claim whose prompt is being built. `release` frees the wake-up that brought it."""

    claim: Claimed
    release: Callable[[], None] | None
    cancel_asked: bool = False


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
            log.exception("admission_failed", job=admission.claim.job)
            built = EkidenError("The worker could not build the prompt.")
        self._on_built(admission, built)


def _answer_length(prompt_tokens: int, max_tokens: int | None, context_tokens: int) -> int:
    room = context_tokens - prompt_tokens
    if max_tokens is None and room >= 1:
        return min(DEFAULT_MAX_TOKENS, room)
    if max_tokens is None or max_tokens > room:
        asked = f" and max_tokens {max_tokens}" if max_tokens else ""
        raise PromptTooLong(
            f"The prompt's {prompt_tokens} tokens{asked} do not fit the model's context of {context_tokens} tokens."
        )
    return max_tokens
