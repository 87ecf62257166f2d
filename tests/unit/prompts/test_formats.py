"""Which format a model gets, and where a model's tokenizer comes from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from ekiden.settings import load_settings
from ekiden_worker.prompts import ModelTokenizer, UnusableFormat, UnusableTokenizer, choose_format
from ekiden_worker.prompts.formats import FORMATS
from tests.support.data import data_file
from tests.unit.prompts.families import CHATML, FAMILIES, LLAMA2, byte_level, chat, encode, model, sentencepiece
from tests.unit.prompts.llama2_reference import KINDS, reference_ids


def chosen(tokenizer: ModelTokenizer, name: str = "auto") -> str:
    return choose_format(tokenizer, load_settings(prompt_format=name)).name


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_with_a_chat_template_gets_the_template_format(name: str) -> None:
    assert chosen(model(name)) == "template"


def test_a_model_without_a_chat_template_gets_the_plain_format() -> None:
    assert chosen(ModelTokenizer.of(byte_level(None))) == "plain"


def test_llama_2s_template_on_its_kind_of_tokenizer_gives_the_llama2_format() -> None:
    assert chosen(ModelTokenizer.of(sentencepiece(LLAMA2))) == "llama2"
    other = byte_level(LLAMA2, bos_token="<|im_start|>", eos_token="<|im_end|>")
    assert chosen(ModelTokenizer.of(other)) == "template"
    fast = sentencepiece(None)
    fast.chat_template = {"default": LLAMA2, "rag": "{{ messages }}"}
    assert chosen(ModelTokenizer.of(fast)) == "llama2"


def test_the_real_llama_2_gets_the_llama2_format() -> None:
    messages = chat("Hi", "Yes?", "Go on.", system="Be brief.")
    fast: Any = AutoTokenizer.from_pretrained(data_file("llama2"))
    for tokenizer in (
        ModelTokenizer.from_folder(data_file("llama2")),
        ModelTokenizer.of(fast, data_file("llama2/tokenizer.json")),
    ):
        prompts = choose_format(tokenizer, load_settings())
        assert prompts.name == "llama2"
        assert encode(prompts, messages) == reference_ids(KINDS["real"]().processor, messages)


@pytest.mark.parametrize("name", FORMATS)
def test_a_setting_decides(name: str) -> None:
    assert chosen(ModelTokenizer.of(sentencepiece(CHATML)), name) == name


def test_the_dialogue_format_has_the_prefixes_of_the_settings() -> None:
    settings = load_settings(prompt_format="dialogue", requester_prefix="Q: ", responder_prefix="A: ")
    assert choose_format(ModelTokenizer.of(byte_level(None)), settings).stops == ("\nQ:", "Q:")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("alpaca", "There is no prompt format alpaca; there are llama2, template, plain, dialogue, and auto."),
        ("llama2", "The prompt format llama2 needs a SentencePiece BPE tokenizer in which <s> is 1 and </s> is 2."),
        ("template", "The prompt format template needs a chat template, and this tokenizer has none."),
    ],
)
def test_a_format_that_cannot_be_is_refused(name: str, reason: str) -> None:
    with pytest.raises(UnusableFormat) as caught:
        chosen(ModelTokenizer.of(byte_level(None)), name)
    assert str(caught.value) == reason


def saved(folder: Path) -> Path:
    byte_level(CHATML, bos_token="<|im_start|>").save_pretrained(folder)
    return folder


def test_a_folder_with_only_a_tokenizer_json_is_enough(tmp_path: Path) -> None:
    saved(tmp_path)
    for path in tmp_path.iterdir():
        if path.name != "tokenizer.json":
            path.unlink()
    assert chosen(ModelTokenizer.from_folder(tmp_path)) == "plain"
    assert chosen(ModelTokenizer.from_folder(tmp_path), "dialogue") == "dialogue"


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json", "a list", "both"])
def test_a_chat_template_is_found_where_transformers_finds_it(tmp_path: Path, where: str) -> None:
    saved(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    if where != "chat_template.jinja":
        config["chat_template"] = {"a list": [{"name": "default", "template": CHATML}], "both": "never"}.get(
            where, CHATML
        )
    if where in ("tokenizer_config.json", "a list"):
        (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = ModelTokenizer.from_folder(tmp_path)
    found = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else dict(tokenizer.chat_template or {})
    assert found == tokenizer.fast.chat_template
    assert chosen(tokenizer) == "template"


def test_a_token_that_only_the_config_adds_has_its_id_in_both_forms(tmp_path: Path) -> None:
    saved(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    size = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size()
    switches = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    config["added_tokens_decoder"] = {str(size): {"content": "<late>", **switches}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = ModelTokenizer.from_folder(tmp_path)
    assert tokenizer.raw.token_to_id("<late>") == tokenizer.fast.convert_tokens_to_ids("<late>") == size
    again = ModelTokenizer.of(tokenizer.fast, tmp_path / "tokenizer.json")
    assert again.raw.token_to_id("<late>") == size


def no_folder(folder: Path) -> None:
    folder.rmdir()


def broken_file(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def broken_config(folder: Path) -> None:
    saved(folder)
    (folder / "tokenizer_config.json").write_text("{")


def config_that_is_a_list(folder: Path) -> None:
    saved(folder)
    (folder / "tokenizer_config.json").write_text("[]")


def wrong_added_tokens(folder: Path) -> None:
    saved(folder)
    (folder / "tokenizer_config.json").write_text('{"added_tokens_decoder": {"x": {}}}')


def wrong_template_list(folder: Path) -> None:
    saved(folder)
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text('{"chat_template": ["x"]}')


def template_that_is_no_text(folder: Path) -> None:
    saved(folder)
    (folder / "chat_template.jinja").write_bytes(b"\xff")


@pytest.mark.parametrize(
    "spoil",
    [
        no_folder,
        lambda folder: None,
        broken_file,
        broken_config,
        config_that_is_a_list,
        wrong_added_tokens,
        wrong_template_list,
        template_that_is_no_text,
    ],
)
def test_a_folder_that_cannot_be_read_is_named_in_one_sentence(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    spoil(folder)
    with pytest.raises(UnusableTokenizer, match=str(folder)) as caught:
        ModelTokenizer.from_folder(folder)
    assert "\n" not in str(caught.value)
