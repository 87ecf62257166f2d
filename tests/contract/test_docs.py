"""The documents know every command, option, setting and error, and every file they name is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from ekiden.cli import create_cli
from ekiden.errors import BY_CODE
from ekiden.settings import PREFIX, ClientSettings, Settings
from ekiden.validation import RANGES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()

COMMANDS: Any = typer.main.get_command(create_cli())


@pytest.mark.parametrize("kind", [Settings, ClientSettings])
def test_every_setting_has_its_row(kind: type[Settings] | type[ClientSettings]) -> None:
    for name, field in kind.model_fields.items():
        row = re.search(rf"^\| `{PREFIX}{name.upper()}` \| (.*?) \| (.*) \|$", OPERATIONS, re.MULTILINE)
        assert row, f"{name} is not documented"
        assert row[2] == field.description


def test_no_setting_is_documented_that_is_not_there() -> None:
    known = {PREFIX + name.upper() for kind in (Settings, ClientSettings) for name in kind.model_fields}
    for page in PAGES:
        named = set(re.findall(r"EKIDEN_[A-Z][A-Z_]*[A-Z]", page.read_text()))
        assert named <= known, f"{page.name} names settings that do not exist"


@pytest.mark.parametrize("name", sorted(COMMANDS.commands))
def test_every_command_is_documented(name: str) -> None:
    assert f"`ekiden {name}`" in OPERATIONS
    command = COMMANDS.commands[name]
    within = getattr(command, "commands", {})
    for below in within:
        assert f"`ekiden {name} {below}" in OPERATIONS
    parameters = [parameter for one in (command, *within.values()) for parameter in one.params]
    options = {option for parameter in parameters for option in parameter.opts}
    if name != "chat":  # its own help names them
        assert {option for option in options if option.startswith("--")} <= set(re.findall(r"--[a-z-]+", OPERATIONS))


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_error_code_is_documented(code: str) -> None:
    row = re.search(rf"^\| `{code}` \| (\d+) \| (yes)? *\|", PROTOCOL, re.MULTILINE)
    assert row, f"{code} is not documented"
    assert int(row[1]) == BY_CODE[code].http_status
    assert bool(row[2]) == BY_CODE[code].retryable


def test_every_parameter_is_documented() -> None:
    for name in RANGES:
        assert re.search(rf"^\| `{name}` \|", PROTOCOL, re.MULTILINE), name


def test_the_table_of_benchmarks_is_what_make_bench_runs() -> None:
    rows = re.findall(r"^\| `(bench_\w+)` \|", OPERATIONS, re.MULTILINE)
    assert rows == sorted(path.stem for path in (ROOT / "tests" / "benchmarks").glob("bench_*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+?)\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
    folders = ("", "shared", "api", "worker", "shared/ekiden", "api/ekiden_api", "worker/ekiden_worker")
    for path in re.findall(r"`([\w./]+/[\w.]+\.(?:py|lua|yaml|md))`", text):
        assert any((ROOT / folder / path).exists() for folder in folders), f"{page.name} names {path}"


def test_the_lines_of_the_readme_are_wrapped() -> None:
    blocks = (ROOT / "README.md").read_text().split("```")
    prose = [line for block in blocks[::2] for line in block.splitlines() if not line.startswith("|")]
    assert len(prose) > 100
    assert [line for line in prose if len(line) > 120] == []
