"""The chat page: one file, no foreign resources, under a strict content security policy."""

from importlib import resources

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from ekiden_api.page_security import inline_source, page_headers

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


_STYLE = "\n" + "\n\n".join(_read(f"{name}.css") for name in _STYLES) + "\n"
_SCRIPT = "\n" + "\n\n".join(_read(f"{name}.js") for name in _SCRIPTS) + "\n"


def _page() -> str:
    page = _read("page.html")
    for name in _PARTS:
        page = page.replace(f"<!-- {name} -->", _read(f"{name}.html"))
    page = page.replace("<style></style>", f"<style>{_STYLE}</style>")
    return page.replace('<script type="module"></script>', f'<script type="module">{_SCRIPT}</script>')


_PAGE = _page()

_HEADERS = page_headers(scripts=inline_source(_SCRIPT), styles=inline_source(_STYLE))


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def index() -> HTMLResponse:
    """A page that streams a chat."""
    return HTMLResponse(_PAGE, headers=_HEADERS)
