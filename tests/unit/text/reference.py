"""What text is by the rules, written the slow way; shares nothing with the code under test but the vocabulary."""

from collections.abc import Sequence
from functools import cache

from ekiden_worker.text import Vocabulary

MARK = "\ufffd"
Pairs = Sequence[tuple[str, str]]


@cache
def beginnings() -> frozenset[bytes]:
    """Every byte string that is the beginning of some character's UTF-8, and not all of it."""
    # Characters of the same 64 differ in their last byte alone.
    characters = (chr(code) for code in range(0x80, 0x110000, 64) if not 0xD800 <= code < 0xE000)
    return frozenset(encoded[:size] for encoded in map(str.encode, characters) for size in range(1, len(encoded)))


def read(data: bytes) -> tuple[str, bytes]:
    """The characters of a byte stream, one mark for each byte that is part of none, and what may become one yet."""
    text = ""
    while data and data not in beginnings():
        for size in range(1, 5):
            try:
                text += data[:size].decode()
            except UnicodeDecodeError:
                continue
            data = data[size:]
            break
        else:
            text, data = text + MARK, data[1:]
    return text, data


def texts(vocabulary: Vocabulary, ids: Sequence[int]) -> tuple[list[str], list[str]]:
    """For each number of ids, 0 included: the text that is certain, and the text when no id follows."""
    certain, whole = [""], [""]
    text, data, begun = "", b"", not vocabulary.strip_leading_space
    for token_id in ids:
        piece = vocabulary.pieces[token_id] if known(vocabulary, token_id) else None
        if isinstance(piece, bytes):
            found, data = read(data + piece)
            text += found
            begun = True
        elif piece is not None or vocabulary.control_breaks:
            text, data = text + MARK * len(data), b""
            if piece:
                text += piece if begun or piece[0] != " " else piece[1:]
                begun = True
        certain.append(text)
        whole.append(text + MARK * len(data))
    return certain, whole


def before_stop(text: str, stops: Sequence[str], searched: int = 0) -> str | None:
    """What stands before the stop sequence that is complete first; None without one."""
    for end in range(searched + 1, len(text) + 1):
        if met := [stop for stop in stops if text.endswith(stop, 0, end)]:
            return text[: end - max(map(len, met))]
    return None


def without_possible_stop(text: str, stops: Sequence[str]) -> str:
    """The text without its longest end that begins a stop sequence."""
    for at in range(len(text)):
        if any(stop.startswith(text[at:]) for stop in stops):
            return text[:at]
    return text


def replaced(text: str, pairs: Pairs, *, last: bool) -> str:
    """The text with its replacements; unless `last`, up to where a match may begin or become longer."""
    result = ""
    while text:
        if not last and any(old.startswith(text) and old != text for old, _ in pairs):
            break
        match = max((pair for pair in pairs if text.startswith(pair[0])), key=lambda pair: len(pair[0]), default=None)
        old, new = match or (text[0], text[0])
        result, text = result + new, text[len(old) :]
    return result


def shown(
    vocabulary: Vocabulary, ids: Sequence[int], stops: Sequence[str], pairs: Pairs, *, ends: bool
) -> tuple[list[str], bool]:
    """The text of each cursor from 1 on, up to a stop sequence, and whether one was met. `ends`: no id follows."""
    certain, whole = texts(vocabulary, ids)
    result: list[str] = []
    for number in range(1, len(ids) + 1):
        last = ends and number == len(ids)
        text = whole[number] if last else certain[number]
        before = before_stop(text, stops, len(certain[number - 1]))
        if before is not None:
            return [*result, replaced(before, pairs, last=True)], True
        result.append(replaced(text if last else without_possible_stop(text, stops), pairs, last=last))
    return result, False


def kept(vocabulary: Vocabulary, ids: Sequence[int], stops: Sequence[str], *, ends: bool) -> tuple[int, str]:
    """How many ids a conversation keeps, and the text after them, with the leading space that decoding it drops."""
    visible = ["", *shown(vocabulary, ids, stops, (), ends=ends)[0]][-1]
    raw = Vocabulary(vocabulary.pieces, strip_leading_space=False, control_breaks=vocabulary.control_breaks)
    whole, spelled = texts(vocabulary, ids)[1], texts(raw, ids)[1]
    count = max(number for number in range(len(whole)) if visible.startswith(whole[number]))
    if visible == whole[count]:
        return count, ""
    size = len(visible) + len(spelled[-1]) - len(whole[-1])
    tail = spelled[-1][len(spelled[count]) : size]
    own = len(spelled[-1]) > len(whole[-1])
    # A space that a byte or the unknown id spelled is shown; as the tail's first character it would be dropped.
    begins = all(vocabulary.pieces[token_id] in (None, "") for token_id in ids[:count] if known(vocabulary, token_id))
    shown_space = vocabulary.strip_leading_space and not own and begins and tail.startswith(" ")
    return count, f" {tail}" if shown_space else tail


def known(vocabulary: Vocabulary, token_id: int) -> bool:
    """The id is one of the vocabulary's."""
    return token_id in range(len(vocabulary.pieces))
