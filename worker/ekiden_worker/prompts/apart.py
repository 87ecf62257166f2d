"""What formats share that encode each text between two control tokens alone."""

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer

from ekiden.protocol import Message
from ekiden_worker.prompts.literal import LiteralEncoder
from ekiden_worker.prompts.parts import Control, Part
from ekiden_worker.prompts.tokenizer import ModelTokenizer


class ApartFormat:
    """Base of a format by the tokenizer's own file; `parts` and `following` are the format's own.

    `_begin` is what the tokenizer puts in front of every text. `controls` names tokens that the format puts into
    prompts although the file may not know them as control tokens.
    """

    stops: tuple[str, ...] = ()
    single_turn = False

    def __init__(self, tokenizer: ModelTokenizer, controls: Iterable[str] = ()) -> None:
        self._begin = _text_begin(tokenizer.raw)
        self._encoder = LiteralEncoder(tokenizer.raw, {*controls, *(part.token for part in self._begin)})

    def check(self, messages: Sequence[Message]) -> None:
        """Every message is fine."""

    def encode(self, parts: Sequence[Part]) -> list[int]:
        """Ids, each text encoded alone."""
        return self._encoder.encode_apart(parts)

    def continuation(self, text: str) -> list[int]:
        """Ids of text that goes on."""
        return self._encoder.continuation(text)

    def turn_end(self) -> int | None:
        """Nothing but the model's own end ids ends an answer."""
        return None


def _text_begin(tokenizer: Tokenizer) -> list[Control]:
    framed = tokenizer.encode("x")
    bare = tokenizer.encode("x", add_special_tokens=False).ids
    starts = (at for at in range(len(framed.ids)) if framed.ids[at : at + len(bare)] == bare)
    return [Control(token) for token in framed.tokens[: next(starts, 0)]]
