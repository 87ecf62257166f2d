"""Encoding in which user text cannot become a control token: control tokens are written with secret names."""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

# Private-use characters: no chat text needs them, and 24 random ones cannot be guessed.
_ALPHABET = [chr(code) for code in range(0xE000, 0xF000)]


def secret_name() -> str:
    """A string that occurs in no text of anybody else."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(24))


@dataclass(frozen=True, slots=True)
class Control:
    """A place in a prompt where the format puts a control token; everything else is text."""

    token: str


class LiteralEncoder:
    """Encodes as the tokenizer does, but takes control tokens from `Control` parts alone.

    A private copy of the tokenizer knows its control tokens only under secret names, so their spelling in a text is
    just text. Thread-safe: nothing is switched at run time.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        description = json.loads(tokenizer.to_str())
        self._names = {token["content"]: secret_name() for token in description["added_tokens"] if _is_control(token)}
        self._private = Tokenizer.from_str(json.dumps(_renamed(description, self._names)))
        tokens = sorted(map(re.escape, self._names), key=len, reverse=True)
        self._token = re.compile(f"({'|'.join(tokens)})") if tokens else None

    def split(self, fixed: str) -> list[str | Control]:
        """Text of the format itself: the spelling of a control token means the token."""
        parts = self._token.split(fixed) if self._token else [fixed]
        return [Control(part) if part in self._names else part for part in parts if part]

    def encode(self, parts: Sequence[str | Control]) -> list[int]:
        """Ids of a prompt."""
        written = "".join(self._names[part.token] if isinstance(part, Control) else part for part in parts)
        return list(self._private.encode(written, add_special_tokens=False).ids)


def _is_control(token: Mapping[str, Any]) -> bool:
    """Some vocabularies add runs of white space, for indented code; those are text."""
    return bool(token["special"] or token["content"].replace("\u2581", " ").strip())


def _renamed(description: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A tokenizer's description with other names for some tokens; their ids stay, and nothing else leads to them."""
    model = dict(description["model"])
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {names.get(piece, piece): token_id for piece, token_id in vocab.items()}
    else:  # Unigram: pairs of piece and score, in the order of ids
        model["vocab"] = [(names.get(piece, piece), score) for piece, score in vocab]
    if "merges" in model:
        model["merges"] = [pair for pair in model["merges"] if names.keys().isdisjoint((*pair, "".join(pair)))]
    if isinstance(unknown := model.get("unk_token"), str):
        model["unk_token"] = names.get(unknown, unknown)
    added = [
        {**token, "content": names.get(token["content"], token["content"])} for token in description["added_tokens"]
    ]
    without = {"post_processor": None, "truncation": None, "padding": None}
    return {**description, "model": model, "added_tokens": added, **without}
