"""What a worker needs of a model: an engine and the way from messages to ids and from ids to text; names no library."""

from collections.abc import Sequence
from dataclasses import dataclass

from ekiden_worker.engine.interface import Engine
from ekiden_worker.prompts import PromptFormat, PromptRules
from ekiden_worker.text import AnswerText, Vocabulary


class ModelError(Exception):
    """The model cannot be served; the message is one sentence that says why."""


def first_line(error: Exception) -> str:
    """What a library says in its first line; its kind when it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@dataclass(frozen=True, slots=True)
class Runtime:
    """One loaded model and how the operator wants it spoken to.

    `replace` holds the pairs to replace in answers. All but the engine may be used in any thread.
    """

    model: str
    engine: Engine
    prompts: PromptFormat
    rules: PromptRules
    vocabulary: Vocabulary
    end_ids: frozenset[int]
    replace: tuple[tuple[str, str], ...] = ()

    def answer_text(self, stop: Sequence[str] = (), replace: Sequence[tuple[str, str]] = ()) -> AnswerText:
        """The text of one answer, at its beginning."""
        return AnswerText(self.vocabulary, stop, replace)
