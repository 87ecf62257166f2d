"""History that does not fit: the oldest whole turns go, as few as needed."""

import random
from collections.abc import Sequence
from functools import cache

import pytest

from ekiden.errors import PromptTooLong, SpecialTags
from ekiden.protocol import Message
from ekiden_worker.prompts import Entry, Fitted, KeptAnswer, Part, PromptFormat, Room, fit, split_turns
from ekiden_worker.prompts.dialogue import DialogueFormat
from ekiden_worker.prompts.llama2 import Llama2Format
from ekiden_worker.prompts.plain import PlainFormat
from ekiden_worker.prompts.template import TemplateFormat
from tests.support.seeded import generator
from tests.unit.prompts.families import chat, encode, model, template_format
from tests.unit.prompts.llama2_reference import trained

SYSTEM = Message("system", "Be brief.")
U1, A1, U2, A2, U3 = chat("one", "1", "two", "2", "three")
KEPT = KeptAnswer((5, 6), False)


@cache
def formats() -> dict[str, PromptFormat]:
    return {
        "chatml": template_format("chatml"),
        "mistral v3": template_format("mistral v3"),
        "llama2": Llama2Format(trained().tokenizer),
        "dialogue": DialogueFormat(model("chatml"), "User: ", "Assistant: "),
    }


class Counting(TemplateFormat):
    """A format that notes how many tokens it made."""

    encoded = calls = 0

    def __init__(self) -> None:
        super().__init__(model("chatml"))
        self.encoded = self.calls = 0  # what loading took does not count

    def encode(self, parts: Sequence[Part]) -> list[int]:
        ids = super().encode(parts)
        self.encoded += len(ids)
        self.calls += 1
        return ids


@pytest.mark.parametrize(
    ("entries", "turns"),
    [
        ([U1], [[U1]]),
        ([SYSTEM, U1, A1, U2], [[U1, A1], [U2]]),
        ([A1, U1, A2, U2], [[A1, U1, A2], [U2]]),
        ([U1, U2], [[U1], [U2]]),
        ([U1, A1, A2, U2], [[U1, A1, A2], [U2]]),
        ([U1, KEPT, U2], [[U1, KEPT], [U2]]),
        ([A1], [[A1]]),
        ([SYSTEM], []),
        ([], []),
    ],
)
def test_a_turn_is_a_user_message_and_what_follows_it(entries: list[Entry], turns: list[list[Entry]]) -> None:
    system = SYSTEM if SYSTEM in entries else None
    assert split_turns(entries) == (system, turns)


def slowly_fitted(prompts: PromptFormat, entries: Sequence[Entry], room: Room, cut_to: int | None) -> Fitted:
    """Drop one turn after the other until it fits."""
    system, turns = split_turns(entries)
    limit = room.prompt_limit
    for dropped in range(len(turns)):
        kept = [entry for turn in turns[dropped:] for entry in turn]
        ids = encode(prompts, [system, *kept] if system else kept)
        if len(ids) <= limit or dropped == len(turns) - 1:
            break
        limit = min(limit, cut_to) if cut_to is not None else limit
    room.answer_tokens(len(ids))
    return Fitted(ids, dropped)


def random_entries(randomly: random.Random) -> list[Entry]:
    turns: list[Entry] = [SYSTEM] if randomly.random() < 0.5 else []
    for _ in range(randomly.randrange(12)):
        words = randomly.choice((3, 3, 30, 300))
        turns.append(
            Message("user", " ".join(randomly.choices(["license", "work", "駅"], k=randomly.randrange(words))))
        )
        kept = KeptAnswer(tuple(randomly.choices(range(300), k=randomly.randrange(words))), False)
        turns.append(randomly.choice((kept, Message("assistant", "the License " * randomly.randrange(words)))))
    return [*turns, Message("user", "and now? " * randomly.randrange(20))]


@pytest.mark.parametrize("name", ["chatml", "mistral v3", "llama2", "dialogue"])
def test_as_few_turns_go_as_needed(name: str) -> None:
    randomly = generator(f"fit {name}")
    prompts = formats()[name]
    cut = refused = 0
    for _ in range(60):
        entries = random_entries(randomly)
        room = Room(randomly.choice((20, 100, 400, 1500, 10_000)), randomly.choice((None, 1, 10, 50)))
        cut_to = randomly.choice((None, None, 10, 200))
        try:
            expected = slowly_fitted(prompts, entries, room, cut_to)
        except PromptTooLong as error:
            refused += 1
            with pytest.raises(PromptTooLong, match=str(error)):
                fit(prompts, entries, room, cut_to=cut_to)
            continue
        cut += expected.dropped_turns > 0
        assert fit(prompts, entries, room, cut_to=cut_to) == expected
    assert cut > 5
    assert refused > 5


def test_the_system_message_and_the_beginning_stay() -> None:
    prompts = formats()["llama2"]
    entries = [SYSTEM, *chat(*["word " * 20] * 41)]
    fitted = fit(prompts, entries, Room(400, 100))
    assert 0 < fitted.dropped_turns < 20
    assert fitted.ids == encode(prompts, [SYSTEM, *entries[1 + 2 * fitted.dropped_turns :]])
    assert (fitted.ids[0], len(fitted.ids) <= 300) == (1, True)


def test_a_kept_conversation_that_is_cut_folds_the_system_text_into_the_first_turn_it_shows() -> None:
    prompts, processor = formats()["llama2"], trained().processor
    answer = KeptAnswer((300,) * 100, False)
    fitted = fit(prompts, [SYSTEM, U1, answer, U2, answer, U3], Room(250, 10))
    asked = f"[INST] <<SYS>>\n{SYSTEM.content}\n<</SYS>>\n\ntwo [/INST]"
    last = processor.encode("[INST] three [/INST]")
    assert fitted == Fitted([1, *processor.encode(asked), *answer.ids, 2, 1, *last], 1)


def test_system_messages_of_dropped_turns_stay() -> None:
    prompts = formats()["chatml"]
    later = Message("system", "From now on in French.")
    entries = [SYSTEM, U1, later, Message("assistant", "word " * 300), U2]
    assert fit(prompts, entries, Room(100, 10)) == Fitted(encode(prompts, [SYSTEM, later, U2]), 1)


def test_the_last_message_may_take_what_the_answer_leaves() -> None:
    prompts = formats()["chatml"]
    alone = [Message("user", "x" * 1000)]
    size = len(encode(prompts, alone))
    room = Room(size + 1, None)
    assert size > room.prompt_limit
    assert fit(prompts, alone, room).dropped_turns == 0
    assert fit(prompts, [U1, A1, *alone], room) == Fitted(encode(prompts, alone), 1)
    with pytest.raises(PromptTooLong, match=f"The prompt's {size} tokens do not fit .* context of {size} tokens"):
        fit(prompts, [U1, A1, *alone], Room(size, None))


def test_a_format_that_shows_one_message_drops_no_turns() -> None:
    prompts = PlainFormat(model("chatml"))
    size = len(encode(prompts, [U3]))
    assert fit(prompts, [U1, A1, U2, A2, U3], Room(size + 1, 1)) == Fitted(encode(prompts, [U3]), 0)


def test_a_tag_in_a_turn_that_would_be_dropped_is_still_refused() -> None:
    messages = [Message("user", "[INST]"), A1, Message("user", "x" * 50)]
    with pytest.raises(SpecialTags):
        formats()["llama2"].check(messages)


@pytest.mark.parametrize("text", ["Hi there", "駅伝の襷", "x" * 40, "👍🏽"])
def test_the_cost_depends_on_what_fits_and_not_on_what_was_sent(text: str) -> None:
    entries = chat(*[text] * 20_001)
    for limit in (100, 2000):
        prompts = Counting()
        fit(prompts, entries, Room(limit + 10, 10))
        assert prompts.encoded < 15 * limit
        assert prompts.calls < 12


def test_what_fits_is_encoded_once() -> None:
    prompts = Counting()
    entries = chat(*["Hi there, license"] * 101)
    ids = fit(prompts, entries, Room(100_000, None)).ids
    assert (prompts.calls, prompts.encoded) == (1, len(ids))
