"""Lines of ids to lines of text, as a worker streams it; loads no model library."""

import os
from pathlib import Path
from typing import BinaryIO

import msgspec
import typer
from tokenizers import Tokenizer

from ekiden.errors import EkidenError, InvalidFrame, InvalidRequest, OutOfRange
from ekiden.exit_codes import CONFIG
from ekiden_worker.text import Detokenizer, UnknownTokenizer, Vocabulary

INTERRUPTED = 130
PIPE_CLOSED = 141


def run(folder: Path, lines: BinaryIO, output: BinaryIO) -> int:
    """Answer each line at once, until there are no more; returns the exit status."""
    try:
        vocabulary = read_vocabulary(folder)
        for line in lines:
            output.write(answered(line, vocabulary) + b"\n")
            output.flush()
    except UnknownTokenizer as error:
        typer.echo(error, err=True)
        return CONFIG
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())  # what is still in the buffer
        return PIPE_CLOSED
    return 0


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a model's folder; tokenizer.json is enough. Raises UnknownTokenizer with one sentence."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UnknownTokenizer(f"There is no file {path}.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 (the library raises nothing narrower)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnknownTokenizer(f"The file {path} cannot be read as a tokenizer: {reason}.") from None
    return Vocabulary.of(tokenizer)


def answered(line: bytes, vocabulary: Vocabulary) -> bytes:
    """The answer to one line, or the error that says what is wrong with it."""
    try:
        ids = _ids(line, len(vocabulary.pieces))
    except EkidenError as error:
        return msgspec.json.encode({"error": {"code": error.code, "message": str(error)}})
    detokenizer = Detokenizer(vocabulary)
    deltas = [*map(detokenizer.push, ids), detokenizer.flush()]
    return msgspec.json.encode({"deltas": deltas, "text": "".join(deltas)})


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
