"""Lines of messages to lines of prompts, as a worker with the same settings builds them; loads no model."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ekiden.errors import EkidenError, InvalidFrame, InvalidRequest
from ekiden.protocol import Chat, Message
from ekiden.settings import load_settings
from ekiden.validation import parse_frame
from ekiden_worker.lines import Answer, answer_lines, json_line, refusal
from ekiden_worker.prompts import ModelTokenizer, PromptRules, choose_format
from ekiden_worker.prompts.parts import Control, Ids, Part, PromptFormat

Shown = tuple[Callable[[Sequence[Part], PromptFormat], bytes], Callable[[EkidenError], bytes]]


def run(folder: Path, name: str | None, *, show: bool) -> int:
    """Answer each line of stdin by the tokenizer of a model's folder; returns the exit status."""
    return answer_lines(lambda: _prepared(folder, name, show=show))


def _prepared(folder: Path, name: str | None, *, show: bool) -> Answer:
    settings = load_settings()
    if name is not None:
        settings = settings.model_copy(update={"prompt_format": name})
    prompts = choose_format(ModelTokenizer.from_folder(folder), settings)
    rules = PromptRules.of(settings)
    rules.check(prompts)
    shown, refused = _view() if show else (_prompt, refusal)

    def answer(line: bytes) -> bytes:
        try:
            messages = rules.apply(parse_line(line))
            prompts.check(messages)
            return shown(prompts.parts(messages), prompts)
        except EkidenError as error:
            return refused(error)

    return answer


def _view() -> Shown:
    from ekiden_worker.prompt_view import PromptView

    view = PromptView()
    return view.prompt, view.error


def _prompt(parts: Sequence[Part], prompts: PromptFormat) -> bytes:
    text = "".join(
        part.token if isinstance(part, Control) else part.text for part in parts if not isinstance(part, Ids)
    )
    return json_line({"ids": prompts.encode(parts), "text": text})


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
