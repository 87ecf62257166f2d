"""What a person or a pipe sees of a chat: answers on stdout, everything else on stderr. Knows no network."""

import importlib
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from ekiden.streams import discard

# C0, DEL and C1: a model must not be able to move the cursor, set the title or answer the terminal's questions.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_FAINT, _NORMAL = "\x1b[2m", "\x1b[22m"


def printable(text: str) -> str:
    """The text with every control character but newline and tab made visible."""
    return text.translate(_ESCAPES)


class Screen:
    """The two streams of one program. A pipe gets an answer's text as it is; a terminal gets it printable."""

    def __init__(self, out: TextIO, notices: TextIO) -> None:
        self._out = out
        self._notices = notices
        self._terminal = out.isatty()
        self._mid_line = False
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="replace")  # a locale without the character

    def text(self, text: str) -> None:
        """Show a piece of an answer."""
        self._out.write(printable(text) if self._terminal else text)
        self._out.flush()
        self._mid_line = self._terminal and not text.endswith("\n")

    def end_line(self) -> None:
        """Let what follows begin on a line of its own, at a terminal."""
        if self._mid_line:
            self.text("\n")

    def notice(self, sentence: str) -> None:
        """Tell something that is no part of an answer."""
        self.end_line()
        print(printable(sentence), file=self._notices, flush=True)

    def recall(self, text: str) -> None:
        """Show what was said before, paler than what is said now where the terminal can."""
        pale = self._notices.isatty() and _is_capable() and "NO_COLOR" not in os.environ
        print(f"{_FAINT}{printable(text)}{_NORMAL}" if pale else printable(text), file=self._notices, flush=True)

    def discard(self) -> None:
        """Nobody reads stdout any more."""
        discard(self._out)


class Prompt:
    """Lines a person types, with the line editing of the platform where it has one."""

    def __init__(self, sign: str) -> None:
        self._sign = sign
        with suppress(ImportError):
            readline = importlib.import_module("readline")  # `input` uses it once it is loaded
            # Lines that are pasted together are one message. Python turns this off; editline does not have it.
            if _is_capable() and "libedit" not in (readline.__doc__ or ""):
                readline.parse_and_bind("set enable-bracketed-paste on")

    def read(self) -> str:
        """The next line. Raises EOFError, KeyboardInterrupt, and UnicodeDecodeError for what is no text."""
        if sys.stdout.isatty():
            return input(self._sign)
        # `input` would write its prompt among the answers.
        sys.stderr.write(self._sign)
        sys.stderr.flush()
        return input()


def _is_capable() -> bool:
    """The terminal is said to understand escape sequences."""
    return os.environ.get("TERM", "dumb") != "dumb"
