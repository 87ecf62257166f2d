"""docs/llama2.md says what its script prints, and the script's causes hold for any tokenizer of the kind."""

import ast
import importlib.util
import io
import json
import re
import shlex
import sys
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.data import data_file

pytestmark = pytest.mark.timeout(300)  # 20 s alone on two cores

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "llama2_drift.py"
PAGE = (ROOT / "docs" / "llama2.md").read_text()
BLOCKS: list[str] = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)


@cache
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("llama2_drift", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def output(*arguments: str) -> str:
    """What the script prints."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(sys, "argv", [SCRIPT.name, *arguments])
        script().main()
    return printed.getvalue()


@cache
def trained_output() -> str:
    return output("--conversations", "200", "--seed", "7")


@cache
def real_output() -> str:
    """Of the command on the page, with Llama-2's tokenizer."""
    command = re.search(r"^python docs/llama2_drift\.py (.*)$", PAGE, re.MULTILINE)
    assert command
    return output(*shlex.split(command[1].replace("DIR", str(data_file("llama2")))))


def tables(printed: str) -> Any:
    return json.loads(printed.splitlines()[-1])


def test_a_fresh_clone_sees_the_same_effects() -> None:
    found = tables(trained_output())
    assert found["drift as said"] == found["conversations"] == 200
    wrong = found["answers shown wrong"]
    assert {row["ids"] for row in wrong.values()} == {0}
    assert wrong["answers that begin with ▁"]["+ turn"] == 0
    assert wrong["answers that begin with no ▁"]["+ turn"] == 100
    assert 50 < wrong["all"]["characters"] < 100
    assert '"ames Cameron."' in trained_output()
    assert '"997年です。"' in trained_output()


def test_segments_give_the_references_ids_and_one_string_does_not() -> None:
    right = {way: row["right ids"] for way, row in tables(trained_output())["prompts with the reference's ids"].items()}
    assert right.pop("segments: Ekiden's llama2 format") == 100
    assert right.pop("one string, its second <s> and last space taken out") == 100
    assert set(right.values()) == {0}
    assert "the same" in trained_output().partition("Ekiden's ids:")[2].splitlines()[0]


def test_the_detokenizer_is_exact_where_others_are_not() -> None:
    streams = tables(trained_output())["streams that differ"]
    assert {row["Detokenizer"] for row in streams.values()} == {0}
    assert streams["answers"]["TextStreamer"] > 0
    assert streams["answers cut behind any id"]["DecodeStream"] > 0


def test_a_message_can_forge_a_turn_in_one_string_alone() -> None:
    assert "one string  <s>: 3, </s>: 1; the very ids of" in trained_output()
    assert "segments    <s>: 1, </s>: 0; not the ids of" in trained_output()
    assert "Ekiden answers special_tags" in trained_output()


@pytest.mark.parametrize("name", ["tokenizers", "transformers"])
def test_the_page_names_the_versions_that_are_installed_for_the_tests(name: str) -> None:
    pinned = re.search(rf"^{name}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert f"{name} {pinned[1]}" in PROSE


@pytest.fixture
def real() -> str:
    """The output that the page was written from; other versions of the libraries may print other figures."""
    for name in ("tokenizers", "transformers"):
        if f"{name} {version(name)}" not in PROSE:
            pytest.skip(f"the page's figures are not those of {name} {version(name)}")
    return real_output()


def test_there_are_blocks() -> None:
    assert len(BLOCKS) == 7


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_block_is_output_of_the_command(number: int, real: str) -> None:
    lines = [line.rstrip() for line in real.splitlines()]
    assert BLOCKS[number].rstrip() in "\n".join(lines)


def test_the_drift_is_as_said_in_every_conversation(real: str) -> None:
    found = tables(real)
    assert found["drift as said"] == found["conversations"] == 5000


def test_every_figure_in_the_prose_is_in_the_output(real: str) -> None:
    figures = re.findall(r"`([0-9a-f]{64}|\d{3,})`", PROSE)
    assert len(figures) == 7
    words = set(re.findall(r"\w+", real))
    assert set(figures) <= words
    assert "%" not in PROSE, "shares stand in the blocks"


def test_the_example_prints_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data_file("llama2"))
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(code, "docs/llama2.md", "exec"), {})
    said = [ast.literal_eval(comment) for comment in re.findall(r"^print.*# (.*)$", code, re.MULTILINE)]
    assert len(said) == 3
    assert [ast.literal_eval(line) for line in printed.getvalue().splitlines()] == said
