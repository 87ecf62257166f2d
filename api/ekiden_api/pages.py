"""The chat page: one file, no foreign resources, under a strict content security policy."""

import base64
import hashlib
from importlib import resources

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter()

_STATIC = resources.files("ekiden_api") / "static"

# The page's one script and one style sheet are made of these, in this order; the scripts share a scope.
_SCRIPTS = (
    "base",
    "turn",
    "conversation",
    "store",
    "server",
    "connection",
    "reader",
    "chat",
    "conversation_list",
    "list_view",
    "answer_text",
    "words",
    "turn_view",
    "scroller",
    "composer",
    "settings_drawer",
    "page",
)
_STYLES = ("style", "conversation", "list", "dialogs", "screens")
_PARTS = ("dialogs", "templates")


def _read(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8").strip()


def _source(body: str) -> str:
    """The CSP source that allows exactly this inline element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"


_STYLE = "\n" + "\n\n".join(_read(f"{name}.css") for name in _STYLES) + "\n"
_SCRIPT = "\n" + "\n\n".join(_read(f"{name}.js") for name in _SCRIPTS) + "\n"


def _page() -> str:
    page = _read("page.html")
    for name in _PARTS:
        page = page.replace(f"<!-- {name} -->", _read(f"{name}.html"))
    page = page.replace("<style></style>", f"<style>{_STYLE}</style>")
    return page.replace('<script type="module"></script>', f'<script type="module">{_SCRIPT}</script>')


_PAGE = _page()

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
