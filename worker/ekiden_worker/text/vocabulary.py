"""What each id stands for: bytes of a character stream, whole characters, or nothing."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

SPACE_MARK = "\u2581"  # SentencePiece writes a space as this character
UNKNOWN_TEXT = " \u2047 "  # what SentencePiece decodes its unknown id to

Piece = bytes | str | None

# Chains of decoder steps that are known to undo one of the two kinds of encoding.
_BYTE_LEVEL = ("ByteLevel",)
_SENTENCEPIECE = {
    ("Replace",),
    ("Replace", "ByteFallback", "Fuse"),
    ("Replace", "ByteFallback", "Fuse", "Strip"),
    ("Metaspace",),
    ("Metaspace", "ByteFallback", "Fuse"),
}
# What the steps must be set to, where they can be set to something else.
_NEEDED: dict[str, dict[str, Any]] = {
    "Replace": {"pattern": {"String": SPACE_MARK}, "content": " "},
    "Strip": {"content": " ", "start": 1, "stop": 0},
    "Metaspace": {"replacement": SPACE_MARK},
}
_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")


class UnknownTokenizer(ValueError):
    """The tokenizer cannot be read, or decodes in a way that is not understood, so its text could not be exact."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The table of a tokenizer.

    `pieces[id]` is bytes (part of a UTF-8 stream), str (whole characters) or None (nothing: a control id). With
    `strip_leading_space` a space that the first piece of a text begins with, when it is a str, is the tokenizer's own
    and dropped. With `control_breaks` a control id ends a run of bytes; otherwise it is as if it were not there.

    SentencePiece's text is that of its own decoder, where `tokenizers` decodes otherwise: a space spelled as a byte is
    never dropped, and the unknown id is shown. An added token that is no control token stands for its content.
    """

    pieces: tuple[Piece, ...]
    strip_leading_space: bool
    control_breaks: bool

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """The table of a `tokenizers` tokenizer. Raises UnknownTokenizer."""
        description = json.loads(tokenizer.to_str())
        model = description["model"]
        steps = _decoder_steps(description["decoder"])
        kinds = tuple(step["type"] for step in steps)
        marks_words = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
        if model["type"] in ("BPE", "Unigram") and not marks_words:
            if kinds == _BYTE_LEVEL:
                return cls(_pieces(tokenizer, _byte_level_piece, str.encode), False, False)
            if kinds in _SENTENCEPIECE and all(map(_as_needed, steps)):
                return _sentencepiece(tokenizer, model, steps)
        how = "no decoder" if not kinds else f"the decoder {', '.join(kinds)}"
        raise UnknownTokenizer(
            f"The tokenizer ({model['type']} with {how}) is of no kind whose text is known to be exact: "
            "byte-level BPE, or SentencePiece with its usual decoder."
        )


def _decoder_steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    return list(decoder["decoders"]) if decoder["type"] == "Sequence" else [decoder]


def _as_needed(step: dict[str, Any]) -> bool:
    return all(step[name] == value for name, value in _NEEDED.get(step["type"], {}).items())


def _pieces(
    tokenizer: Tokenizer, convert: Callable[[str], Piece], convert_added: Callable[[str], Piece]
) -> tuple[Piece, ...]:
    added = tokenizer.get_added_tokens_decoder()
    pieces: list[Piece] = []
    for token_id in range(max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1):
        text = tokenizer.id_to_token(token_id)
        if token_id in added:
            pieces.append(None if added[token_id].special else convert_added(added[token_id].content))
        else:
            pieces.append(None if text is None else convert(text))
    return tuple(pieces)


def _sentencepiece(tokenizer: Tokenizer, model: dict[str, Any], steps: list[dict[str, Any]]) -> Vocabulary:
    pieces = list(_pieces(tokenizer, _sentencepiece_piece, _sentencepiece_piece))
    kinds = [step["type"] for step in steps]
    if any(isinstance(piece, bytes) for piece in pieces) and not ("ByteFallback" in kinds or model["byte_fallback"]):
        raise UnknownTokenizer("The tokenizer has pieces for single bytes, but neither encodes nor decodes by them.")
    name = model.get("unk_token")
    unknown = model.get("unk_id") if name is None else tokenizer.token_to_id(name)
    if unknown is not None:
        pieces[unknown] = UNKNOWN_TEXT.encode()  # as bytes, because its space is never the tokenizer's own
    strips = "Strip" in kinds or any(step.get("prepend_scheme", "never") != "never" for step in steps)
    return Vocabulary(tuple(pieces), strips, control_breaks=True)


def _sentencepiece_piece(text: str) -> Piece:
    byte = _BYTE_PIECE.fullmatch(text)
    return bytes.fromhex(byte[1]) if byte else text.replace(SPACE_MARK, " ")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable Latin-1 stands for itself, the rest follows from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + number): byte for number, byte in enumerate(rest)}


_BYTE_OF = _byte_alphabet()


def _byte_level_piece(text: str) -> Piece:
    # A piece outside the alphabet is an entry that no merge produces; it stands for its own characters.
    if all(character in _BYTE_OF for character in text):
        return bytes(_BYTE_OF[character] for character in text)
    return text.encode()
