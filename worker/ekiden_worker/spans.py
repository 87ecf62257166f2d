"""The spans of one attempt at a job: `job`, and within it `prompt`, `prefill` and `decode`."""

from opentelemetry.trace import Span

from ekiden.store.types import Claimed, Ending
from ekiden.tracing import begin, failed, from_header, within
from ekiden_worker.figures import Figures


class JobSpans:
    """Begins with the claim. Steps are the engine's that made tokens, counted since its start. IO thread only."""

    __slots__ = ("_before", "_job", "_phase")

    def __init__(self, claim: Claimed) -> None:
        self._job = begin("job", from_header(claim.trace), job=claim.job, attempt=claim.attempt)
        self._phase: Span = self._begin("prompt")
        self._before: tuple[int, int] | None = None
        """Steps before the first one that this attempt had a part in, and the requests in all of them together."""

    def submitted(self, prompt_tokens: int) -> None:
        """The engine has the prompt."""
        self._phase.end()
        self._phase = self._begin("prefill")
        self._phase.set_attribute("ekiden.prompt_tokens", prompt_tokens)

    def first_token(self, figures: Figures, cached_tokens: int) -> None:
        """The engine made the first token of this attempt, in a step that `figures` do not know yet."""
        self._phase.set_attribute("ekiden.cached_tokens", cached_tokens)
        self._phase.end()
        self._phase = self._begin("decode")
        self._phase.set_attribute("ekiden.first_step", figures.steps + 1)
        self._before = figures.steps, figures.rows

    def end(self, ending: Ending | None, figures: Figures, tokens: int) -> None:
        """This attempt is over; without an `ending` the job goes on elsewhere."""
        if self._before:
            steps, rows = self._before
            self._phase.set_attribute("ekiden.last_step", figures.steps)
            self._phase.set_attribute("ekiden.batch_size", round((figures.rows - rows) / (figures.steps - steps), 2))
            self._phase.set_attribute("ekiden.tokens", tokens)
        self._phase.end()
        self._job.set_attribute("ekiden.tokens", tokens)
        self._job.set_attribute("ekiden.outcome", ending.finish if ending else "moved")
        if ending and ending.finish == "error":
            failed(self._job, ending.code)
        self._job.end()

    def _begin(self, name: str) -> Span:
        return begin(name, within(self._job))
