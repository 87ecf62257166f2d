"""What reaches a terminal, and what reaches a pipe."""

import os
from pathlib import Path

import pytest

from ekiden.client.terminal import Screen, printable

HOSTILE = "a\x1b[2J\x07\r\x9b1m\x7fb\tc\n\x00é🙂"


def test_control_characters_become_visible() -> None:
    assert printable(HOSTILE) == "a\\x1b[2J\\x07\\x0d\\x9b1m\\x7fb\tc\n\\x00é🙂"
    for code in (*range(0x20), *range(0x7F, 0xA0)):
        assert (chr(code) in printable(chr(code))) == (chr(code) in "\n\t")


def test_a_model_cannot_drive_a_terminal() -> None:
    master, slave = os.openpty()
    with open(slave, "w", encoding="utf-8", newline="") as out, open(master, "rb", buffering=0) as seen:
        screen = Screen(out, out)
        screen.text(HOSTILE)
        screen.notice("Also \x1b here.")
        shown = b""
        while b"here." not in shown:
            shown += seen.read(4096)
    assert not any(code in shown.decode() for code in "\x1b\x07\x9b\x7f\x00")
    assert shown.endswith("🙂\r\nAlso \\x1b here.\r\n".encode())


def test_a_pipe_gets_the_text_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    with (tmp_path / "answer").open("w", encoding="utf-8", newline="") as out:
        screen = Screen(out, sys.stderr)
        screen.text(HOSTILE)
        screen.end_line()
        screen.notice("A notice.")
    assert (tmp_path / "answer").read_bytes().decode() == HOSTILE
    assert capsys.readouterr().err == "A notice.\n"


@pytest.mark.parametrize(("term", "shown"), [("xterm", "\x1b[2m> Hi \\x1b\x1b[22m\r\n"), ("dumb", "> Hi \\x1b\r\n")])
def test_what_was_said_before_is_pale_where_the_terminal_can(
    term: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("NO_COLOR", raising=False)
    master, slave = os.openpty()
    with open(slave, "w", encoding="utf-8", newline="") as out, open(master, "rb", buffering=0) as seen:
        Screen(out, out).recall("> Hi \x1b")
        assert seen.read(4096).decode() == shown
