"""The chat page: one file, no foreign resources, under a strict content security policy."""

import base64
import hashlib
import re
from importlib import resources

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter()

_PAGE = (resources.files("ekiden_api") / "static" / "index.html").read_text(encoding="utf-8")


def _hashes(tag: str) -> str:
    """CSP sources that allow exactly the inline elements of our page."""
    bodies = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", _PAGE, flags=re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_hashes('script')}",
        f"style-src {_hashes('style')}",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


@router.get("/", include_in_schema=False)
async def index() -> HTMLResponse:
    """A page that streams a chat."""
    headers = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return HTMLResponse(_PAGE, headers=headers)
