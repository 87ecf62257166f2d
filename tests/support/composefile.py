"""What compose.yaml and the Dockerfiles say, read as far as these files go; runs nothing."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "compose.yaml"
DOCKERFILES = (ROOT / "api" / "Dockerfile", ROOT / "worker" / "Dockerfile")

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<rule>:-|:\?)(?P<text>[^}]*)\}")


class MissingVariable(Exception):
    """A variable that compose.yaml requires is not set; the message is compose's."""


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its lines joined."""

    name: str
    value: str

    @property
    def words(self) -> list[str]:
        """The value's words without flags."""
        return [word for word in shlex.split(self.value) if not word.startswith("--")]

    @property
    def exec_form(self) -> list[str]:
        """The words of a command that no shell reads. Raises ValueError."""
        words: list[str] = json.loads(self.value[self.value.index("[") :])
        return words


@dataclass(frozen=True)
class Service:
    """What Docker would run: a command line, its environment and its healthcheck."""

    command: list[str]
    environment: dict[str, str]
    healthcheck: list[str]


def compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """compose.yaml with its variables replaced. Raises MissingVariable."""
    parsed: dict[str, Any] = _interpolated(yaml.safe_load(COMPOSE_FILE.read_text()), variables)
    return parsed


def services(variables: Mapping[str, str]) -> dict[str, Service]:
    """The services of compose.yaml, with what their Dockerfiles add. Raises MissingVariable."""
    return {name: _service(description) for name, description in compose(variables)["services"].items()}


def dockerfile(path: Path) -> list[Instruction]:
    """The instructions of a Dockerfile, all stages."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", "")
    return [Instruction(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def last_stage(path: Path) -> list[Instruction]:
    """The instructions that make the image itself."""
    found = dockerfile(path)
    start = max(number for number, instruction in enumerate(found) if instruction.name == "FROM")
    return found[start:]


def in_build_context(path: str) -> bool:
    """Whether Docker is sent a path of the repository: the last line of .dockerignore that matches it decides."""
    sent = True
    parents = [path, *(str(parent) for parent in Path(path).parents)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(_matches(parent, pattern) for parent in parents):
            sent = line.startswith("!")
    return sent


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(Path(path).name, pattern.removeprefix("**/"))
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)


def _interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, variables) for item in value]
    return _VARIABLE.sub(lambda found: _value(found, variables), value) if isinstance(value, str) else value


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if value := variables.get(found["name"]):
        return value
    if found["rule"] == ":?":
        raise MissingVariable(f"{found['name']}: {found['text']}")
    return found["text"]


def _service(description: dict[str, Any]) -> Service:
    command: list[str] = description.get("command", [])
    environment: dict[str, str] = {}
    healthcheck: list[str] = description.get("healthcheck", {}).get("test", [])
    if "build" in description:
        for instruction in last_stage(ROOT / description["build"]["dockerfile"]):
            if instruction.name == "ENTRYPOINT":
                command = instruction.exec_form + command
            elif instruction.name == "ENV":
                environment |= dict(word.split("=", 1) for word in instruction.words)
            elif instruction.name == "HEALTHCHECK":
                healthcheck = ["CMD", *instruction.exec_form]
    if healthcheck[:1] != ["CMD"]:
        raise ValueError("a healthcheck must be a command line that no shell reads")
    return Service(command, environment | description.get("environment", {}), healthcheck[1:])
