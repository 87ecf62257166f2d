"""The Makefile says in one sentence what a machine lacks, and changes nothing then."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


def make(folder: Path, python: str) -> str:
    """Run `make install` in an empty folder with another Python; what it said before it failed."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    command = ["make", "install", f"PYTHON={python}"]
    # A make that runs these tests would make the one under test say which folder it enters.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert not (folder / ".venv").exists()
    return done.stdout


def fake_python(folder: Path, fails_at: str) -> str:
    """A Python that fails at code which holds a word."""
    script = folder / "fake-python"
    script.write_text(f'#!/bin/sh\ncase "$*" in *{fails_at}*) exit 1 ;; -V) echo Python 3.9.2 ;; esac\n')
    script.chmod(0o755)
    return str(script)


def test_no_python_is_one_sentence(tmp_path: Path) -> None:
    assert make(tmp_path, "no-such-python") == "Ekiden needs Python 3.11 or newer; there is no no-such-python.\n"


def test_an_old_python_is_one_sentence(tmp_path: Path) -> None:
    said = make(tmp_path, fake_python(tmp_path, "version_info"))
    assert said.startswith("Ekiden needs Python 3.11 or newer; ")
    assert "is Python 3.9.2. Try: make PYTHON=python3.12 install" in said
    assert said.count("\n") == 1


def test_a_python_without_venv_is_one_sentence(tmp_path: Path) -> None:
    said = make(tmp_path, fake_python(tmp_path, "ensurepip"))
    assert said.endswith("cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv\n")
    assert said.count("\n") == 1
