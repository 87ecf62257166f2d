"""Lines of messages to lines of prompts, as a worker with the same settings builds them; loads no model."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import typer

from ekiden.errors import EkidenError, InvalidFrame, InvalidRequest
from ekiden.exit_codes import CONFIG
from ekiden.protocol import Chat, Message
from ekiden.settings import SettingsError, load_settings
from ekiden.validation import parse_frame
from ekiden_worker.prompts import ModelTokenizer, PromptRules, UnusableFormat, UnusableTokenizer, choose_format
from ekiden_worker.prompts.parts import Control, Ids, Part, PromptFormat

INTERRUPTED = 130
PIPE_CLOSED = 141

Show = Callable[[Sequence[Part], PromptFormat], None]
ShowError = Callable[[EkidenError], None]


def run(folder: Path, name: str | None, *, show: bool) -> int:
    """Answer each line of stdin at once, until there are no more; returns the exit status."""
    try:
        settings = load_settings()
        if name is not None:
            settings = settings.model_copy(update={"prompt_format": name})
        prompts = choose_format(ModelTokenizer.from_folder(folder), settings)
        _answer_lines(prompts, PromptRules.of(settings), show=show)
    except (SettingsError, UnusableTokenizer, UnusableFormat) as error:
        typer.echo(error, err=True)
        return CONFIG
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still in the buffer
        return PIPE_CLOSED
    return 0


def _answer_lines(prompts: PromptFormat, rules: PromptRules, *, show: bool) -> None:
    if show:
        from ekiden_worker.prompt_view import PromptView

        view = PromptView()
        on_parts: Show = view.prompt
        on_error: ShowError = view.error
    else:
        on_parts, on_error = _write_prompt, _write_error
    for line in sys.stdin.buffer:
        try:
            messages = rules.apply(parse_line(line))
            prompts.check(messages)
            on_parts(prompts.parts(messages), prompts)
        except EkidenError as error:
            on_error(error)


def parse_line(line: bytes) -> list[Message]:
    """The messages in `{"messages": […]}`, which must be what a chat frame may hold. Raises EkidenError."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        given = {name: bytes(value).decode() for name, value in fields.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidFrame("A line must be a JSON object.") from None
    if given.keys() - {"messages"}:
        raise InvalidRequest("A line must have messages and nothing else.")
    frame = parse_frame(f'{{"type":"chat","messages":{given.get("messages", "null")}}}')
    assert isinstance(frame, Chat)
    return frame.messages or []


def _write_prompt(parts: Sequence[Part], prompts: PromptFormat) -> None:
    text = "".join(
        part.token if isinstance(part, Control) else part.text for part in parts if not isinstance(part, Ids)
    )
    _write({"ids": prompts.encode(parts), "text": text})


def _write_error(error: EkidenError) -> None:
    _write({"error": {"code": error.code, "message": str(error)}})


def _write(answer: dict[str, object]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()
