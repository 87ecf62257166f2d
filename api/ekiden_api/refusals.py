"""How the HTTP API says no."""

from starlette.responses import JSONResponse

from ekiden.errors import EkidenError, Unauthorized


def error_response(error: EkidenError) -> JSONResponse:
    """An error of the HTTP API."""
    body = {"error": {"code": error.code, "message": str(error), "retryable": error.retryable}}
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else None
    return JSONResponse(body, error.http_status, headers)
