"""Encoding in which user text cannot become a control token: control tokens are written with secret names."""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

import msgspec
from tokenizers import Tokenizer

from ekiden_worker.prompts.parts import Content, Control, Ids, Part, Text


def secret_name() -> str:
    """A string that occurs in no text of anybody else: private-use characters, too many to be guessed."""
    return "".join([chr(0xE000 + byte) for byte in secrets.token_bytes(16)])


class LiteralEncoder:
    """Encodes as the tokenizer does, but takes control tokens from `Control` parts alone.

    A private copy of the tokenizer knows its control tokens only under secret names, so their spelling in a text is
    just text. Thread-safe: nothing is switched at run time. `controls` names more pieces that no text may become.
    """

    def __init__(self, tokenizer: Tokenizer, controls: Iterable[str] = ()) -> None:
        description = msgspec.json.decode(tokenizer.to_str())
        tokens = [token["content"] for token in description["added_tokens"] if _is_control(token)]
        self._names = {token: secret_name() for token in (*tokens, *controls)}
        self._description = _renamed(description, self._names)
        self._private = _built(self._description)
        # The longest first, as tokenizers find them.
        spelled = sorted(map(re.escape, tokens), key=len, reverse=True)
        self._token = re.compile(f"({'|'.join(spelled)})") if spelled else None

    @cached_property
    def _going_on(self) -> Tokenizer:
        """The private copy for text that stands behind other text: it puts no space in front."""
        return _built(_without_prefix(self._description))

    def split(self, fixed: str) -> list[Control | Text]:
        """Text of the format itself: the spelling of a control token means the token."""
        pieces = self._token.split(fixed) if self._token else [fixed]
        return [Control(piece) if piece in self._names else Text(piece) for piece in pieces if piece]

    def control_id(self, token: str) -> int:
        """The id of a control token."""
        token_id = self._private.token_to_id(self._names[token])
        assert token_id is not None
        return token_id

    def continuation(self, text: str) -> list[int]:
        """Ids of text that stands behind other text."""
        return list(self._going_on.encode(text, add_special_tokens=False).ids)

    def encode(self, parts: Sequence[Part]) -> list[int]:
        """Ids of a prompt, encoded as one string, control tokens and all; only kept ids interrupt it."""
        ids: list[int] = []
        for number, (kept, run) in enumerate(groupby(parts, lambda part: isinstance(part, Ids))):
            ids += _kept_ids(run) if kept else self._run(list(run), goes_on=number > 0)
        return ids

    def encode_apart(self, parts: Sequence[Part]) -> list[int]:
        """Ids of a prompt in which each text between two control tokens is encoded alone."""
        ids: list[int] = []
        before: type[Part] | None = None
        for kind, run in groupby(parts, _kind):
            if kind is Ids:
                ids += _kept_ids(run)
            elif kind is Control:
                ids += [self.control_id(part.token) for part in run if isinstance(part, Control) and not part.given]
            elif before is Ids:
                ids += self.continuation(self._written(run))
            else:
                ids += self._private.encode(self._written(run), add_special_tokens=False).ids
            before = kind
        return ids

    def _run(self, run: list[Part], *, goes_on: bool) -> list[int]:
        start = 0
        if goes_on:
            start = next((at for at, part in enumerate(run) if isinstance(part, Control)), len(run))
        ids = self.continuation(self._written(run[:start])) if start else []
        rest = self._private.encode(self._written(run[start:]), add_special_tokens=False).ids
        given = isinstance(run[0], Control) and run[0].given
        return [*ids, *(rest[1:] if given else rest)]

    def _written(self, parts: Iterable[Part]) -> str:
        return "".join(
            [
                self._names[part.token] if isinstance(part, Control) else part.text
                for part in parts
                if not isinstance(part, Ids)
            ]
        )


def _built(description: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_buffer(msgspec.json.encode(description))


def _kind(part: Part) -> type[Part]:
    return Text if isinstance(part, Content) else type(part)


def _kept_ids(parts: Iterable[Part]) -> Iterator[int]:
    return (token_id for part in parts if isinstance(part, Ids) for token_id in part.ids)


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


def _without_prefix(description: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer's description without the space that it would put in front of every text."""
    steps = {name: _unprefixed(description[name]) for name in ("normalizer", "pre_tokenizer")}
    return {**description, **steps}


def _unprefixed(step: dict[str, Any] | None) -> dict[str, Any] | None:
    if step is None or step["type"] == "Prepend":
        return None
    if step["type"] == "Sequence":
        (key,) = step.keys() - {"type"}
        return {**step, key: [kept for kept in map(_unprefixed, step[key]) if kept]}
    switches = {"prepend_scheme": "never", "add_prefix_space": False}
    return {**step, **{name: value for name, value in switches.items() if name in step}}
