"""How the HTTP API says no."""

import re
from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse

from ekiden.errors import EkidenError, InvalidRequest, OutOfRange, Unauthorized


def error_response(error: EkidenError) -> JSONResponse:
    """An error of the HTTP API."""
    body = {"error": {"code": error.code, "message": str(error), "retryable": error.retryable}}
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else None
    return JSONResponse(body, error.http_status, headers)


def refusal_of(errors: Sequence[Any]) -> EkidenError:
    """What FastAPI found wrong with a path or a query, of which the first part is told, in one plain sentence."""
    first = errors[0]
    name, kind, bounds = first["loc"][1], first["type"], first.get("ctx", {})
    if kind in ("literal_error", "enum"):
        # A union of several enumerations is refused once by each.
        expected = [error["ctx"]["expected"] for error in errors if error["loc"][:2] == first["loc"][:2]]
        return InvalidRequest(must_be(name, re.findall(r"'([^']*)'", " ".join(expected))))
    if kind == "greater_than_equal":
        return OutOfRange(f"{name} must be at least {bounds['ge']}.")
    if kind == "less_than_equal":
        return OutOfRange(f"{name} must be at most {bounds['le']}.")
    if kind.startswith("int_"):
        return InvalidRequest(f"{name} must be a whole number.")
    if kind == "string_pattern_mismatch":
        return InvalidRequest(f"{name} does not have the form that it must have.")
    return InvalidRequest(f"{name}: {first['msg']}.")


def must_be(name: str, choices: Sequence[str]) -> str:
    """The sentence about a value that is none of these."""
    *others, last = choices
    return f"{name} must be {', '.join(others)} or {last}." if others else f"{name} must be {last}."
