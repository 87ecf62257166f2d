"""What each id stands for: bytes of a character stream, whole characters, or nothing."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

SPACE_MARK = "\u2581"  # SentencePiece writes a space as this character
UNKNOWN_TEXT = " \u2047 "  # what SentencePiece decodes its unknown id to

Piece = bytes | str | None


class UnknownTokenizer(ValueError):
    """The tokenizer decodes in a way that is not understood, so its text could not be exact."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The table of a tokenizer.

    `pieces[id]` is bytes (part of a UTF-8 stream), str (whole characters) or None (nothing: a control id). With
    `strip_leading_space` one space at the very start of a text is the tokenizer's own and dropped. With
    `control_breaks` a control id ends a run of bytes; otherwise it is as if it were not there.
    """

    pieces: tuple[Piece, ...]
    strip_leading_space: bool
    control_breaks: bool

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """The table of a `tokenizers` tokenizer. Raises UnknownTokenizer."""
        description = json.loads(tokenizer.to_str())
        steps = _decoder_steps(description["decoder"])
        kinds = [step["type"] for step in steps]
        if "ByteLevel" in kinds:
            return cls(_pieces(tokenizer, description, _byte_level_bytes), False, False)
        if "ByteFallback" in kinds or description["model"].get("byte_fallback"):
            strips = any(step["type"] == "Strip" and step["start"] > 0 for step in steps) or "Metaspace" in kinds
            return cls(_pieces(tokenizer, description, _sentencepiece_text), strips, True)
        raise UnknownTokenizer(
            f"The tokenizer decodes by {kinds or 'nothing'}; "
            "only byte-level BPE and SentencePiece with byte fallback give exact text."
        )


def _decoder_steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    return list(decoder["decoders"]) if decoder["type"] == "Sequence" else [decoder]


def _pieces(tokenizer: Tokenizer, description: dict[str, Any], convert: Callable[[str], Piece]) -> tuple[Piece, ...]:
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    pieces: list[Piece] = [None] * size
    for text, token_id in tokenizer.get_vocab(with_added_tokens=False).items():
        pieces[token_id] = convert(text)
    unknown = description["model"].get("unk_token")
    for token in description["added_tokens"]:
        pieces[token["id"]] = None if token["special"] else token["content"].encode()
        if token["content"] == unknown and convert is _sentencepiece_text:
            pieces[token["id"]] = UNKNOWN_TEXT
    return tuple(pieces)


def _sentencepiece_text(piece: str) -> Piece:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes((int(piece[3:5], 16),))
    return piece.replace(SPACE_MARK, " ")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable Latin-1 stands for itself, the rest follows from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + number): byte for number, byte in enumerate(rest)}


_BYTE_OF = _byte_alphabet()


def _byte_level_bytes(piece: str) -> Piece:
    # A piece outside the alphabet is an entry that no merge produces; it stands for its own characters.
    if all(character in _BYTE_OF for character in piece):
        return bytes(_BYTE_OF[character] for character in piece)
    return piece.encode()
