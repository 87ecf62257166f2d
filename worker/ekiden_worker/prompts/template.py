"""The `template` format: any chat template, with contents kept apart from the template's control tokens.

The template is rendered twice: with the contents, for what it makes of them, and with secret placeholders, for where
they stand. Only what the template itself wrote may hold control tokens.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import product

from jinja2 import TemplateError

from ekiden.errors import InvalidRequest
from ekiden.protocol import Message
from ekiden_worker.prompts.literal import LiteralEncoder, secret_name
from ekiden_worker.prompts.parts import Content, Control, Entry, Ids, KeptAnswer, Part, Text, UnusableFormat
from ekiden_worker.prompts.probes import ORDINARY, telling, telling_controls, telling_with_system
from ekiden_worker.prompts.tokenizer import ModelTokenizer

Transform = Callable[[str], str]


def _without_thought(content: str) -> str:
    """An earlier answer of a reasoning model, as templates show it again."""
    return content.rpartition("</think>")[2]


def _from_first_line(content: str) -> str:
    return content.lstrip("\n")


MARK_END = "\uf8ff"
CHANGED = "The model's chat template changes the text of these messages in a way that is not supported."

# What templates do to a content: drop what was thought aloud, cut white space, or nothing.
_CUTS: tuple[Transform, ...] = (str, _without_thought)
_TRIMS: tuple[Transform, ...] = (str, str.strip, str.rstrip, str.lstrip, _from_first_line)


class ChangedContent(InvalidRequest):
    """The template makes something of a content that cannot be followed."""


class RefusedMessages(InvalidRequest):
    """The template raises an error for these messages."""


class TemplateFormat:
    """Prompts by the tokenizer's own chat template."""

    name = "template"
    stops: tuple[str, ...] = ()
    single_turn = False

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        if not tokenizer.chat_template:
            raise UnusableFormat("The prompt format template needs a chat template, and this tokenizer has none.")
        self._tokenizer = tokenizer.fast
        self._encoder = LiteralEncoder(self._tokenizer.backend_tokenizer)
        self._opening = {self._tokenizer.bos_token} - {self._tokenizer.eos_token}
        self._shown_begin, self._asked_begin = self._answer_begins()
        self._turn_end = self._find_turn_end()
        self._probe()

    def check(self, messages: Sequence[Message]) -> None:
        """Refuse what the template refuses."""
        self._render(messages)

    def parts(self, entries: Sequence[Entry]) -> list[Part]:
        """The rendered template, taken apart. Raises InvalidRequest where the template refuses the messages."""
        try:
            return self._parts(entries)
        except ChangedContent:
            # A template may print the date, and midnight may lie between its two renderings.
            return self._parts(entries)

    def following(self, system: Message | None, message: Message, *, ended: bool) -> list[Part]:
        """What the template shows behind an answer when one more message follows."""
        entries: list[Entry] = [Message("user", "Hi"), KeptAnswer((), ended), message]
        parts = self.parts([system, *entries] if system else entries)
        answer = max((at for at, part in enumerate(parts) if isinstance(part, Ids)), default=None)
        if answer is None:
            raise InvalidRequest("The model's chat template does not show earlier answers.")
        return parts[answer:]

    def encode(self, parts: Sequence[Part]) -> list[int]:
        """Ids, as transformers gives them for the rendered template."""
        return self._encoder.encode(parts)

    def continuation(self, text: str) -> list[int]:
        """Ids of text that goes on."""
        return self._encoder.continuation(text)

    def turn_end(self) -> int | None:
        """The control id that ends an answer in this format, if one does."""
        return self._turn_end

    def _find_turn_end(self) -> int | None:
        mark = secret_name()
        try:
            rendered = self._render([Message("user", "Hi"), Message("assistant", mark)], generate=False)
        except RefusedMessages:  # this template shows no conversation that ends with an answer
            return None
        after = self._encoder.split(rendered.partition(mark)[2])
        return self._encoder.control_id(after[0].token) if after and isinstance(after[0], Control) else None

    def _parts(self, entries: Sequence[Entry]) -> list[Part]:
        secret = secret_name()
        marked = [(entry, f"{secret}{number}{MARK_END}") for number, entry in enumerate(entries)]
        rendered = self._render(
            [entry if isinstance(entry, Message) else Message("assistant", mark) for entry, mark in marked]
        )
        begin, shown = _cut(self._render([_marked(entry, mark) for entry, mark in marked]), secret, len(entries))
        parts: list[Part] = [*self._encoder.split(begin)]
        at = len(begin)
        for place, (number, fixed) in enumerate(shown):
            entry, mark = marked[number]
            if isinstance(entry, Message):
                text = _as_rendered(entry.content, rendered, at, fixed)
                following = entries[shown[place + 1][0]] if place + 1 < len(shown) else None
                parts += [Content(text), *self._before(following, fixed)]
            else:
                text = _as_rendered(mark, rendered, at, fixed)
                parts += [Ids(entry.ids), *self._behind(entry, fixed)]
            at += len(text) + len(fixed)
        if at != len(rendered) or not rendered.startswith(begin):
            raise ChangedContent(CHANGED)
        return parts

    def _answer_begins(self) -> tuple[str, str]:
        """What stands between a message and its answer: an earlier one, and one that is still to come.

        Templates that put a space in front of earlier answers let the model generate that of a new one; and those of
        reasoning models open a thought for it.
        """
        asked, answer = secret_name(), secret_name()
        messages = [Message("user", asked), Message("assistant", answer), Message("user", "Hi")]
        try:
            shown, new = self._render(messages), self._render(messages[:1])
        except RefusedMessages:
            return "", ""
        return shown.partition(asked)[2].partition(answer)[0], new.rpartition(asked)[2]

    def _before(self, following: Entry | None, fixed: str) -> list[Control | Text]:
        """What stands in front of the next entry; in front of kept ids, what stood there when they were generated."""
        kept = isinstance(following, KeptAnswer) and fixed == self._shown_begin
        return self._encoder.split(self._asked_begin if kept else fixed)

    def _behind(self, answer: KeptAnswer, fixed: str) -> list[Control | Text]:
        """What the template puts behind an answer; its end token only where the answer has none."""
        parts = self._encoder.split(fixed)
        if answer.ended:
            for at, part in enumerate(parts):
                if isinstance(part, Control):
                    opens = part.token in self._opening
                    return parts if opens else [Control(part.token, given=True), *parts[at + 1 :]]
                if part.text.strip():
                    break
        return parts

    def _render(self, messages: Sequence[Message], *, generate: bool = True) -> str:
        chat = _plain(messages)
        try:
            return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generate))
        except TemplateError as error:
            reason = (error.message or type(error).__name__).rstrip(".")
            raise RefusedMessages(f"The model's chat template refuses these messages: {reason}.") from None
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            # What an expression in a template raises; its text may quote the messages.
            raise RefusedMessages(f"The model's chat template fails with {type(error).__name__}.") from None

    def _probe(self) -> None:
        """Show the template texts that it might change, once: one that cannot be followed is refused at load."""
        try:
            for messages in ORDINARY:
                self._compare(messages)
            for messages in telling(self._tokenizer.get_chat_template()):
                self.parts(messages)
            for messages in telling_with_system():
                with suppress(RefusedMessages):  # some take no system message
                    self.parts(messages)
            for messages in telling_controls(token.content for token in self._tokenizer.added_tokens_decoder.values()):
                with suppress(RefusedMessages):  # refusing them is as safe as keeping them apart
                    self.parts(messages)
        except ChangedContent:
            raise UnusableFormat(
                "The model's chat template changes the text of messages, so its own tokens cannot be told from theirs."
            ) from None
        except RefusedMessages as error:
            raise UnusableFormat(str(error)) from None

    def _compare(self, messages: Sequence[Message]) -> None:
        ids = self.encode(self.parts(messages))
        chat = _plain(messages)
        expected = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        if ids != expected and self.encode(self.parts(messages)) != expected:
            raise UnusableFormat("The model's chat template cannot be kept apart from the text of messages.")


def _marked(entry: Entry, mark: str) -> Message:
    """An entry with a placeholder as its content. A blank one stays: templates may ask whether there is a content."""
    if isinstance(entry, Message):
        return Message(entry.role, mark) if entry.content.strip() else entry
    return Message("assistant", mark)


def _cut(skeleton: str, secret: str, count: int) -> tuple[str, list[tuple[int, str]]]:
    """The text in front of the first placeholder; then the number of each, and the text behind it."""
    begin, *pieces = skeleton.split(secret)
    shown: list[tuple[int, str]] = []
    for piece in pieces:
        number, end, fixed = piece.partition(MARK_END)
        if not (end and number.isdecimal() and int(number) < count):
            raise ChangedContent(CHANGED)
        shown.append((int(number), fixed))
    return begin, shown


def _as_rendered(content: str, rendered: str, at: int, following: str) -> str:
    """What the template made of a content that stands at `at`, with `following` behind it."""
    if rendered.startswith(content + following, at):
        return content
    changed = {trim(cut(content)) for cut, trim in product(_CUTS, _TRIMS)}
    for text in sorted(changed, key=len, reverse=True):
        if rendered.startswith(text + following, at):
            return text
    raise ChangedContent(CHANGED)


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
