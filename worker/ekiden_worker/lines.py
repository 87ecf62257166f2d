"""Commands that answer each line of stdin with a line on stdout: how they begin and end."""

import sys
from collections.abc import Callable

import msgspec
import typer

from ekiden.errors import EkidenError
from ekiden.exit_codes import CONFIG, FAILED, INTERRUPTED, PIPE_CLOSED, USAGE
from ekiden.settings import SettingsError
from ekiden.streams import discard
from ekiden_worker.prompts import UnusableFormat, UnusableTokenizer
from ekiden_worker.text import UnknownTokenizer

Answer = Callable[[bytes], bytes]


def answer_lines(prepare: Callable[[], Answer]) -> int:
    """Answer every line at once with what `prepare` gives; returns the exit status.

    What ends the command early is one sentence on stderr, and no traceback; an interrupt and a reader that went away
    are silent.
    """
    if sys.stdin is None or sys.stdout is None:
        typer.echo("Standard input and output must be open.", err=True)
        return USAGE
    output = sys.stdout.buffer
    try:
        answer = prepare()
        for line in sys.stdin.buffer:
            output.write(answer(line))
            output.flush()
    except (SettingsError, UnusableTokenizer, UnusableFormat, UnknownTokenizer) as error:
        typer.echo(error, err=True)
        return CONFIG
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        discard(output)
        return PIPE_CLOSED
    except OSError as error:
        discard(output)
        typer.echo(f"The answers cannot be written: {error.strerror}.", err=True)
        return FAILED
    return 0


def json_line(answer: object) -> bytes:
    """An answer as a line of JSON."""
    return msgspec.json.encode(answer) + b"\n"


def refusal(error: EkidenError) -> bytes:
    """The answer to a line that is wrong."""
    return json_line({"error": {"code": error.code, "message": str(error)}})
