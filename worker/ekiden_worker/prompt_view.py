"""A prompt for a person's eyes: one segment a line, in colours where stdout is a terminal."""

import sys
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.text import Text as Line

from ekiden.errors import EkidenError
from ekiden_worker.prompts.parts import Content, Control, Ids, Part, PromptFormat

COLOURS = {"control": "bold magenta", "format": "cyan", "content": "green", "ids": "bright_black", "error": "bold red"}


class PromptView:
    """Shows prompts: control tokens, text of the format, contents of messages, and the ids of all."""

    def __init__(self) -> None:
        terminal = sys.stdout.isatty()
        self._console = Console(no_color=None if terminal else True, force_terminal=terminal)

    def prompt(self, parts: Sequence[Part], prompts: PromptFormat) -> bytes:
        """A prompt."""
        ids = prompts.encode(parts)
        return self._shown([*segments(parts, ids, prompts), ("ids", f"{len(ids)} in all\n")])

    def error(self, error: EkidenError) -> bytes:
        """Why there is none."""
        return self._shown([("error", f"{error.code}: {error}\n")])

    def _shown(self, lines: Iterable[tuple[str, str]]) -> bytes:
        with self._console.capture() as captured:
            for kind, shown in lines:
                line = Line(f"{kind:<9}", style="dim").append(shown, style=COLOURS[kind])
                self._console.print(line, soft_wrap=True, highlight=False)
        return captured.get().encode(sys.stdout.encoding, "replace")  # a locale may lack a character


def segments(parts: Sequence[Part], ids: Sequence[int], prompts: PromptFormat) -> Iterator[tuple[str, str]]:
    """Kind and text of each segment; behind each stretch of text, the ids that it became."""
    at = 0
    for part in parts:
        if isinstance(part, Control):
            (token_id,) = prompts.encode([part])
            # No text becomes a control token, so the next one is this one.
            end = ids.index(token_id, at)
            yield from _ids(ids[at:end])
            yield "control", f"{quoted(part.token)} {token_id}"
            at = end + 1
        elif isinstance(part, Content):
            yield "content", quoted(part.text)
        elif not isinstance(part, Ids):
            yield "format", quoted(part.text)
    yield from _ids(ids[at:])


def quoted(text: str) -> str:
    """A text on one line, every character that has no shape of its own spelled out."""
    shown = (char if char.isprintable() and char != "\\" else repr(char)[1:-1] for char in text)
    return f'"{"".join(shown)}"'


def _ids(ids: Sequence[int]) -> Iterator[tuple[str, str]]:
    if ids:
        yield "ids", " ".join(map(str, ids))
