"""The spans of one attempt at a job: `job`, and within it `prompt`, `prefill` and `decode`."""

from opentelemetry.trace import Span

from ekiden.store.types import Claimed, Ending
from ekiden.tracing import begin, failed, from_header, within


class JobSpans:
    """Begins with the claim. Steps are the engine's that made tokens, counted since its start. IO thread only."""

    __slots__ = ("_job", "_phase", "_step")

    def __init__(self, claim: Claimed) -> None:
        self._job = begin("job", from_header(claim.trace), job=claim.job, attempt=claim.attempt)
        self._phase: Span = self._begin("prompt")
        self._step = 0

    def submitted(self, prompt_tokens: int) -> None:
        """The engine has the prompt."""
        self._phase.end()
        self._phase = self._begin("prefill")
        self._phase.set_attribute("ekiden.prompt_tokens", prompt_tokens)

    def first_token(self, step: int, cached_tokens: int) -> None:
        """The engine made the first token of this attempt."""
        self._phase.set_attribute("ekiden.cached_tokens", cached_tokens)
        self._phase.end()
        self._phase = self._begin("decode")
        self._phase.set_attribute("ekiden.first_step", step)
        self._step = step

    def end(self, ending: Ending | None, step: int, tokens: int) -> None:
        """This attempt is over; without an `ending` the job goes on elsewhere."""
        if self._step:
            self._phase.set_attribute("ekiden.last_step", step)
            self._phase.set_attribute("ekiden.tokens", tokens)
        self._phase.end()
        self._job.set_attribute("ekiden.tokens", tokens)
        self._job.set_attribute("ekiden.outcome", ending.finish if ending else "moved")
        if ending and ending.finish == "error":
            failed(self._job, ending.code)
        self._job.end()

    def _begin(self, name: str) -> Span:
        return begin(name, within(self._job))
