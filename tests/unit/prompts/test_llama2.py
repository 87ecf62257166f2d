"""The `llama2` format gives exactly the ids of Meta's reference."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from ekiden.errors import InvalidRequest, SpecialTags
from ekiden.protocol import Message
from ekiden_worker.prompts import Entry, KeptAnswer, ModelTokenizer, UnusableFormat
from ekiden_worker.prompts.llama2 import Llama2Format
from tests.support.data import data_file
from tests.support.seeded import generator, thorough
from tests.unit.prompts.families import byte_level, chat, encode
from tests.unit.prompts.llama2_reference import (
    BOS,
    EOS,
    KINDS,
    PIECES,
    TAGS,
    Kind,
    random_conversation,
    random_text,
    reference_ids,
)

CONVERSATIONS = 4_000


@cache
def format_of(name: str) -> Llama2Format:
    return Llama2Format(KINDS[name]().tokenizer)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Llama-2's real vocabulary where it is, and a small one."""
    return KINDS[request.param]()


@pytest.fixture
def prompts(request: pytest.FixtureRequest, kind: Kind) -> Llama2Format:
    """The format with that vocabulary."""
    return format_of(request.node.callspec.params["kind"])


def vectors(name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(data_file(f"llama2/vectors/{name}.json").read_text())["vectors"]
    return loaded


def messages_of(vector: dict[str, Any]) -> list[Message]:
    return [Message(**message) for message in vector["messages"]]


def test_every_conversation_of_the_reference() -> None:
    refused = 0
    for vector in vectors("chat"):
        messages = messages_of(vector)
        if vector.get("meta_unsafe"):
            refused += 1
            with pytest.raises(SpecialTags):
                format_of("real").check(messages)
        else:
            format_of("real").check(messages)
            assert encode(format_of("real"), messages) == vector["ids"], vector["id"]
    assert (refused, len(vectors("chat"))) == (10, 100)


def test_the_conversation_in_which_the_drift_was_reported() -> None:
    assert [vector["turns"] for vector in vectors("titanic")] == [1, 2, 3]
    for vector in vectors("titanic"):
        assert encode(format_of("real"), messages_of(vector)) == vector["meta_ids"]


def test_random_conversations_get_the_ids_of_the_reference(kind: Kind, prompts: Llama2Format) -> None:
    randomly = generator("llama2 conversations")
    for _ in range(CONVERSATIONS):
        messages = random_conversation(randomly)
        prompts.check(messages)
        assert encode(prompts, messages) == reference_ids(kind.processor, messages), messages


TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=5).map("".join)


@pytest.mark.parametrize("name", KINDS)
@thorough
@given(contents=st.lists(TEXTS, min_size=1, max_size=5), system=st.none() | TEXTS)
def test_any_conversation_gets_the_ids_of_the_reference(name: str, contents: list[str], system: str | None) -> None:
    messages = chat(*(contents if len(contents) % 2 else contents[1:] or ["x"]), system=system)
    if any(tag in message.content for message in messages for tag in TAGS):
        with pytest.raises(SpecialTags):
            format_of(name).check(messages)
    else:
        ids = encode(format_of(name), messages)
        assert ids == reference_ids(KINDS[name]().processor, messages)
        turns = sum(message.role == "user" for message in messages)
        assert (ids.count(BOS), ids.count(EOS)) == (turns, turns - 1)


@pytest.mark.parametrize("text", ["", " ", "\n", "  two  spaces  ", "\n\nx\n", "駅", "👍🏽", "a\x00b", "</s><s>", "▁x"])
@pytest.mark.parametrize("system", [None, "", " ", "駅\n", "</s>"])
def test_texts_that_are_hard_to_get_right(kind: Kind, prompts: Llama2Format, text: str, system: str | None) -> None:
    for messages in (chat(text, system=system), chat(text, text, text, system=system), chat("x", text, "y")):
        assert encode(prompts, messages) == reference_ids(kind.processor, messages)


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("role", ["system", "user", "assistant", "last"])
def test_a_message_with_a_tag_is_refused(tag: str, role: str) -> None:
    contents = dict.fromkeys(("system", "user", "assistant", "last"), "x") | {role: f"a{tag}b"}
    system, *turns = contents.values()
    with pytest.raises(SpecialTags, match=r"may not hold \[INST\]"):
        format_of("trained").check(chat(*turns, system=system))


@pytest.mark.parametrize("roles", ["", "s", "a", "ua", "sua", "uu", "uaua", "ssu", "usu", "auau"])
def test_roles_that_do_not_take_turns_are_refused(roles: str) -> None:
    names = {"s": "system", "u": "user", "a": "assistant"}
    with pytest.raises(InvalidRequest, match="must take turns"):
        format_of("trained").check([Message(names[role], "x") for role in roles])


def kept(randomly: Any, kind: Kind) -> KeptAnswer:
    """An answer as a model may generate it: any ids, cut anywhere or ended."""
    ids = [randomly.randrange(3, kind.processor.vocab_size()) for _ in range(randomly.randrange(6))]
    ended = randomly.random() < 0.5
    return KeptAnswer((*ids, EOS) if ended else tuple(ids), ended)


def kept_conversations(kind: Kind) -> Iterator[tuple[str | None, list[tuple[str, KeptAnswer]], str]]:
    randomly = generator("llama2 kept")
    for _ in range(300):
        system = random_text(randomly) if randomly.random() < 0.5 else None
        turns = [(random_text(randomly), kept(randomly, kind)) for _ in range(randomly.randrange(4))]
        yield system, turns, random_text(randomly)


def test_kept_answers_stay_the_ids_they_were(kind: Kind, prompts: Llama2Format) -> None:
    for system, turns, question in kept_conversations(kind):
        entries = [entry for text, answer in turns for entry in (Message("user", text), answer)]
        expected: list[int] = []
        for number, (text, answer) in enumerate([*turns, (question, None)]):
            first = system if number == 0 else None
            asked = f"<<SYS>>\n{first}\n<</SYS>>\n\n{text}" if first is not None else text
            expected += [BOS, *kind.processor.encode(f"[INST] {asked.strip()} [/INST]")]
            expected += [*answer.ids, *([] if answer.ended else [EOS])] if answer else []
        before = [] if system is None else [Message("system", system)]
        assert encode(prompts, [*before, *entries, Message("user", question)]) == expected


def test_what_follows_an_answer_extends_the_prompt_before(kind: Kind, prompts: Llama2Format) -> None:
    for system, turns, question in kept_conversations(kind):
        before = None if system is None else Message("system", system)
        messages = [Message("user", text) for text in (*(text for text, _ in turns), question)]
        entries: list[Entry] = [*([before] if before else []), messages[0]]
        ids = encode(prompts, entries)
        for (_, answer), message in zip(turns, messages[1:], strict=True):
            ids += [*answer.ids, *prompts.encode(prompts.following(before, message, ended=answer.ended))]
            entries += [answer, message]
            assert encode(prompts, entries) == ids


def test_a_continuation_has_no_space_in_front(kind: Kind, prompts: Llama2Format) -> None:
    for text in ("Hel", " Hel", "", "日", "\n  x", "</s>"):
        ids = prompts.continuation(text)
        assert kind.processor.decode([*kind.processor.encode("x"), *ids]) == f"x{text}"
        assert EOS not in ids


def test_an_answer_ends_with_its_end_token() -> None:
    assert (format_of("trained").turn_end(), format_of("trained").stops) == (EOS, ())


def test_the_tokenizer_that_transformers_rebuilds_is_not_used() -> None:
    fast: Any = AutoTokenizer.from_pretrained(data_file("llama2"))
    prompts = Llama2Format(ModelTokenizer.of(fast, data_file("llama2/tokenizer.json")))
    messages = chat("Hi", "Yes?", "Go on.", system="Be brief.")
    assert encode(prompts, messages) == reference_ids(KINDS["real"]().processor, messages)
    assert encode(prompts, messages) != fast.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in messages], return_dict=False
    )


def test_a_file_that_transformers_has_rebuilt_gives_the_same_ids() -> None:
    rebuilt = Tokenizer.from_str(KINDS["trained"]().tokenizer.raw.to_str())
    rebuilt.normalizer = None
    rebuilt.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    prompts = Llama2Format(ModelTokenizer(rebuilt, None, lambda: pytest.fail("not needed")))
    randomly = generator("llama2 rebuilt")
    for _ in range(500):
        messages = random_conversation(randomly)
        assert encode(prompts, messages) == reference_ids(KINDS["trained"]().processor, messages)


def without_end() -> Tokenizer:
    tokenizer = Tokenizer.from_str(KINDS["trained"]().tokenizer.raw.to_str().replace('"</s>"', '"<end>"'))
    assert tokenizer.token_to_id("</s>") is None
    return tokenizer


@pytest.mark.parametrize("raw", [byte_level(None).backend_tokenizer, without_end()], ids=["byte-level", "no </s>"])
def test_another_kind_of_tokenizer_is_refused(raw: Tokenizer) -> None:
    with pytest.raises(UnusableFormat, match="needs a SentencePiece BPE tokenizer"):
        Llama2Format(ModelTokenizer(raw, None, lambda: pytest.fail("not needed")))
