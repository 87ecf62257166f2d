"""Encoding in which user text cannot become a control token: control tokens are written with secret names."""

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer

from ekiden.errors import SpecialTags

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

    A private copy of the tokenizer knows its added tokens only under secret names, so their spelling in a text is just
    text. Thread-safe: nothing is switched at run time.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        description = json.loads(tokenizer.to_str())
        added = description["added_tokens"]
        description |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        self._private = Tokenizer.from_str(json.dumps(description))
        self._names = {token["content"]: secret_name() for token in added}
        self._private.add_tokens(
            [
                AddedToken(
                    self._names[token["content"]],
                    single_word=token["single_word"],
                    lstrip=token["lstrip"],
                    rstrip=token["rstrip"],
                    normalized=token["normalized"],
                    special=False,
                )
                for token in added
            ]
        )
        self._id_of = {self._private.token_to_id(self._names[token["content"]]): token["id"] for token in added}
        self._control_ids = frozenset(self._id_of.values())
        tokens = sorted(map(re.escape, self._names), key=len, reverse=True)
        self._token = re.compile(f"({'|'.join(tokens)})") if tokens else None

    def split(self, fixed: str) -> list[str | Control]:
        """Text of the format itself: the spelling of a control token means the token."""
        parts = self._token.split(fixed) if self._token else [fixed]
        return [Control(part) if part in self._names else part for part in parts if part]

    def encode(self, parts: Sequence[str | Control]) -> list[int]:
        """Ids of a prompt. Raises SpecialTags where the model's own vocabulary makes a control id of plain text."""
        written = "".join(self._names[part.token] if isinstance(part, Control) else part for part in parts)
        ids = self._private.encode(written, add_special_tokens=False).ids
        if not self._control_ids.isdisjoint(ids):
            raise SpecialTags("A message holds text that this model's tokenizer reads as a control token.")
        return [self._id_of.get(token_id, token_id) for token_id in ids]
