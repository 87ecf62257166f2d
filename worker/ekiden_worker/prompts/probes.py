"""Messages that a chat template is shown when it is loaded, to find out whether it changes texts."""

import ast
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

from ekiden.protocol import Message

ORDINARY = (
    [Message("user", "  Hi there \n")],
    [Message("user", "One"), Message("assistant", " Two "), Message("user", "Three?\n")],
)
"""Texts that every tokenizer encodes alike with and without control tokens."""

# Changed by filters for case, escapes, tags, links, white space, wrapping and length, and by most replacements.
_TELLING = """\
 The quick BROWN fox; \u00c0\u00c9\u00df \u01c6 \ufb01 \u0130\u0131 \u99c5 \ud55c \U0001f44d\U0001f3fd
!"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ <zeta>&amp;</zeta> http://example.org/?a=1&b=2\tx\r\n\n\n  y  \u00a0z\u3000
"""
_LONG = " ".join(map(str, range(20_000)))

# The text that a template looks for, as in `content.replace("this", …)` or `content.split('this')`.
_LOOKED_FOR = re.compile(r"""\b(?:replace|r?split|r?partition)\(\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")


def telling(template: str) -> Iterator[list[Message]]:
    """Conversations whose texts a template would change if it changed any; some hold the words that it looks for."""
    looked_for = " ".join(map(_value, _LOOKED_FOR.findall(template)))
    for text in (_TELLING, _LONG, f"x {looked_for} y"):
        yield [Message("user", f"1{text}")]
        yield [Message("user", f"1{text}"), Message("assistant", f"2{text}"), Message("user", f"3{text}")]


def telling_with_system() -> Iterator[list[Message]]:
    """The same with a system message, which not every template takes.

    Words that a template looks for are left out: in a system text some take them for switches, and are usable without.
    """
    for text in (_TELLING, _LONG):
        yield [Message("system", f"0{text}"), Message("user", f"1{text}")]


def telling_controls(tokens: Iterable[str]) -> Iterator[list[Message]]:
    """Conversations that spell control tokens, which some templates take out of what users say."""
    text = f"x {' '.join(tokens)} y"
    yield [Message("user", f"1{text}")]
    yield [Message("user", "1"), Message("assistant", f"2{text}"), Message("user", f"3{text}")]


def _value(literal: str) -> str:
    with suppress(ValueError, SyntaxError):
        return str(ast.literal_eval(literal))
    return ""
