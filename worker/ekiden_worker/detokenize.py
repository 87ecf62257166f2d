"""Lines of ids to lines of text, as a worker streams it; loads no model library."""

from pathlib import Path

import msgspec

from ekiden.errors import EkidenError, InvalidFrame, InvalidRequest, OutOfRange
from ekiden_worker.lines import Answer, answer_lines, json_line, refusal
from ekiden_worker.prompts import ModelTokenizer
from ekiden_worker.text import Detokenizer, Vocabulary


def run(folder: Path) -> int:
    """Answer each line of stdin by the tokenizer of a model's folder; returns the exit status."""

    def prepare() -> Answer:
        vocabulary = Vocabulary.of(ModelTokenizer.from_folder(folder).raw)
        return lambda line: answered(line, vocabulary)

    return answer_lines(prepare)


def answered(line: bytes, vocabulary: Vocabulary) -> bytes:
    """The answer to one line, or the error that says what is wrong with it."""
    try:
        ids = _ids(line, len(vocabulary.pieces))
    except EkidenError as error:
        return refusal(error)
    detokenizer = Detokenizer(vocabulary)
    deltas = [*map(detokenizer.push, ids), detokenizer.flush()]
    return json_line({"deltas": deltas, "text": "".join(deltas)})


def _ids(line: bytes, size: int) -> list[int]:
    try:
        parsed = msgspec.json.decode(line)
    except msgspec.ValidationError:  # the one thing that a value of no given type can be wrong in
        raise OutOfRange("A number of the line is too large.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidFrame("A line must be a JSON object.") from None
    if not isinstance(parsed, dict):
        raise InvalidFrame("A line must be a JSON object.")
    if parsed.keys() != {"ids"} or not isinstance(parsed["ids"], list):
        raise InvalidRequest("A line must have ids, a list of integers, and nothing else.")
    ids: list[int] = parsed["ids"]
    for number, token_id in enumerate(ids):
        if type(token_id) is not int:
            raise InvalidRequest(f"ids[{number}] must be an integer.")
        if not 0 <= token_id < size:
            raise OutOfRange(f"ids[{number}] must be between 0 and {size - 1}, the tokenizer's last id.")
    return ids
