"""The text of an answer, record by record: detokenizer, stop sequences and replacements as one pure function of ids."""

from collections.abc import Sequence

from ekiden_worker.text.detokenizer import Detokenizer
from ekiden_worker.text.replacing import Replacer
from ekiden_worker.text.stops import StopSearch
from ekiden_worker.text.vocabulary import Vocabulary


class AnswerText:
    """text(n) of the contract: what the first n ids say, without what is still held back.

    Held back are a character that is not whole, a possible stop sequence and a possible text to replace. Stop sequences
    are looked for in the model's own words, so before replacements. Pushing the same ids again gives the same records:
    another worker goes on at any cursor.
    """

    __slots__ = ("_detokenizer", "_replacer", "_stops", "stopped")

    def __init__(
        self, vocabulary: Vocabulary, stop: Sequence[str] = (), replace: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._detokenizer = Detokenizer(vocabulary)
        self._stops = StopSearch(stop) if stop else None
        self._replacer = Replacer(replace) if replace else None
        self.stopped = False
        """A stop sequence was met: the answer is over, and nothing may be pushed any more."""

    def push(self, token_id: int, *, last: bool = False) -> str:
        """The text of this id's log record. `last`: no id follows, so nothing is held back."""
        text = self._detokenizer.push(token_id)
        if last:
            text += self._detokenizer.flush()
        if self._stops:
            text = self._stops.push(text, last=last)
            self.stopped = self._stops.met
        if self._replacer:
            text = self._replacer.push(text, last=last or self.stopped)
        return text
