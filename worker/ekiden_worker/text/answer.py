"""The text of an answer, record by record: detokenizer and stop sequences in one pure function of the ids."""

from collections.abc import Sequence

from ekiden_worker.text.detokenizer import Detokenizer
from ekiden_worker.text.vocabulary import Vocabulary


class AnswerText:
    """text(n) of the contract: what the first n ids say, without a cut character or a possible stop sequence.

    Pushing the same ids again gives the same records, so another worker goes on at any cursor.
    """

    __slots__ = ("_detokenizer", "_held", "_longest", "_stop", "stopped")

    def __init__(self, vocabulary: Vocabulary, stop: Sequence[str] = ()) -> None:
        self._detokenizer = Detokenizer(vocabulary)
        self._stop = tuple(stop)
        self._longest = max(map(len, self._stop), default=0)
        self._held = ""
        self.stopped = False
        """A stop sequence was met: the answer is over, and nothing may be pushed any more."""

    def push(self, token_id: int, *, last: bool = False) -> str:
        """The text of this id's log record. `last`: no id follows, so nothing is held back."""
        text = self._detokenizer.push(token_id)
        if last:
            text += self._detokenizer.flush()
        if not self._stop:
            return text
        text = self._held + text
        start = min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=None)
        if start is not None:
            self.stopped = True
            self._held = ""
            return text[:start]
        keep = 0 if last else self._possible_stop(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _possible_stop(self, text: str) -> int:
        """Length of the longest end of `text` that a stop sequence begins with."""
        for length in range(min(len(text), self._longest - 1), 0, -1):
            tail = text[-length:]
            if any(stop.startswith(tail) for stop in self._stop):
                return length
        return 0
