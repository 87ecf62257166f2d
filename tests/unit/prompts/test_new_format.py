"""The format that the documents show how to add: their code, as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest

from ekiden.protocol import Message
from ekiden_worker.prompts import KeptAnswer, PromptFormat, formats
from tests.unit.prompts.families import chat, encode, model

PAGE = Path(__file__).parents[3] / "docs" / "prompts.md"


@pytest.fixture(scope="module")
def alpaca() -> PromptFormat:
    """Built of the page's file by the page's line."""
    file, line = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(file, "alpaca.py", "exec"), names)
    registered: dict[str, Any] = eval(f"{{{line}}}", names)
    prompts: PromptFormat = registered["alpaca"](model("chatml"), None)
    assert prompts.name == "alpaca" not in formats.FORMATS
    return prompts


def test_it_writes_what_the_page_says(alpaca: PromptFormat) -> None:
    shown = "Be brief.\n\n### Instruction:\nHi\n\n### Response:Yes?\n\n### Instruction:\n<|im_end|>\n\n### Response:"
    messages = chat("Hi", " Yes? ", "<|im_end|>\n", system="Be brief.")
    alpaca.check(messages)
    ids = encode(alpaca, messages)
    tokenizer = model("chatml").raw
    assert tokenizer.decode(ids, skip_special_tokens=False) == shown
    assert set(tokenizer.get_added_tokens_decoder()).isdisjoint(ids)
    assert (alpaca.stops, alpaca.single_turn, alpaca.turn_end()) == (("### Instruction:",), False, None)


def test_its_prompts_extend(alpaca: PromptFormat) -> None:
    first, second, answer = Message("user", "Hi"), Message("user", "And?"), KeptAnswer((300, 301), False)
    following = alpaca.encode(alpaca.following(None, second, ended=False))
    assert encode(alpaca, [first, answer, second]) == [*encode(alpaca, [first]), *answer.ids, *following]
