"""`ekiden keys` as a program: on the store that the environment names, and on that of a data directory."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ekiden.exit_codes import CONFIG, FAILED, USAGE
from ekiden.settings import Settings
from ekiden.store import BlockingStore
from ekiden.store.api_keys import list_keys
from ekiden.supervisor.data_dir import announcing_store, locked_data_dir
from tests.support.keys import keys
from tests.support.nowhere import NOWHERE

Program = Callable[..., "subprocess.CompletedProcess[str]"]
KEY = re.compile(r"ek_([0-9a-f]{8})_[A-Za-z0-9_-]{43}\n")


@pytest.fixture
def on_store(settings: Settings) -> Program:
    """The program on the test's store."""
    given = {"EKIDEN_REDIS_URL": settings.redis_url, "EKIDEN_KEY_PREFIX": settings.key_prefix}
    return lambda *arguments, **extra: keys(*arguments, **(given | extra))


def test_a_key_is_made_listed_and_revoked(on_store: Program, store: BlockingStore) -> None:
    made = on_store("create", "--user", "alice", "--role", "viewer", "--note", "the wall screen")
    found = KEY.fullmatch(made.stdout)  # alone, for `KEY=$(ekiden keys create …)`
    assert found, made
    secret = made.stdout.strip().rpartition(f"{found[1]}_")[2]
    assert found[1] in made.stderr
    assert secret not in made.stderr
    plain = on_store("create", "--user", "bob")
    assert KEY.fullmatch(plain.stdout)

    table = on_store("list").stdout.splitlines()
    assert table[0].split() == ["ID", "USER", "ROLE", "CREATED", "NOTE"]
    assert re.fullmatch(rf"{found[1]}  alice  viewer  \d{{4}}-\d\d-\d\d \d\d:\d\d UTC  the wall screen", table[1])
    assert table[2].split()[1:3] == ["bob", "user"]
    rows = json.loads(on_store("list", "--json").stdout)
    record = list_keys(store)[found[1]]
    assert rows[0] == {
        "id": found[1],
        "user": "alice",
        "role": "viewer",
        "note": "the wall screen",
        "created_ms": record.created_ms,
    }
    assert secret not in json.dumps(rows)

    assert on_store("revoke", found[1]).returncode == 0
    again = on_store("revoke", found[1])
    assert (again.returncode, again.stdout, again.stderr) == (FAILED, "", f"There is no key with the id {found[1]}.\n")
    assert [record.user for record in list_keys(store).values()] == ["bob"]


def test_without_keys_the_list_is_empty(on_store: Program) -> None:
    nothing = on_store("list")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "There are no keys.\n")
    assert json.loads(on_store("list", "--json").stdout) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--user", ""],
        ["--user", "a b"],
        ["--user", "a:b"],
        ["--user", "a" * 65],
        ["--user", "ada", "--role", "root"],
        ["--user", "ada", "--note", "two\nlines"],
        ["--user", "ada", "--note", "n" * 201],
        [],
    ],
)
def test_a_key_that_cannot_be_is_refused(on_store: Program, store: BlockingStore, arguments: list[str]) -> None:
    refused = on_store("create", *arguments)
    assert (refused.returncode, refused.stdout) == (USAGE, "")
    assert not list_keys(store)


def test_what_is_wrong_is_one_sentence(tmp_path: Path) -> None:
    silent = keys("list", EKIDEN_REDIS_URL=f"redis://{NOWHERE[0]}")
    assert (silent.returncode, silent.stdout) == (FAILED, "")
    wrong = keys("list", REDIS_URL="nonsense")
    assert wrong.returncode == CONFIG
    (tmp_path / "file").touch()
    file = keys("list", "--data-dir", str(tmp_path / "file"))
    assert file.returncode == CONFIG
    words = ["The job store does not answer", "EKIDEN_REDIS_URL", "is not a directory"]
    for done, word in zip((silent, wrong, file), words, strict=True):
        assert done.stderr.count("\n") == 1
        assert word in done.stderr


def test_a_data_directory_that_is_not_in_use_is_served_for_the_while(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    made = keys("create", "--user", "alice", "--role", "admin", "--data-dir", str(folder))
    assert KEY.fullmatch(made.stdout), made
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    [row] = json.loads(keys("list", "--json", EKIDEN_DATA_DIR=str(folder)).stdout)
    assert (row["user"], row["role"]) == ("alice", "admin")
    with locked_data_dir(folder):
        pass  # whatever ran there has ended


def test_commands_at_the_same_time_wait_for_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ekiden", "keys", "create", "--data-dir", str(tmp_path), "--user"]
    many = [subprocess.Popen([*command, f"user-{number}"], stdout=subprocess.DEVNULL) for number in range(3)]
    assert [one.wait(100) for one in many] == [0, 0, 0]
    assert len(json.loads(keys("list", "--json", "--data-dir", str(tmp_path)).stdout)) == 3


def test_where_a_store_is_announced_it_is_used(tmp_path: Path, settings: Settings, store: BlockingStore) -> None:
    with locked_data_dir(tmp_path) as data_dir, announcing_store(data_dir, settings.redis_url):
        assert stat.S_IMODE((tmp_path / "store.url").stat().st_mode) == 0o600
        made = keys("create", "--user", "ada", "--data-dir", str(tmp_path), EKIDEN_KEY_PREFIX=settings.key_prefix)
        assert KEY.fullmatch(made.stdout), made
        assert [record.user for record in list_keys(store).values()] == ["ada"]
    assert not (tmp_path / "store.url").exists()


def test_a_directory_in_use_without_a_store_is_refused(tmp_path: Path) -> None:
    with locked_data_dir(tmp_path) as data_dir, announcing_store(data_dir, f"redis://{NOWHERE[0]}"):
        refused = keys("list", "--data-dir", str(tmp_path))
    assert refused.returncode == CONFIG
    assert f"in use by process {os.getpid()}" in refused.stderr
