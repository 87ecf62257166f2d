"""A model with a hub id is fetched once, with progress and no pickles; what the hub refuses is one sentence."""

import os
import subprocess
import sys
from pathlib import Path

from ekiden.exit_codes import CONFIG
from tests.support.data import data_file
from tests.support.fake_hub import MODEL, fake_hub
from tests.support.processes import ROOT

NOWHERE = "http://127.0.0.1:9"


def fetch(model: str, home: Path, endpoint: str, **extra: str) -> tuple[int, list[str]]:
    """Run the fetch; exit status and what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "EKIDEN_"))}
    environment |= {"EKIDEN_MODEL": model, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), **extra}
    done = subprocess.run(
        [sys.executable, "-m", "ekiden_worker.fetch"],
        env=environment,
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout.splitlines()


def test_a_model_is_fetched_once_and_then_needs_no_hub(tmp_path: Path) -> None:
    with fake_hub(data_file("stories260K")) as hub:
        status, lines = fetch(MODEL, tmp_path, hub.url)
        assert status == 0, lines
        assert lines[0] == f"fetching {MODEL} from the hub (1 MiB) …"
        assert any(path.endswith("model.safetensors") for path in hub.asked)
    assert fetch(MODEL, tmp_path, NOWHERE) == (0, [])
    assert fetch(MODEL, tmp_path, NOWHERE, HF_HUB_OFFLINE="1") == (0, [])


def test_pickled_weights_are_not_fetched(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with fake_hub(source) as hub:
        status, lines = fetch(MODEL, tmp_path / "home", hub.url)
        assert status == CONFIG
        assert lines[-1] == f"The model {MODEL} has no weights as safetensors."
        assert not any(path.endswith(".bin") for path in hub.asked)


def test_an_unknown_model_and_a_silent_hub_are_one_sentence(tmp_path: Path) -> None:
    with fake_hub(tmp_path) as hub:
        status, lines = fetch("org/unknown", tmp_path, hub.url)
    assert status == CONFIG
    assert len(lines) == 1
    assert "org/unknown" in lines[0]
    status, lines = fetch("org/unknown", tmp_path, NOWHERE)
    assert status == CONFIG
    assert len(lines) == 1
    assert "org/unknown" in lines[0]
    status, lines = fetch("no such folder", tmp_path, NOWHERE)
    assert (status, len(lines)) == (CONFIG, 1)
