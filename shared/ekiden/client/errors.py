"""What ends an answer on the client's own side, and how an error frame becomes an exception."""

from typing import cast

from ekiden.errors import BY_CODE, EkidenError
from ekiden.protocol import Error


class Unreachable(EkidenError):
    """No API process could be reached for as long as the client waits. A job that was accepted goes on without it."""

    code, retryable = "unreachable", True


class ClientClosed(EkidenError):
    """The client was closed, or not yet entered. A job that was accepted goes on without it."""

    code = "client_closed"


class Superseded(EkidenError):
    """A later answer of the same client follows the same job."""

    code = "superseded"


def error_of(frame: Error) -> EkidenError:
    """The exception that a frame stands for; of a class of its own when this version does not know the code."""
    kind = BY_CODE.get(frame.code)
    if kind is None:
        members = {"code": frame.code, "retryable": frame.retryable, "__doc__": "A code of a newer server."}
        kind = cast("type[EkidenError]", type("UnknownError", (EkidenError,), members))
    return kind(frame.message, retry_after_s=frame.retry_after_s, job=frame.job)
