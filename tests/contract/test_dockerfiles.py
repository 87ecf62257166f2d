"""The images: what linters say of them, what goes into them, and who runs in them."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.composefile import DOCKERFILES, ROOT, dockerfile, in_build_context, last_stage

HADOLINT = str(Path(sys.executable).parent / "hadolint")

each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)


@each_dockerfile
def test_hadolint_finds_nothing_and_is_told_to_ignore_nothing(path: Path) -> None:
    command = [HADOLINT, "--disable-ignore-pragma", str(path)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@each_dockerfile
def test_all_that_is_copied_exists_and_reaches_docker(path: Path) -> None:
    copied = [
        source
        for instruction in dockerfile(path)
        if instruction.name == "COPY" and "--from" not in instruction.value
        for source in instruction.words[:-1]
    ]
    assert {"pyproject.toml", "constraints.txt", "shared/ekiden"} <= set(copied)
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert [source for source in copied if not in_build_context(source)] == []


@each_dockerfile
def test_the_packages_of_the_distribution_are_copied(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = {word for instruction in dockerfile(path) if instruction.name == "COPY" for word in instruction.words}
    assert set(packages) <= copied


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        ".env",
        "tests/conftest.py",
        "compose.yaml",
        "api/ekiden_api/__pycache__/app.cpython-311.pyc",
    ],
)
def test_docker_is_not_sent_what_no_image_needs(path: str) -> None:
    assert not in_build_context(path)


def test_docker_is_sent_scripts_and_pages() -> None:
    assert in_build_context("shared/ekiden/lua/claim.lua")
    assert in_build_context("api/ekiden_api/static/page.html")


@each_dockerfile
def test_the_requirements_are_those_of_the_extra(path: Path, tmp_path: Path) -> None:
    """Runs the very line of the Dockerfile that lists them."""
    listing = next(i.value for i in dockerfile(path) if i.name == "RUN" and "requirements.txt" in i.value)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-c", listing], cwd=tmp_path, env=environment, check=True, timeout=60)
    listed = (tmp_path / "requirements.txt").read_text().splitlines()
    assert listed == project["dependencies"] + project["optional-dependencies"][path.parent.name]


@each_dockerfile
def test_the_image_runs_its_process_itself_and_not_as_root(path: Path) -> None:
    image = {instruction.name: instruction for instruction in last_stage(path)}
    assert image["USER"].value == "10001"
    assert image["ENTRYPOINT"].exec_form == ["ekiden", path.parent.name]
    assert image["HEALTHCHECK"].exec_form[0] == "python"


@each_dockerfile
def test_the_base_image_has_a_python_that_the_project_supports(path: Path) -> None:
    base = next(instruction.words[0] for instruction in dockerfile(path) if instruction.name == "FROM")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = base.removeprefix("python:").partition("-")[0]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
