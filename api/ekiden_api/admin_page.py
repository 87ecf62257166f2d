"""The dashboard's page and what it loads: read and compressed once. It holds no data, so it asks for no key."""

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from ekiden_api.page_security import inline_source, page_headers

router = APIRouter()

_FOLDER = resources.files("ekiden_api") / "static" / "admin"
_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "mjs": "text/javascript"}
_OWN = "no-cache"  # asked for each time, and answered 304 as long as it is the same
_VENDORED = "public, max-age=31536000, immutable"  # these have their version in their name

# Vendored modules import each other by these names.
_IMPORTS = {
    "htm": "/admin/static/vendor/htm-3.1.1.mjs",
    "preact": "/admin/static/vendor/preact-11.2.0.mjs",
    "preact/hooks": "/admin/static/vendor/preact-hooks-11.2.0.mjs",
}
_IMPORT_MAP = json.dumps({"imports": _IMPORTS}, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class _File:
    """One answer in both encodings."""

    plain: bytes
    zipped: bytes
    digest: str
    headers: Mapping[str, str]

    def answer(self, request: Request) -> Response:
        """The file, or 304 where the browser has it."""
        zip_it = _accepts_gzip(request.headers.get("accept-encoding", ""))
        tag = f'"{self.digest}{"-gzip" if zip_it else ""}"'
        headers = {**self.headers, "ETag": tag, "Vary": "Accept-Encoding"}
        if _has(request.headers.get("if-none-match", ""), tag):
            del headers["Content-Type"]
            return Response(status_code=304, headers=headers)
        if zip_it:
            headers["Content-Encoding"] = "gzip"
        return Response(self.zipped if zip_it else self.plain, headers=headers)


def _file(body: bytes, kind: str, headers: Mapping[str, str]) -> _File:
    content_type = {"Content-Type": f"{_TYPES[kind]}; charset=utf-8"}
    digest = hashlib.sha256(body).hexdigest()[:32]
    return _File(body, gzip.compress(body, mtime=0), digest, {**headers, **content_type})


def _accepts_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _has(given: str, tag: str) -> bool:
    return any(part.strip().removeprefix("W/") in (tag, "*") for part in given.split(","))


def _read(folder: Traversable, prefix: str, cache: str) -> dict[str, _File]:
    headers = {"Cache-Control": cache, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    files = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        kind = entry.name.rpartition(".")[2]
        if kind in ("css", "js", "mjs"):
            files[prefix + entry.name] = _file(entry.read_bytes(), kind, headers)
    return files


_FILES = _read(_FOLDER, "", _OWN) | _read(_FOLDER / "vendor", "vendor/", _VENDORED)


def _page() -> _File:
    text = (_FOLDER / "page.html").read_text(encoding="utf-8")
    # Named in the page, all modules come at once instead of one import after the other.
    modules = [f"/admin/static/{name}" for name in _FILES if name.endswith(".js") and "/" not in name]
    preload = "\n".join(f'<link rel="modulepreload" href="{path}">' for path in [*modules, *_IMPORTS.values()])
    text = text.replace("<!-- modules -->", f'<script type="importmap">{_IMPORT_MAP}</script>\n{preload}')
    headers = page_headers(scripts=f"'self' {inline_source(_IMPORT_MAP)}", styles="'self'")
    return _file(text.encode(), "html", headers)


_PAGE = _page()


@router.api_route("/admin", methods=["GET", "HEAD"], include_in_schema=False)
@router.api_route("/admin/", methods=["GET", "HEAD"], include_in_schema=False)
async def page(request: Request) -> Response:
    """The dashboard."""
    return _PAGE.answer(request)


@router.api_route("/admin/static/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
async def static(request: Request, name: str) -> Response:
    """A file that the page loads."""
    if name not in _FILES:
        raise HTTPException(404)
    return _FILES[name].answer(request)
