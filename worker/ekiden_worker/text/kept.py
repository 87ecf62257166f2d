"""What a conversation keeps of an answer that ended: the ids behind what was shown."""

from collections.abc import Sequence
from dataclasses import dataclass

from ekiden_worker.text.answer import AnswerText
from ekiden_worker.text.detokenizer import Detokenizer
from ekiden_worker.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Kept:
    """The first `count` ids as they are, then `tail`: text in the tokenizer's own spelling, to be encoded again."""

    count: int
    tail: str


def kept_part(vocabulary: Vocabulary, ids: Sequence[int], stop: Sequence[str], *, finish_reason: str) -> Kept:
    """The part of an answer that was shown, as ids and the fragment of an id that was shown in part.

    `ids` are all that were generated. What was shown is their AnswerText, before replacements: a memory holds the
    model's own words. `count` is the largest number of leading ids whose text, decoded alone to the end, begins what
    was shown; `tail` is the rest of it. So:

    * An answer that ended by its end id or by length keeps all its ids, those of broken characters too.
    * A stop sequence takes with it every id from the one it begins in; the characters of that id in front of it are
      the tail. Ids without text in front of it stay.
    * A cancelled answer keeps the ids whose text was shown whole. Ids without text at its end stay, unless something
      in front of them was held back.
    * A character that several ids make together is kept by all of them, or is in the tail.

    A tail that begins the answer has the space that decoding it drops: the tokenizer's own, which was not shown, or
    one more where a shown space is its first character.
    """
    shown = _shown(AnswerText(vocabulary, stop), ids, whole=finish_reason != "cancelled")
    detokenizer = Detokenizer(vocabulary)
    decoded = count = at = 0
    begins = detokenizer.may_drop_space
    for number, token_id in enumerate(ids, 1):
        decoded += len(detokenizer.push(token_id))
        if decoded > len(shown):
            break
        if shown.startswith(detokenizer.held, decoded):
            count, at, begins = number, decoded + len(detokenizer.held), detokenizer.may_drop_space
    tail = shown[at:]
    if begins and ((detokenizer.dropped_space and tail) or tail.startswith(" ")):
        tail = f" {tail}"
    return Kept(count, tail)


def _shown(answer: AnswerText, ids: Sequence[int], *, whole: bool) -> str:
    texts: list[str] = []
    for number, token_id in enumerate(ids, 1):
        texts.append(answer.push(token_id, last=whole and number == len(ids)))
        if answer.stopped:
            break
    return "".join(texts)
