"""Settings are parsed once, and what is wrong with one is said with its variable's name."""

from pathlib import Path

import pytest

from ekiden.settings import DEFAULT_MODEL, Settings, SettingsError, load_settings, model_name

BAD: dict[str, list[str]] = {
    "redis_url": ["localhost:6379", "http://localhost", "6379"],
    "key_prefix": ["a b", "{x}", "x" * 33, "a:b"],
    "log_level": ["loud", "INFO "],
    "log_format": ["xml"],
    "port": ["-1", "65536", "http", "80.5"],
    "api_keys": [
        "key",
        "user:",
        ":key",
        "ada:k,bob:k",
        "ada:k,ada:k:admin",
        "ada:a b",
        "ada:a:b",
        "ada:é",
        "ada:k,bob",
        "ada:k/1",
        "ada:k:",
        "ada:k:root",
        "ada:k:Admin",
        "ada:k:user:user",
    ],
    "admin_show_text": ["maybe"],
    "chaos_drills": ["sometimes"],
    "ready_needs_worker": ["maybe"],
    "max_queued_jobs": ["0", "-1", "many", "1.5"],
    "max_jobs_per_user": ["0"],
    "outbox_bytes": ["0"],
    "device": ["gpu", "cuda:", "cuda:x", "CPU"],
    "dtype": ["int8", "fp16"],
    "quantization": ["int4", "auto"],
    "eager": ["maybe"],
    "speculate": ["on", "7"],
    "max_running": ["0"],
    "workers": ["0", "two"],
    "threads": ["-1"],
    "context_tokens": ["-1"],
    "kv_cache_tokens": ["-1", "1e3"],
    "kv_cache_dtype": ["fp16", "float8"],
    "engine_stall_s": ["0", "nan", "inf", "soon"],
    "beat_interval_s": ["0", "-0.1"],
    "lease_s": ["0"],
    "early_reap_s": ["-1", "inf"],
    "flush_interval_s": ["0"],
    "drain_s": ["-1", "nan"],
    "poison_deaths": ["1"],
    "queue_wait_s": ["0", "inf"],
    "run_limit_s": ["0"],
    "abandon_grace_s": ["0"],
    "park_limit_s": ["0", "1e9", "inf"],
    "max_unwritten_tokens": ["0", "many"],
    "keep_log_s": ["0"],
    "keep_summary_s": ["0"],
    "keep_conversation_s": ["0", "nan"],
    "metrics_port": ["-1", "65536", "any"],
    "prompt_format": ["Llama 2", "-"],
    "memory": ["long"],
    "requester_prefix": [" "],
    "replace_input": ["a:b", '["a", "b"]', '[["", "b"]]', '[["a"]]', '[["a", "b"], ["a", "c"]]', '[["a", 1]]'],
    "replace_output": ["null", '{"a": "b"}'],
}
# Any text is a value of these; what they name is checked where it is used.
FREE = {
    "model",
    "cache_dir",
    "data_dir",
    "host",
    "allowed_hosts",
    "allowed_origins",
    "engine",
    "metrics_host",
    "worker_slot",
    "system_prompt",
    "responder_prefix",
}


def variable(field: str) -> str:
    return f"EKIDEN_{field.upper()}"


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_with_its_variables_name(
    field: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable(field), value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(f"{variable(field)}: ")
    assert "\n" not in message


def test_every_setting_has_a_bad_value_or_takes_any_text() -> None:
    assert {*BAD, *FREE} >= set(Settings.model_fields)


def test_a_bad_key_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKIDEN_API_KEYS", "ada:hush hush")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("EKIDEN_API_KEY_", "EKIDEN_API_KEY"),
        ("EKIDEN_MODLE", "EKIDEN_MODEL"),
        ("EKIDEN_LEASE", "EKIDEN_LEASE_S"),
        ("EKIDEN_ZZZZZZZZ", None),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(
    name: str, near: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "hush")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    hint = f"; did you mean {near}?" if near else ""
    assert str(caught.value) == f"{name} is not a setting of Ekiden{hint}"


def test_other_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKIDEN_TEST_DATA", "somewhere")
    monkeypatch.setenv("MODEL", "other")
    assert load_settings().model == DEFAULT_MODEL


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = load_settings()
    for field in Settings.model_fields:
        monkeypatch.setenv(variable(field), "")
    assert load_settings() == defaults


def test_secrets_are_never_shown() -> None:
    settings = load_settings(api_keys="ada:hush-1,bob:hush_2")
    assert "hush" not in repr(load_settings(redis_url="redis://:hush@store:6379/0"))
    assert settings.api_keys[0].key.get_secret_value() == "hush-1"
    shown = [
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        repr(settings.model_dump()),
        f"{settings.api_keys}",
    ]
    assert not [text for text in shown if "hush" in text]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ada:k1", [("ada", "k1", "user")]),
        (" ada:k1 , bob:k2 ,", [("ada", "k1", "user"), ("bob", "k2", "user")]),
        ("ada:same,bob:same2", [("ada", "same", "user"), ("bob", "same2", "user")]),
        ("ada:k1:viewer,ada:k2:admin", [("ada", "k1", "viewer"), ("ada", "k2", "admin")]),
        (" , ", []),
        ("日本:k-1_", [("日本", "k-1_", "user")]),
    ],
)
def test_keys_are_of_a_user_and_a_role(
    text: str, keys: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKIDEN_API_KEYS", text)
    found = [(entry.user, entry.key.get_secret_value(), entry.role.value) for entry in load_settings().api_keys]
    assert found == keys


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKIDEN_ALLOWED_HOSTS", " a.example.com,, b.example.com ")
    assert load_settings().allowed_hosts == ("a.example.com", "b.example.com")


def test_replacements_are_json_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKIDEN_REPLACE_OUTPUT", '[["a", "b"], ["\\n", ""]]')
    assert load_settings().replace_output == (("a", "b"), ("\n", ""))


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (DEFAULT_MODEL, DEFAULT_MODEL),
        ("someone/Some-Model-7B", "someone/Some-Model-7B"),
        ("/models/llama-2-7b/", "llama-2-7b"),
        ("./models/../llama", "llama"),
        ("/models/Llama.Q4_1.gguf", "Llama.Q4_1"),
        ("~/models/v1.5", "v1.5"),
    ],
)
def test_a_model_is_named_by_its_hub_id_or_the_last_part_of_its_path(model: str, name: str) -> None:
    assert model_name(model) == name


def test_the_cache_is_in_the_users_home() -> None:
    assert load_settings().cache_dir == Path.home() / ".cache" / "ekiden"


def test_a_lease_shorter_than_two_beats_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^EKIDEN_LEASE_S must be at least twice EKIDEN_BEAT_INTERVAL_S$"):
        load_settings(lease_s=0.4)
