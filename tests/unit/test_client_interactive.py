"""What a line typed in a conversation means."""

import pytest

from ekiden.client.interactive import Again, Say, Tell, parse


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("Hello", Say("Hello")),
        ("  spaces stay  ", Say("  spaces stay  ")),
        ("/again", Again()),
        (" /again ", Again()),
        ("/edit Say it  again", Again("Say it  again")),
        ("/edit\tSay it", Again("Say it")),
        ("/usr/bin/env", Say("/usr/bin/env")),
        ("/again and again", Say("/again and again")),
        ("/unknown words", Say("/unknown words")),
        ("//", Say("//")),
        ("no /again", Say("no /again")),
    ],
)
def test_what_is_asked(line: str, meaning: Say | Again) -> None:
    assert parse(line) == meaning


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("/help", "/edit TEXT"),
        ("/edit", "needs the new text"),
        ("/edit  ", "needs the new text"),
        ("/", "no /;"),
        ("/agian", "no /agian;"),
        ("/Again", "no /Again;"),
        ("/été", "no /été;"),
    ],
)
def test_what_is_only_told(line: str, part: str) -> None:
    meaning = parse(line)
    assert isinstance(meaning, Tell)
    assert part in meaning.text
