"""The dashboard's page: what it loads is ours or vendored as listed, small, compressed, and asked for again rightly."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ekiden.settings import load_settings
from ekiden_api.app import create_app
from tests.support.first_load import paths_in

FOLDER = Path(__file__).parents[2] / "api" / "ekiden_api" / "static" / "admin"
VENDOR = FOLDER / "vendor"
OWN = sorted(path for path in FOLDER.iterdir() if path.suffix in (".js", ".css"))
FIRST_LOAD_BYTES = 200_000
LINES = 400

ROW = re.compile(
    r"^\| \[(?P<package>\S+)\]\(https://www\.npmjs\.com/\S+\) \| (?P<version>\S+) \| `(?P<file>\S+)` \| `\S+` "
    r"\| (?P<licence>\S+), `(?P<text>\S+)` \| `(?P<digest>[0-9a-f]{64})` \|$",
    re.MULTILINE,
)
LISTED = list(ROW.finditer((VENDOR / "VERSIONS.md").read_text()))


@pytest.fixture(scope="module")
def client() -> TestClient:
    # Not entered: no file of the page needs the job store.
    return TestClient(create_app(load_settings()), base_url="http://127.0.0.1:8000")


def loaded(client: TestClient) -> Iterator[str]:
    """Every path that a browser asks for before the page has drawn itself."""
    seen = paths_in(client.get("/admin").text)
    for path in sorted(seen):
        yield path
    for path in OWN:
        if path.suffix == ".js":  # imports are among what the page names
            names = re.findall(r'from "\./([^"]+)"', path.read_text())
            assert {f"/admin/static/{name}" for name in names} <= seen, path.name


@pytest.mark.parametrize("row", LISTED, ids=lambda row: str(row["file"]))
def test_a_vendored_file_is_the_released_one(row: "re.Match[str]") -> None:
    assert hashlib.sha256((VENDOR / row["file"]).read_bytes()).hexdigest() == row["digest"]
    assert row["version"] in row["file"]
    assert (VENDOR / row["text"]).stat().st_size > 500


def test_every_vendored_file_is_listed() -> None:
    listed = {row["file"] for row in LISTED} | {row["text"] for row in LISTED} | {"VERSIONS.md"}
    assert {path.name for path in VENDOR.iterdir()} == listed


def test_the_first_load_is_small(client: TestClient) -> None:
    transferred = {}
    for path in loaded(client):
        with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.status_code == 200, path
            assert answer.headers["content-encoding"] == "gzip", path
            transferred[path] = len(b"".join(answer.iter_raw()))
    assert sum(transferred.values()) <= FIRST_LOAD_BYTES, transferred
    assert len(transferred) > len(OWN)


def test_the_page_names_nothing_foreign(client: TestClient) -> None:
    texts = {"/admin": client.get("/admin").text} | {path.name: path.read_text() for path in OWN}
    for name, text in texts.items():
        assert not re.search(r"(?:https?:)?//[\w-]+\.\w+", text.replace("http://www.w3.org/2000/svg", "")), name


def test_the_policy_allows_no_inline_code_but_the_import_map(client: TestClient) -> None:
    answer = client.get("/admin")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert re.fullmatch(r"'self' 'sha256-[\w+/=]+'", policy["script-src"])
    assert policy["style-src"] == "'self'"
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert "style=" not in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/static/main.js", "/admin/static/theme.css"])
def test_what_did_not_change_is_not_sent_again(client: TestClient, path: str) -> None:
    zipped = client.get(path, headers={"Accept-Encoding": "gzip"})
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    assert zipped.content == plain.content
    assert "content-encoding" not in plain.headers
    assert zipped.headers["etag"] != plain.headers["etag"]
    for answer, encoding in ((zipped, "gzip"), (plain, "identity")):
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"
        tag = answer.headers["etag"]
        for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = client.get(path, headers={"Accept-Encoding": encoding, "If-None-Match": given})
            assert (again.status_code, again.content) == (304, b""), given
        assert client.get(path, headers={"Accept-Encoding": encoding, "If-None-Match": '"x"'}).status_code == 200


def test_types_and_lifetimes(client: TestClient) -> None:
    assert client.get("/admin").headers["content-type"] == "text/html; charset=utf-8"
    for row in LISTED:
        answer = client.get(f"/admin/static/vendor/{row['file']}")
        kind = "css" if row["file"].endswith(".css") else "javascript"
        assert answer.headers["content-type"] == f"text/{kind}; charset=utf-8"
        assert "immutable" in answer.headers["cache-control"]


def test_no_gzip_where_it_is_refused(client: TestClient) -> None:
    answer = client.get("/admin", headers={"Accept-Encoding": "gzip;q=0, identity"})
    assert "content-encoding" not in answer.headers
    assert answer.text.startswith("<!doctype html>")


@pytest.mark.parametrize(
    "name", ["", "nothing.js", "page.html", "vendor/VERSIONS.md", "../page.html", "%2e%2e/style.css"]
)
def test_other_names_are_not_found(client: TestClient, name: str) -> None:
    assert client.get(f"/admin/static/{name}").status_code == 404


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES
