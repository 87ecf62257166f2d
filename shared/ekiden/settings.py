"""Every setting of every process: `EKIDEN_` variables, parsed once at start; an unknown one is refused."""

import difflib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ekiden.protocol import DEFAULT_URL
from ekiden.roles import Role

PREFIX = "EKIDEN_"
DEFAULT_ENGINE = "ekiden_worker.model:load"
DEFAULT_MODEL = "SmolLM2-135M-Instruct"

# Ten years: the store counts in milliseconds, and a sum of several must stay exact.
Seconds = Annotated[float, Field(gt=0, le=315_360_000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Pairs = Annotated[
    tuple[tuple[Annotated[str, Field(min_length=1, max_length=256)], Annotated[str, Field(max_length=1024)]], ...],
    NoDecode,
    Field(max_length=64),
]


class SettingsError(Exception):
    """A setting is unknown or wrong; the message is one sentence an operator can act on."""


@dataclass(frozen=True, slots=True)
class ConfiguredKey:
    """One entry of EKIDEN_API_KEYS."""

    user: str
    key: SecretStr
    role: Role


class Settings(BaseSettings):
    """All settings, with units in their names: one frozen instance a process, passed in wherever it is needed."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        pattern=r"^(rediss?|unix)://",
        repr=False,  # it may hold a password
        description="The job store and broker: Redis 7 or Valkey 8 and newer.",
    )
    key_prefix: str = Field(
        "ekiden", pattern=r"^[A-Za-z0-9_-]{1,32}$", description="Name space of all keys in the store."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["console", "json"] = Field("console", description="How log lines look.")

    data_dir: Path = Field(Path("~/.local/share/ekiden"), description="Where `ekiden up` keeps its job store.")
    workers: Count = Field(1, description="How many workers `ekiden up` runs.")

    model: str = Field(DEFAULT_MODEL, min_length=1, description="Model to serve: a folder, a GGUF file or a hub id.")
    cache_dir: Path = Field(Path("~/.cache/ekiden"), description="Where fetched models are kept.")

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0 picks a free one.")
    api_keys: Annotated[tuple[ConfiguredKey, ...], NoDecode] = Field(
        (),
        description="Keys besides those of `ekiden keys`, as user:key or user:key:role, comma separated; "
        "a key has letters, digits, _ and -.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Host names the API answers to, comma separated; loopback names always are."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins of pages that may connect, comma separated; the API's own origin always may."
    )
    admin_show_text: bool = Field(False, description="An admin may read prompts and answers on the dashboard.")
    chaos_drills: bool = Field(
        False, description="The dashboard may kill a worker to show what happens; for API and worker."
    )
    ready_needs_worker: bool = Field(False, description="/readyz is 200 only while a worker is registered.")
    max_queued_jobs: Count = Field(10_000, description="Bound of the queue; more answer queue_full.")
    max_jobs_per_user: Count = Field(
        1_000, description="Unfinished jobs one user may have; the anonymous user has no limit."
    )
    outbox_bytes: Count = Field(
        256_000, description="Unsent bytes a connection may hold before its deltas are merged from the store."
    )

    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="Where the model runs: cpu, cuda or cuda:N.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Weights and activations; auto is float32 on CPU and the model's own on CUDA."
    )
    quantization: Literal["none", "int8", "fp8"] = Field(
        "none", description="Keep the weights of linear layers in eight bits; activations stay as dtype says."
    )
    eager: bool = Field(
        False, description="Capture no CUDA graphs: a worker is ready sooner, and generates more slowly."
    )
    speculate: Literal["off", "ngram"] = Field(
        "off",
        description="ngram: guess what an answer repeats of its context, several tokens a step; every token stays the "
        "model's own choice.",
    )
    max_running: Count = Field(32, description="Sequences generated at the same time by one worker.")
    threads: int = Field(
        0, ge=0, description="CPU threads of one worker; 0: all cores, under `ekiden up` cores / workers."
    )
    context_tokens: int = Field(0, ge=0, description="Longest prompt + answer; 0 takes the model's own.")
    kv_cache_tokens: int = Field(
        0, ge=0, description="Tokens the KV cache holds; 0 sizes it from the context and memory."
    )
    kv_cache_dtype: Literal["auto", "fp8"] = Field(
        "auto", description="What the KV cache keeps: numbers of the model's type, or of eight bits."
    )
    engine: str = Field(DEFAULT_ENGINE, description="module:function that builds the model runtime.")
    engine_stall_s: Seconds = Field(
        30.0, description="Pending work and no finished step for this long: the worker gives up its jobs."
    )

    max_unwritten_tokens: int = Field(
        100_000, ge=100, description="Generated tokens a worker holds while the store is away; then its engine rests."
    )

    prompt_format: str = Field(
        "auto",
        pattern=r"^[a-z0-9_]+$",
        description="How messages become a prompt: llama2, template, plain or dialogue; auto chooses by model.",
    )
    system_prompt: str | None = Field(None, description="System message of conversations that bring none.")
    memory: Literal["multi_turn", "single_turn"] = Field(
        "multi_turn", description="single_turn shows the model the system message and the last user message alone."
    )
    requester_prefix: str = Field(
        "User: ",
        pattern=r"\S",
        description="What stands before a user's text in the dialogue format; it is a stop sequence.",
    )
    responder_prefix: str = Field("Assistant: ", description="What stands before an answer in the dialogue format.")
    replace_input: Pairs = Field(
        (), description='Texts to replace in user messages, as JSON: [["from","to"],…]; the longest match wins.'
    )
    replace_output: Pairs = Field(
        (), description="Texts to replace in answers, as JSON; a conversation remembers the model's own words."
    )

    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of a worker's /metrics; unset: none, 0: a free one; `ekiden up` counts up from it.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address of a worker's /metrics; off loopback it takes a key of a viewer."
    )
    worker_slot: str = Field("", description="This worker's place under a supervisor that never runs two in one place.")

    beat_interval_s: Seconds = Field(0.25, description="How often a worker renews its lease.")
    lease_s: Seconds = Field(3.0, description="A worker silent for this long is dead and its jobs move.")
    early_reap_s: float = Field(
        0.6,
        ge=0,
        allow_inf_nan=False,
        description="Silent this long and its socket gone: dead. 0 turns this off (proxies, clusters).",
    )
    flush_interval_s: Seconds = Field(0.025, description="Least time between two writes of one worker's new tokens.")
    drain_s: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="How long a stopping worker finishes answers before it hands them over.",
    )
    poison_deaths: int = Field(3, ge=2, description="Worker deaths in a row, without progress, that make a job poison.")

    queue_wait_s: Seconds = Field(3600.0, description="Longest wait in the queue; then queue_timeout.")
    run_limit_s: Seconds = Field(
        3600.0, description="Longest time from first claim to end, not counting time parked; then run_timeout."
    )
    park_limit_s: Seconds = Field(86400.0, description="Longest time a job may be parked; then park_timeout.")
    abandon_grace_s: Seconds = Field(300.0, description="How long a job nobody watches runs on; then abandoned.")
    keep_log_s: Seconds = Field(
        600.0,
        description="How long prompt and answer stay after the end; a failed job's prompt as long as its summary.",
    )
    keep_summary_s: Seconds = Field(86_400.0, description="How long the summary without text stays after the end.")

    keep_conversation_s: Seconds = Field(
        2_592_000.0, description="How long a conversation is kept after its last change."
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _parse_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        keys = tuple(_configured_key(entry) for entry in filter(None, (part.strip() for part in value.split(","))))
        if len({entry.key for entry in keys}) < len(keys):
            raise ValueError("names a key twice")
        return keys

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _parse_list(cls, value: object) -> object:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value

    @field_validator("replace_input", "replace_output", mode="before")
    @classmethod
    def _parse_pairs(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError("must be JSON, a list of pairs of texts") from None

    @field_validator("replace_input", "replace_output", mode="after")
    @classmethod
    def _check_pairs(cls, value: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        if len({old for old, _ in value}) < len(value):
            raise ValueError("names a text twice")
        return value

    @field_validator("cache_dir", "data_dir", mode="after")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser()

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        if self.lease_s < 2 * self.beat_interval_s:
            raise ValueError("EKIDEN_LEASE_S must be at least twice EKIDEN_BEAT_INTERVAL_S")
        return self

    @property
    def model_name(self) -> str:
        """The name clients see: a hub id as it is, the last part of a path."""
        return model_name(self.model)


class ClientSettings(BaseSettings):
    """What `ekiden chat` reads of the environment; servers started in the same shell leave it alone."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    url: str = Field(DEFAULT_URL, min_length=1, description="The service `ekiden chat` talks to.")
    api_key: SecretStr | None = Field(None, description="The key `ekiden chat` gives.")


Loaded = TypeVar("Loaded", Settings, ClientSettings)


def _configured_key(entry: str) -> ConfiguredKey:
    """An entry of EKIDEN_API_KEYS. Raises ValueError, which does not repeat the key."""
    user, _, rest = entry.partition(":")
    key, colon, role = rest.partition(":")
    if not (user and key):
        raise ValueError("must be user:key or user:key:role entries separated by commas")
    if not all(c.isascii() and (c.isalnum() or c in "_-") for c in key):
        raise ValueError("keys may hold only letters, digits, _ and -")
    if colon and role not in list(Role):
        raise ValueError("a role is user, viewer or admin")
    return ConfiguredKey(user, SecretStr(key), Role(role or Role.USER))


def model_name(model: str) -> str:
    """The public name of a model given as hub id, folder or file."""
    path = Path(model).expanduser()
    if path.is_absolute() or model.startswith((".", "~")) or path.exists():
        return path.resolve().stem if path.suffix == ".gguf" else path.resolve().name
    return model


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment, with `overrides` on top. Raises SettingsError, which names what is wrong."""
    if url := given_store_url():
        overrides = {"redis_url": url, **overrides}
    return _load(Settings, overrides)


def given_store_url() -> str | None:
    """The store that the environment names. `REDIS_URL` is the name that hosting services give it."""
    return os.environ.get(f"{PREFIX}REDIS_URL") or os.environ.get("REDIS_URL") or None


def load_client_settings(**overrides: object) -> ClientSettings:
    """What a client reads of the environment, with `overrides` on top. Raises SettingsError."""
    return _load(ClientSettings, overrides)


def _load(kind: type[Loaded], overrides: dict[str, object]) -> Loaded:
    known = {PREFIX + name.upper() for name in (*Settings.model_fields, *ClientSettings.model_fields)}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known and not name.startswith(f"{PREFIX}TEST_"):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{name} is not a setting of Ekiden{hint}")
    try:
        return kind(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        about = f"{PREFIX}{str(first['loc'][0]).upper()}: " if first["loc"] else ""
        raise SettingsError(f"{about}{reason}") from None
