"""What ends an answer on the client's own side, and how an error of the service becomes an exception."""

from typing import cast

import msgspec

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


def error_in(body: bytes) -> EkidenError | None:
    """The exception that the body of an HTTP answer stands for; None when it is no error of this service."""
    try:
        found = msgspec.json.decode(body, type=_Body).error
    except msgspec.DecodeError:
        return None
    return error_of(Error(found.code, found.message, retryable=found.retryable))


class _BodyError(msgspec.Struct):
    code: str
    message: str
    retryable: bool = False


class _Body(msgspec.Struct):
    error: _BodyError
