"""compose.yaml: valid, safe by default, and free to be scaled."""

import re
import subprocess
import sys
from typing import Any

import pytest

from ekiden.settings import PREFIX, Settings
from tests.support.composefile import COMPOSE_FILE, DOCKERFILES, ROOT, MissingVariable, compose, last_stage, services

KEYS = {"EKIDEN_API_KEYS": "alice:secret"}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return compose(KEYS)


def test_it_follows_the_compose_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    result = subprocess.run([*command, COMPOSE_FILE], check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_store_writes_a_log_and_never_evicts(described: dict[str, Any]) -> None:
    store = described["services"]["redis"]
    options = store["command"][1:]
    assert dict(zip(options[::2], options[1::2], strict=True)) == {
        "--appendonly": "yes",
        "--maxmemory-policy": "noeviction",
    }
    assert store["volumes"] == ["store:/data"]
    assert "store" in described["volumes"]


def test_nobody_outside_reaches_the_store(described: dict[str, Any]) -> None:
    store = described["services"]["redis"]
    assert "ports" not in store
    assert store["networks"] == ["store"]
    assert described["networks"]["store"] == {"internal": True}
    for name in ("api", "worker"):
        assert set(described["services"][name]["networks"]) == {"default", "store"}


def test_without_keys_nothing_starts_and_the_message_says_what_to_set() -> None:
    with pytest.raises(MissingVariable, match="EKIDEN_API_KEYS: set it to user:key,user:key"):
        compose({})


def test_only_the_api_has_the_keys() -> None:
    holders = [name for name, service in services(KEYS).items() if "EKIDEN_API_KEYS" in service.environment]
    assert holders == ["api"]


@pytest.mark.parametrize(
    ("variables", "published"),
    [
        ({}, "127.0.0.1:8000:8000"),
        ({"EKIDEN_HOST": "0.0.0.0", "EKIDEN_PORT": "80"}, "0.0.0.0:80:8000"),
    ],
)
def test_the_api_is_published_on_loopback_unless_told_otherwise(variables: dict[str, str], published: str) -> None:
    assert compose(KEYS | variables)["services"]["api"]["ports"] == [published]
    api = services(KEYS | variables)["api"].environment
    assert (api["EKIDEN_HOST"], api["EKIDEN_PORT"]) == ("0.0.0.0", "8000")


def test_the_api_is_ready_without_a_worker() -> None:
    assert services(KEYS)["api"].environment["EKIDEN_READY_NEEDS_WORKER"] == "false"


def test_workers_can_be_scaled(described: dict[str, Any]) -> None:
    worker = described["services"]["worker"]
    assert not {"container_name", "hostname", "ports"} & set(worker)
    assert "EKIDEN_WORKER_SLOT" not in worker["environment"]


def test_workers_keep_models_in_a_volume() -> None:
    folder = services(KEYS)["worker"].environment["EKIDEN_CACHE_DIR"]
    assert compose(KEYS)["services"]["worker"]["volumes"] == [f"models:{folder}"]
    # A new volume takes its owner from the image's folder.
    made = [i.value for i in last_stage(ROOT / "worker" / "Dockerfile") if i.name == "RUN" and folder in i.value]
    assert len(made) == 1
    assert "--owner=ekiden" in made[0]


def test_every_process_waits_for_the_store_and_comes_back(described: dict[str, Any]) -> None:
    for name in ("api", "worker"):
        service = described["services"][name]
        assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert {service["restart"] for service in described["services"].values()} == {"unless-stopped"}


def test_every_variable_is_a_setting() -> None:
    named = {
        name for path in (COMPOSE_FILE, *DOCKERFILES) for name in re.findall(rf"\b{PREFIX}[A-Z_]+\b", path.read_text())
    }
    assert named - {PREFIX + field.upper() for field in Settings.model_fields} == set()
    assert "EKIDEN_MODEL" in named


def test_api_and_worker_share_what_they_must_agree_on() -> None:
    both = services(KEYS | {"EKIDEN_MODEL": "org/model"})
    for name in ("EKIDEN_REDIS_URL", "EKIDEN_MODEL"):
        assert both["api"].environment[name] == both["worker"].environment[name] != ""


def test_the_variables_it_reads_are_explained_at_its_top() -> None:
    text = COMPOSE_FILE.read_text()
    top = text.partition("\nname:")[0]
    assert set(re.findall(r"\$\{(\w+)", text)) == set(re.findall(r"EKIDEN_[A-Z_]+", top))
