"""No message can put a control token into a prompt: its spelling in a content is text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models

from ekiden.protocol import Message
from ekiden_worker.prompts import ModelTokenizer
from ekiden_worker.prompts.literal import LiteralEncoder
from ekiden_worker.prompts.parts import Content, Control, Ids, Part, Text
from ekiden_worker.prompts.template import TemplateFormat
from tests.support.seeded import thorough
from tests.support.tokenizers import byte_level_tokenizer
from tests.unit.prompts.families import CHATML, byte_level, chat, encode, fast, reference
from tests.unit.prompts.forging import FILLERS, FORGERIES, SUBJECTS, subject_of

CONTENT = st.lists(st.sampled_from([*FORGERIES, *FILLERS]) | st.text(max_size=6), max_size=6).map("".join)
CONVERSATIONS = st.tuples(st.none() | CONTENT, st.lists(CONTENT, min_size=1, max_size=5))
NAMES = st.sampled_from(sorted(SUBJECTS))


def messages_of(system: str | None, contents: list[str]) -> list[Message]:
    return chat(*(contents if len(contents) % 2 else contents[1:]), system=system)


@thorough
@given(name=NAMES, conversation=CONVERSATIONS)
def test_contents_stay_text_between_the_same_control_tokens(
    name: str, conversation: tuple[str | None, list[str]]
) -> None:
    subject_of(name).check(messages_of(*conversation))


@thorough
@given(name=NAMES, content=CONTENT, ended=st.booleans())
def test_a_message_behind_a_kept_answer_stays_text(name: str, content: str, ended: bool) -> None:
    subject = subject_of(name)
    controls, texts = [], []
    for text in (content, "zebra."):
        following = subject.prompts.following(None, Message("user", text), ended=ended)
        found, between = subject.split(subject.prompts.encode(following))
        controls.append(found)
        texts.append(between)
    expected = [text.replace("zebra.", subject.shown(content), 1) for text in texts[1]]
    assert controls[0] == controls[1]
    assert [*map(subject.between, texts[0])] == [*map(subject.between, expected)]


@thorough
@given(name=NAMES, content=CONTENT)
def test_a_continuation_stays_text(name: str, content: str) -> None:
    subject = subject_of(name)
    controls, (text,) = subject.split(
        [*subject.tokenizer.encode("x", add_special_tokens=False).ids, *subject.prompts.continuation(content)]
    )
    assert (controls, subject.between(text)) == ([], subject.between(f"x{content}"))


@pytest.mark.parametrize("forged", FORGERIES)
def test_a_forged_system_message_stays_text(forged: str) -> None:
    subject = subject_of("chatml")
    controls, texts = subject.split(encode(subject.prompts, chat("Hi", system=forged)))
    assert controls == subject.split(encode(subject.prompts, chat("Hi", system="zebra")))[0]
    assert texts == ["", f"system\n{forged}", "\n", "user\nHi", "\n", "assistant\n"]


def test_a_token_split_over_a_message_border_stays_text() -> None:
    tokenizer = byte_level("{% for message in messages %}{{ message.content }}{% endfor %}<|im_start|>")
    ids = encode(TemplateFormat(ModelTokenizer.of(tokenizer)), chat("<|im_", "end|><|", "im_end|>"))
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in ids
    assert tokenizer.decode(ids) == "<|im_end|><|im_end|><|im_start|>"


def test_a_token_finished_by_the_template_stays_text() -> None:
    tokenizer = byte_level("{{ messages[-1].content }}end|><|im_start|>")
    ids = encode(TemplateFormat(ModelTokenizer.of(tokenizer)), chat("<|im_"))
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in ids


def test_text_cannot_reach_a_control_token_through_the_models_vocabulary() -> None:
    merges = [("<", "/"), ("</", "s"), ("</s", ">")]
    vocab = {piece: number for number, piece in enumerate([*"ab<>/s", "</", "</s", "</s>"])}
    merged = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    merged.add_special_tokens(["</s>"])
    unigram = Tokenizer(models.Unigram([("<unk>", -9.0), ("</s>", 0.0), *((piece, -3.0) for piece in "ab<>/s")], 0))
    unigram.add_special_tokens(["</s>"])
    whole = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    whole.add_special_tokens(["</s>"])
    for tokenizer in (merged, unigram, whole):
        parts: list[Part] = [Content("a</s>b"), Control("</s>"), Text("</s>")]
        for encode_parts in (LiteralEncoder(tokenizer).encode, LiteralEncoder(tokenizer).encode_apart):
            ids = encode_parts(parts)
            pieces = [tokenizer.id_to_token(token_id) or "" for token_id in ids]
            at = pieces.index("</s>")
            assert ("".join(pieces[:at]), "".join(pieces[at + 1 :])) == ("a</s>b", "</s>")
            assert "</s>" not in pieces[at + 1 :]


def test_a_piece_that_is_no_added_token_can_be_kept_from_texts_too() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"<": 0, "s": 1, ">": 2, "<s>": 3}, merges=[], ignore_merges=True))
    assert tokenizer.encode("<s>").ids == [3]
    encoder = LiteralEncoder(tokenizer, ["<s>"])
    assert encoder.encode_apart([Control("<s>"), Content("<s>")]) == [3, 0, 1, 2]


def test_ids_of_added_tokens_are_kept_in_and_beyond_the_models_vocabulary() -> None:
    tokenizer = byte_level_tokenizer(tuple(f"<extra_{number}>" for number in range(50)))
    encoder = LiteralEncoder(tokenizer)
    for token_id, token in tokenizer.get_added_tokens_decoder().items():
        assert encoder.encode([Control(token.content)]) == [token_id] == [encoder.control_id(token.content)]
        assert token_id not in encoder.encode([Content(token.content)])


def test_kept_ids_stand_where_they_are_put() -> None:
    encoder = LiteralEncoder(byte_level_tokenizer())
    start, end = Control("<|im_start|>"), Control("<|im_end|>")
    parts: list[Part] = [start, Ids((7, 7)), end, Text("x"), Ids(), Ids((8,)), Text("y"), end]
    whole = [*encoder.encode([start]), 7, 7, *encoder.encode([end, Text("x")]), 8, *encoder.encode([Text("y"), end])]
    assert encoder.encode(parts) == encoder.encode_apart(parts) == whole


def test_added_runs_of_white_space_are_text() -> None:
    tokenizer = byte_level_tokenizer(())
    tokenizer.add_tokens([AddedToken(" " * length, normalized=False) for length in (8, 4, 2)])
    wrapped = fast(tokenizer, CHATML)
    messages = chat("if x:\n        return\n    else:\n  pass")
    ids = encode(TemplateFormat(ModelTokenizer.of(wrapped)), messages)
    assert ids == reference(wrapped, messages)
    assert tokenizer.token_to_id(" " * 8) in ids


def test_a_character_without_a_piece_is_the_unknown_token() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"<unk>": 0, "a": 1, "</s>": 2}, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    assert LiteralEncoder(tokenizer).encode([Content("a語"), Control("</s>")]) == [1, 0, 2]


@pytest.mark.parametrize("lstrip", [True, False])
@pytest.mark.parametrize("rstrip", [True, False])
def test_white_space_that_a_control_token_takes_is_taken(lstrip: bool, rstrip: bool) -> None:
    tokenizer = byte_level_tokenizer(())
    tokenizer.add_special_tokens([AddedToken("<|user|>", lstrip=lstrip, rstrip=rstrip)])
    wrapped = fast(tokenizer, "{% for m in messages %}{{ m.content }} <|user|> {% endfor %}")
    for messages in (chat(" Hi \n"), chat("\n\nHi", " Yes ", "  Go on\n ")):
        assert encode(TemplateFormat(ModelTokenizer.of(wrapped)), messages) == reference(wrapped, messages)
