"""Id sequences that are hard to decode, and stop sequences and replacements that are likely to match."""

import random
from dataclasses import dataclass, field
from functools import cache, cached_property

from hypothesis import strategies as st
from tokenizers import Tokenizer

from ekiden_worker.text import Vocabulary
from tests.support.tokenizers import byte_level_tokenizer, sentencepiece_tokenizer
from tests.unit.text import reference

SNIPPETS = (
    "Hello, world!", "  two  spaces", " x", "日本語", "襷をつなぐ", "👩‍👩‍👧‍👦", "🏃", "émoji", "Спасибо", "###",
    "\n\nUser:", "▁", "\u2047", "\ufffd", "def f(x):\n\treturn x", "\r\n", "license", "the License",
)  # fmt: skip
BYTES = bytes([0x20, 0x41, 0x7F, 0x80, 0x85, 0x9F, 0xA0, 0xA7, 0xBF, 0xC0, 0xC3, 0xE0, 0xE9, 0xED, 0xF0, 0xF4, 0xF5])
INSERTS = ("", "x", "##", "<>", "the ")


@dataclass(frozen=True)
class Kind:
    """A tokenizer and its table."""

    name: str
    tokenizer: Tokenizer = field(repr=False)
    vocabulary: Vocabulary = field(repr=False)

    @cached_property
    def special(self) -> list[int]:
        """Ids that are no ordinary pieces: control, unknown, merely added, and outside the vocabulary."""
        return [*self.tokenizer.get_added_tokens_decoder(), -1, len(self.vocabulary.pieces), 1 << 40]

    @cached_property
    def of_bytes(self) -> dict[int, int]:
        """The id of each single byte."""
        return {
            piece[0]: token_id
            for token_id, piece in enumerate(self.vocabulary.pieces)
            if isinstance(piece, bytes) and len(piece) == 1
        }

    def random_ids(self, randomly: random.Random) -> list[int]:
        """A short sequence: encoded text, cut characters, broken bytes and ids of all kinds, in any order."""
        ids: list[int] = []
        for _ in range(randomly.randrange(5)):
            part = randomly.randrange(5)
            if part == 0:
                ids += self.tokenizer.encode(randomly.choice(SNIPPETS), add_special_tokens=False).ids[:6]
            elif part == 1:
                data = randomly.choice(SNIPPETS).encode()
                start = randomly.randrange(len(data))
                ids += [self.of_bytes[byte] for byte in data[start : start + randomly.randrange(6)]]
            elif part == 2:
                ids += [self.of_bytes[byte] for byte in randomly.choices(BYTES, k=randomly.randrange(1, 4))]
            elif part == 3:
                ids.append(randomly.choice(self.special))
            else:
                ids += [randomly.randrange(len(self.vocabulary.pieces)) for _ in range(randomly.randrange(3))]
        return ids

    def random_matches(self, randomly: random.Random, ids: list[int], most: int) -> list[str]:
        """Up to `most` texts that occur in the sequence's text, or nearly do."""
        text = reference.texts(self.vocabulary, ids)[1][-1]
        found: list[str] = []
        for _ in range(randomly.randrange(most + 1) if text else 0):
            start = randomly.randrange(len(text))
            match = text[start : start + randomly.choice((1, 2, 2, 3, 5, 9))]
            found.append(match + randomly.choice(("", "", "#", text[0])))
        return found


@cache
def kind(name: str) -> Kind:
    """Byte-level or SentencePiece, by name."""
    tokenizer = byte_level_tokenizer() if name == "byte-level" else sentencepiece_tokenizer()
    if name == "sentencepiece":
        tokenizer.add_tokens(["<tool_call>", "▁▁"])
    return Kind(name, tokenizer, Vocabulary.of(tokenizer))


KINDS = ("byte-level", "sentencepiece")


def ids_of(name: str) -> st.SearchStrategy[tuple[Kind, list[int]]]:
    """Any sequence of one kind; bytes and special ids more often than their number says."""
    found = kind(name)
    an_id = st.one_of(
        st.sampled_from(sorted(found.of_bytes.values())),
        st.sampled_from(found.special),
        st.integers(0, len(found.vocabulary.pieces) - 1),
    )
    return st.tuples(st.just(found), st.lists(an_id, max_size=20))


some_ids = st.sampled_from(KINDS).flatmap(ids_of)
