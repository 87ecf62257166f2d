"""Exact incremental decoding of one id sequence."""

from codecs import register_error, utf_8_decode

from ekiden_worker.text.vocabulary import Vocabulary

MARK = "\ufffd"
_ERRORS = "ekiden-mark-each-byte"


def _mark_each_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return MARK * (error.end - error.start), error.end


register_error(_ERRORS, _mark_each_byte)


class Detokenizer:
    """Turns ids into text as they come: the joined deltas are the decoded sequence, nothing is taken back.

    Only a character that is not whole yet is held; each byte that cannot be part of one becomes U+FFFD.
    """

    __slots__ = ("_bytes", "_control_breaks", "_pieces", "_size", "dropped_space", "may_drop_space")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._pieces = vocabulary.pieces
        self._size = len(vocabulary.pieces)
        self._control_breaks = vocabulary.control_breaks
        self._bytes = b""
        self.may_drop_space = vocabulary.strip_leading_space
        """Nothing was decoded yet: a space that comes now would be the tokenizer's own."""
        self.dropped_space = False
        """The text began with a space of the tokenizer's own, which is not in the deltas."""

    @property
    def held(self) -> str:
        """What `flush` would give: a mark for each byte of a character that is not whole yet."""
        return MARK * len(self._bytes)

    def push(self, token_id: int) -> str:
        """The text that became certain with this id. An id outside the vocabulary is as a control id."""
        piece = self._pieces[token_id] if 0 <= token_id < self._size else None
        if isinstance(piece, str):
            if self.may_drop_space and piece:
                self.may_drop_space = False
                self.dropped_space = piece[0] == " "
                return piece[self.dropped_space :]
            return self.flush() + piece if self._bytes else piece
        if piece is None:
            return self.flush() if self._control_breaks and self._bytes else ""
        self.may_drop_space = False
        stream = self._bytes + piece if self._bytes else piece
        text, used = utf_8_decode(stream, _ERRORS)
        self._bytes = stream[used:]
        if self._bytes[:1] == b"\xed" and self._bytes[1:] >= b"\xa0":
            # Half a surrogate: Python's decoder waits for its third byte, but no character begins so.
            text += self.flush()
        return text

    def flush(self) -> str:
        """What is still held, because nothing follows that could make it whole."""
        text = self.held
        self._bytes = b""
        return text
