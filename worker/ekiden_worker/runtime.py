"""What a worker needs of a model: an engine and the way from messages to ids and from ids to text; names no library."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ekiden.protocol import Message
from ekiden_worker.engine.interface import Engine
from ekiden_worker.text import AnswerText


class ModelError(Exception):
    """The model cannot be served; the message is one sentence that says why."""


def first_line(error: Exception) -> str:
    """What a library says in its first line; its kind when it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@dataclass(frozen=True, slots=True)
class Runtime:
    """One loaded model. `encode_prompt` raises EkidenError for messages the prompt format refuses; any thread."""

    model: str
    engine: Engine
    encode_prompt: Callable[[Sequence[Message]], list[int]]
    answer_text: Callable[[Sequence[str]], AnswerText]
    end_ids: frozenset[int]
