"""Exact incremental decoding of one id sequence."""

import codecs

from ekiden_worker.text.vocabulary import Vocabulary


def _one_mark_a_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("ekiden-replace", _one_mark_a_byte)
_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Turns ids into text as they come: the joined deltas are the decoded sequence, nothing is taken back.

    Only a character that is not whole yet is held; each byte that cannot be part of one becomes U+FFFD.
    """

    __slots__ = ("_at_start", "_control_breaks", "_decoder", "_pending", "_pieces")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._pieces = vocabulary.pieces
        self._control_breaks = vocabulary.control_breaks
        self._at_start = vocabulary.strip_leading_space
        self._decoder = _utf8_decoder("ekiden-replace")
        self._pending = False

    def push(self, token_id: int) -> str:
        """The text that became certain with this id. An id beyond the vocabulary gives nothing."""
        piece = self._pieces[token_id] if token_id < len(self._pieces) else None
        if isinstance(piece, bytes):
            text = self._decoder.decode(piece)
            self._pending = bool(self._decoder.getstate()[0])
        elif piece is None:
            text = self.flush() if self._control_breaks else ""
        else:
            text = self.flush() + piece if self._pending else piece
        if self._at_start and text:
            self._at_start = False
            # SentencePiece marks the start of a text with a space that the text does not have.
            return text[1:] if text[0] == " " else text
        return text

    def flush(self) -> str:
        """What is still held: bytes of a character that did not come to its end."""
        if not self._pending:
            return ""
        self._pending = False
        return self._decoder.decode(b"", True)
