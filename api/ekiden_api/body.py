"""Reads the body of a request, up to a bound: whoever sends it may have no key yet."""

from starlette.requests import ClientDisconnect, Request

from ekiden.errors import FrameTooLarge, InvalidRequest

MAX_BODY_BYTES = 1 << 14


async def read_body(request: Request) -> bytes:
    """The whole body. Raises FrameTooLarge or InvalidRequest."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise FrameTooLarge(f"The body may have at most {MAX_BODY_BYTES:,} bytes.")
    except ClientDisconnect:
        raise InvalidRequest("The body did not arrive.") from None
    return body
