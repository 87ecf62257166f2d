"""The chat page: one file, no foreign resources, under a strict content security policy."""

import base64
import hashlib
from importlib import resources

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter()

_STATIC = resources.files("ekiden_api") / "static"

# The page's one script is made of these, in this order; they share its scope.
_SCRIPTS = ("base", "store", "connection", "chat", "answer_text", "turn_view", "settings_drawer", "page")


def _read(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8").strip()


def _source(body: str) -> str:
    """The CSP source that allows exactly this inline element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"


_STYLE = f"\n{_read('style.css')}\n"
_SCRIPT = "\n" + "\n\n".join(_read(f"{name}.js") for name in _SCRIPTS) + "\n"
_PAGE = (
    _read("page.html")
    .replace("<style></style>", f"<style>{_STYLE}</style>")
    .replace('<script type="module"></script>', f'<script type="module">{_SCRIPT}</script>')
)

_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_source(_SCRIPT)}",
        f"style-src {_source(_STYLE)}",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def index() -> HTMLResponse:
    """A page that streams a chat."""
    headers = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return HTMLResponse(_PAGE, headers=headers)
